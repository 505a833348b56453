using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>One tensor of an open <see cref="SafeTensorsFile"/>: row-major, little-endian bytes, read or where the mapped file has them.</summary>
/// <remarks>Spans and addresses taken from it are valid until the file is disposed; the data may start at any byte address.</remarks>
public sealed class SafeTensor
{
    private readonly SafeTensorsFile _file;
    private readonly long _offset;
    private readonly long[] _shape;

    internal SafeTensor(SafeTensorsFile file, string name, SafeTensorType type, long[] shape, long offset, long sizeInBytes)
    {
        _file = file;
        _offset = offset;
        _shape = shape;
        Name = name;
        Type = type;
        SizeInBytes = sizeInBytes;
    }

    /// <summary>The name in the file, for instance <c>model.norm.weight</c>.</summary>
    public string Name { get; }

    /// <summary>The path of the file the tensor lies in.</summary>
    public string File => _file.Path;

    /// <summary>The element type.</summary>
    public SafeTensorType Type { get; }

    /// <summary>The lengths of the dimensions, outermost first; empty for a scalar.</summary>
    public ReadOnlySpan<long> Shape => _shape;

    /// <summary>The number of elements: the product of <see cref="Shape"/>.</summary>
    public long ElementCount => SizeInBytes / Type.SizeInBytes();

    /// <summary>The size in bytes; may exceed 2^31.</summary>
    public long SizeInBytes { get; }

    /// <summary>The file it lies in.</summary>
    internal SafeTensorsFile Source => _file;

    /// <summary>Where its first byte lies in the file.</summary>
    internal long FileOffset => _file.DataOffset + _offset;

    /// <summary>The address of the first byte, in memory that may only be read.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public unsafe nint Address => (nint)(_file.Data + _offset);

    /// <summary>All bytes of the tensor.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    /// <exception cref="InvalidOperationException">The tensor is larger than a span can be (2^31 - 1 bytes): use <see cref="Slice"/>.</exception>
    public ReadOnlySpan<byte> Bytes => SizeInBytes <= int.MaxValue
        ? Slice(0, (int)SizeInBytes)
        : throw new InvalidOperationException($"{this} is larger than a span can be: read it with {nameof(Slice)}.");

    /// <summary>The <paramref name="length"/> bytes from <paramref name="offset"/> on.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The range is not inside the tensor.</exception>
    public unsafe ReadOnlySpan<byte> Slice(long offset, int length)
    {
        byte* data = _file.Data;
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, SizeInBytes - length);
        return new ReadOnlySpan<byte>(data + _offset + offset, length);
    }

    /// <summary>Reads the bytes from <paramref name="offset"/> on; the file is not mapped for it.</summary>
    /// <param name="offset">The first byte, from the beginning of the tensor.</param>
    /// <param name="destination">As many are read as it has.</param>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The range is not inside the tensor.</exception>
    /// <exception cref="ModelFormatException">The file has become shorter, or cannot be read.</exception>
    public void Read(long offset, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, SizeInBytes - destination.Length);
        _file.Content.Read(destination, FileOffset + offset, CancellationToken.None);
    }

    /// <summary>All bytes of a small tensor, read.</summary>
    internal byte[] ReadAll()
    {
        var bytes = new byte[checked((int)SizeInBytes)];
        Read(0, bytes);
        return bytes;
    }

    /// <summary>All elements as <typeparamref name="T"/>, whose size must be the element size of <see cref="Type"/>.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    /// <exception cref="InvalidOperationException">The sizes differ, or the tensor is larger than a span can be.</exception>
    public ReadOnlySpan<T> As<T>() where T : unmanaged => Unsafe.SizeOf<T>() == Type.SizeInBytes()
        ? MemoryMarshal.Cast<byte, T>(Bytes)
        : throw new InvalidOperationException($"{this} cannot be read as {typeof(T).Name}, which has {Unsafe.SizeOf<T>()} bytes.");

    /// <summary>Name, type and shape, for instance <c>'lm_head.weight' (BF16 [1024, 256])</c>.</summary>
    public override string ToString() => $"'{Name}' ({Type.FormatName()} [{string.Join(", ", _shape)}])";
}
