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

        var tensor = Tensor.Borrow(_device, _bytes.Address + (nint)_used, DTypes.Of<T>(), length);
        var array = new UploadArray<T>(tensor, _host, (int)(_used / Unsafe.SizeOf<T>()));
        _used += Aligned(size);
        return array;
    }

    /// <summary>Enqueues the copy; the host side may be written again once the stream was synchronised.</summary>
    public void Upload() => _device.Stream.CopyAsync(_bytes, _host);

    public void Dispose()
    {
        _bytes.Dispose();
        _host.Dispose();
    }

    private static long Aligned(long size) => (size + Alignment - 1) / Alignment * Alignment;
}

/// <summary>One array of an <see cref="UploadBuffer"/>: a host side to write and a device side that ops read.</summary>
internal sealed class UploadArray<T> where T : unmanaged
{
    private readonly Tensor _device;
    private readonly PinnedBuffer _host;
    private readonly int _first;
    private Tensor _view;

    public UploadArray(Tensor device, PinnedBuffer host, int first)
    {
        (_device, _host, _first) = (device, host, first);
        _view = device;
    }

    /// <summary>The host side.</summary>
    public Span<T> Host => _host.AsSpan<T>().Slice(_first, (int)_device.Shape[0]);

    /// <summary>The device side of the first elements; the same tensor for the same length as the last time.</summary>
    public Tensor First(int length) => _view = _view.Shape[0] == length ? _view : _device.Slice(0, 0, length);
}
