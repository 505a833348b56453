using System.Runtime.CompilerServices;

namespace Octet.Inference.Engine;

/// <summary>Small arrays that every step brings to the device, side by side, so that one copy from pinned memory brings them all.</summary>
internal sealed class UploadBuffer : IDisposable
{
    // Ops want tensors to begin at a multiple of 16 bytes.
    private const int Alignment = 16;

    private readonly Device _device;
    private readonly Tensor _bytes;
    private readonly PinnedBuffer _host;
    private long _used;

    /// <summary>Allocates room for arrays of these lengths in bytes, in the order they will be added.</summary>
    public UploadBuffer(Device device, params ReadOnlySpan<long> sizesInBytes)
    {
        long total = 0;
        foreach (var size in sizesInBytes)
        {
            total += Aligned(size);
        }

        _device = device;
        _bytes = Tensor.Create(device, DType.Byte, total);
        try
        {
            _host = new PinnedBuffer(device, total);
            _host.AsSpan<byte>().Clear();
        }
        catch
        {
            _bytes.Dispose();
            throw;
        }
    }

    /// <summary>The next array.</summary>
    public UploadArray<T> Add<T>(int length) where T : unmanaged
    {
        var size = length * (long)Unsafe.SizeOf<T>();
        if (_used + size > _bytes.SizeInBytes)
        {
            throw new ArgumentException($"{size} bytes after {_used} of {_bytes.SizeInBytes}");
        }

        var array = new UploadArray<T>(TensorView.Borrow(_device, _bytes.Address + (nint)_used, DTypes.Of<T>(), length), _host, _used);
        _used += Aligned(size);
        return array;
    }

    /// <summary>Enqueues the copy of everything up to some elements of an array; the host side may be written again once the stream was synchronised.</summary>
    /// <param name="last">The last array of which something is needed.</param>
    /// <param name="elements">Its elements that are.</param>
    public void Upload<T>(UploadArray<T> last, long elements) where T : unmanaged
    {
        var sizeInBytes = last.Offset + elements * Unsafe.SizeOf<T>();
        _device.Stream.CopyAsync(_bytes.Slice(0, 0, sizeInBytes), _host);
    }

    public void Dispose()
    {
        _bytes.Dispose();
        _host.Dispose();
    }

    private static long Aligned(long size) => (size + Alignment - 1) / Alignment * Alignment;
}

/// <summary>One array of an <see cref="UploadBuffer"/>: a host side to write and a device side that ops read.</summary>
/// <param name="device">The device side.</param>
/// <param name="host">The buffer's host side.</param>
/// <param name="offset">Bytes of the buffer before it.</param>
internal sealed class UploadArray<T>(TensorView device, PinnedBuffer host, long offset) where T : unmanaged
{
    /// <summary>Bytes of the buffer before it.</summary>
    public long Offset => offset;

    /// <summary>The host side.</summary>
    public Span<T> Host => host.AsSpan<T>().Slice((int)(offset / Unsafe.SizeOf<T>()), (int)All.Shape[0]);

    /// <summary>The device side.</summary>
    public TensorView All { get; } = device;

    /// <summary>The device side of the first elements.</summary>
    public TensorView First(int length) => All.Slice(0, 0, length);
}
