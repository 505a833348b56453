using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Octet.Backends;

namespace Octet;

/// <summary>
/// Elements of one type on one device, as ops take them: an address, a shape, and a stride for each of up to <see cref="MaxRank"/>
/// dimensions. A view is a plain value: making one allocates nothing. It is of a <see cref="Tensor"/>, which owns the memory, or of memory
/// the caller keeps (<see cref="Borrow(Device, nint, DType, ReadOnlySpan{long})"/>). The default is no tensor: an argument that is left out.
/// </summary>
/// <remarks>
/// A view keeps its tensor's memory from the garbage collector, not from <see cref="Tensor.Dispose"/>: after that, what uses the view's
/// address throws <see cref="ObjectDisposedException"/>. Of borrowed memory nothing is known: using it after its end is undefined.
/// </remarks>
public readonly struct TensorView : IEquatable<TensorView>
{
    /// <summary>The most dimensions there are.</summary>
    public const int MaxRank = 4;

    private readonly Device? _device;       // null: no tensor
    private readonly BufferHandle? _buffer; // null: borrowed
    private readonly nint _address;
    private readonly Dimensions _shape;
    private readonly Dimensions _strides;

    /// <summary>Row-major elements without gaps; the size of the shape was checked.</summary>
    internal TensorView(Device device, DType type, BufferHandle? buffer, nint address, ReadOnlySpan<long> shape, bool isUnaligned = false)
    {
        (_device, DType, _buffer, _address, Rank, IsUnaligned) = (device, type, buffer, address, shape.Length, isUnaligned);
        shape.CopyTo(_shape);
        long stride = 1;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            _strides[i] = stride;
            stride *= Math.Max(shape[i], 1);
        }
    }

    private TensorView(in TensorView of, nint address, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides)
    {
        (_device, DType, _buffer, _address, Rank, IsUnaligned) = (of._device, of.DType, of._buffer, address, shape.Length, of.IsUnaligned);
        shape.CopyTo(_shape);
        strides.CopyTo(_strides);
    }

    /// <summary>Whether it is no tensor: the default, and what null converts to.</summary>
    public bool IsNull => _device is null;

    /// <summary>The device the elements are on.</summary>
    /// <exception cref="InvalidOperationException">It is no tensor.</exception>
    public Device Device => _device ?? throw new InvalidOperationException("no tensor is on no device");

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>Number of dimensions.</summary>
    public int Rank { get; }

    /// <summary>Whether it was borrowed by <see cref="BorrowUnaligned"/>, or is a part of such a view.</summary>
    public bool IsUnaligned { get; }

    /// <summary>Elements in each dimension.</summary>
    [UnscopedRef]
    public ReadOnlySpan<long> Shape => ((ReadOnlySpan<long>)_shape)[..Rank];

    /// <summary>Elements between neighbours in each dimension.</summary>
    [UnscopedRef]
    public ReadOnlySpan<long> Strides => ((ReadOnlySpan<long>)_strides)[..Rank];

    /// <summary>Number of elements; 0 of no tensor.</summary>
    public long ElementCount
    {
        get
        {
            long count = IsNull ? 0 : 1;
            foreach (var length in Shape)
            {
                count *= length;
            }

            return count;
        }
    }

    /// <summary>Bytes of the elements, without gaps between rows.</summary>
    public long SizeInBytes => ElementCount * DType.SizeInBytes();

    /// <summary>Whether the elements lie without gaps in row-major order.</summary>
    public bool IsContiguous
    {
        get
        {
            long stride = 1;
            for (var i = Rank - 1; i >= 0; i--)
            {
                if (_shape[i] > 1 && _strides[i] != stride)
                {
                    return ElementCount == 0;
                }

                stride *= _shape[i];
            }

            return true;
        }
    }

    /// <summary>Address of the first element on the device; 0 of no tensor.</summary>
    /// <exception cref="ObjectDisposedException">The tensor it is a view of is disposed.</exception>
    public nint Address => _buffer is { IsClosed: true } ? throw new ObjectDisposedException(ToString()) : _address;

    /// <summary>A view of memory the caller owns and keeps alive; it is never freed here.</summary>
    /// <param name="device">The device that can address the memory.</param>
    /// <param name="address">Address of the first element, aligned to 16 bytes for use by ops.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">Elements in each dimension, row-major without gaps.</param>
    /// <exception cref="ArgumentException">The address is 0, or the shape is none of a tensor.</exception>
    public static TensorView Borrow(Device device, nint address, DType type, params ReadOnlySpan<long> shape) =>
        new(device, type, null, CheckedAddress(device, address, type, shape), shape);

    /// <summary>A view of memory the caller owns and keeps alive, with gaps between rows; it is never freed here.</summary>
    /// <param name="device">The device that can address the memory.</param>
    /// <param name="address">Address of the first element, aligned to 16 bytes for use by ops.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">Elements in each dimension.</param>
    /// <param name="strides">Elements between neighbours in each dimension, not negative.</param>
    /// <exception cref="ArgumentException">The address is 0, the shape is none of a tensor, the strides are not one for each dimension, or one is negative.</exception>
    public static TensorView Borrow(Device device, nint address, DType type, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides)
    {
        var dense = Borrow(device, address, type, shape);
        if (strides.Length != shape.Length || strides.ContainsAnyInRange(long.MinValue, -1))
        {
            throw new ArgumentException($"strides {Text(strides)} must be {shape.Length} numbers, none negative", nameof(strides));
        }

        return new TensorView(dense, address, shape, strides);
    }

    /// <summary>
    /// A view of memory the caller owns and keeps alive that begins at any multiple of an element, as one in a mapped file does.
    /// Ops take it on devices that read the host's memory; elsewhere it is to be copied.
    /// </summary>
    /// <param name="device">A device with <see cref="DeviceProperties.SharesHostMemory"/>.</param>
    /// <param name="address">Address of the first element, a multiple of its size for use by ops.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">Elements in each dimension, row-major without gaps.</param>
    /// <exception cref="ArgumentException">The device does not share the host's memory, the address is 0, or the shape is none of a tensor.</exception>
    public static TensorView BorrowUnaligned(Device device, nint address, DType type, params ReadOnlySpan<long> shape)
    {
        var view = new TensorView(device, type, null, CheckedAddress(device, address, type, shape), shape, isUnaligned: true);
        return device.Properties.SharesHostMemory
            ? view
            : throw new ArgumentException($"{device.Name} does not read host memory where it lies: copy {view} to it", nameof(device));
    }

    /// <summary><paramref name="length"/> indices of one dimension from <paramref name="start"/>; the memory is shared.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range lies outside the dimension.</exception>
    public TensorView Slice(int dimension, long start, long length)
    {
        if (dimension < 0 || dimension >= Rank || start < 0 || length < 0 || start > _shape[dimension] - length)
        {
            throw new ArgumentOutOfRangeException(
                nameof(start), $"slice of dimension {dimension}, {start} to {start} + {length}, of {this}");
        }

        var shape = _shape;
        shape[dimension] = length;
        var address = Address + (nint)(start * _strides[dimension] * DType.SizeInBytes());
        return new TensorView(this, address, ((ReadOnlySpan<long>)shape)[..Rank], Strides);
    }

    /// <summary>The same elements in another shape; this view is contiguous.</summary>
    /// <exception cref="ArgumentException">Another number of elements, or not contiguous.</exception>
    public TensorView View(params ReadOnlySpan<long> shape)
    {
        if (IsNull || !IsContiguous || CheckedSize(DType, shape) != SizeInBytes)
        {
            throw new ArgumentException($"view of {this} as {Text(shape)}: must be contiguous, of as many elements");
        }

        return new TensorView(Device, DType, _buffer, Address, shape, IsUnaligned);
    }

    /// <summary>The last dimension cut in two: [..., outer * inner] as [..., outer, inner].</summary>
    /// <exception cref="ArgumentException">The last dimension is not contiguous, not outer * inner long, or there are four already.</exception>
    public TensorView SplitLast(long outer, long inner)
    {
        var last = Rank - 1;
        if (last is < 0 or >= MaxRank - 1 || outer < 0 || inner < 0 || _shape[last] != outer * inner
            || (_strides[last] != 1 && _shape[last] > 1))
        {
            throw new ArgumentException($"split of the last dimension of {this} into {outer} x {inner}");
        }

        var (shape, strides) = (_shape, _strides);
        (shape[last], shape[last + 1]) = (outer, inner);
        (strides[last], strides[last + 1]) = (inner, 1);
        return new TensorView(this, Address, ((ReadOnlySpan<long>)shape)[..(Rank + 1)], ((ReadOnlySpan<long>)strides)[..(Rank + 1)]);
    }

    /// <summary>The elements on the host, behind all work on the device's default stream.</summary>
    public T[] ToArray<T>() where T : unmanaged
    {
        var elements = new T[ElementCount];
        Device.Stream.Read<T>(this, elements);
        return elements;
    }

    /// <summary>Type, shape and device: "BFloat16[4, 128] on cpu".</summary>
    public override string ToString() => IsNull ? "no tensor" : $"{DType}{Text(Shape)} on {Device.Name}";

    /// <summary>Whether both are the same elements of the same memory, in the same shape.</summary>
    public bool Equals(TensorView other) =>
        _device == other._device && _buffer == other._buffer && _address == other._address && DType == other.DType
        && IsUnaligned == other.IsUnaligned && Shape.SequenceEqual(other.Shape) && Strides.SequenceEqual(other.Strides);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is TensorView other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_address, DType, Rank, ElementCount);

    /// <summary>Whether both are the same elements of the same memory, in the same shape.</summary>
    public static bool operator ==(in TensorView left, in TensorView right) => left.Equals(right);

    /// <summary>Whether they differ in memory, type or shape.</summary>
    public static bool operator !=(in TensorView left, in TensorView right) => !left.Equals(right);

    /// <summary>Bytes of a shape's elements; refuses what is none.</summary>
    internal static long CheckedSize(DType type, ReadOnlySpan<long> shape)
    {
        if (shape.Length > MaxRank)
        {
            throw new ArgumentException($"a tensor of shape {Text(shape)} has {shape.Length} dimensions, at most {MaxRank} are possible");
        }

        Int128 bytes = type.SizeInBytes();
        foreach (var length in shape)
        {
            if (length < 0)
            {
                throw new ArgumentException($"a tensor of shape {Text(shape)} has a negative dimension");
            }

            bytes *= length;
            if (bytes > long.MaxValue)
            {
                throw new ArgumentException($"a tensor {type}{Text(shape)} is larger than 2^63 bytes");
            }
        }

        return (long)bytes;
    }

    private static nint CheckedAddress(Device device, nint address, DType type, ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        return CheckedSize(type, shape) == 0 || address != 0
            ? address
            : throw new ArgumentException("a borrowed tensor needs an address that is not 0", nameof(address));
    }

    private static string Text(ReadOnlySpan<long> numbers) => $"[{string.Join(", ", numbers.ToArray())}]";

    [InlineArray(MaxRank)]
    private struct Dimensions
    {
        private long _first;
    }
}
