namespace Octet.Inference.Loading;

/// <summary>Two pinned buffers that are filled and copied to the device in turn: one is read from the file while the other is on its way.</summary>
internal sealed class StagingBuffers(Device device) : IDisposable
{
    /// <summary>Bytes of each.</summary>
    public const int SizeInBytes = 16 << 20;

    private readonly PinnedBuffer?[] _buffers = new PinnedBuffer?[2];
    private readonly DeviceEvent?[] _copied = new DeviceEvent?[2];
    private int _current;

    /// <summary>The next buffer, to be filled from its beginning, once the copies from it are done.</summary>
    public Span<byte> Take()
    {
        _current = 1 - _current;
        _copied[_current]?.Synchronize();
        var buffer = _buffers[_current] ??= new PinnedBuffer(device, SizeInBytes);
        return buffer.AsSpan<byte>();
    }

    /// <summary>Enqueues the copy of the beginning of the buffer that was taken last.</summary>
    /// <param name="destination">As many bytes are copied as it has.</param>
    public void Copy(TensorView destination)
    {
        device.Stream.CopyAsync(destination, _buffers[_current]!);
        (_copied[_current] ??= device.CreateEvent()).Record(device.Stream);
    }

    /// <summary>Waits for the copies and frees the buffers.</summary>
    public void Dispose()
    {
        if (Array.Exists(_copied, copied => copied is not null))
        {
            device.Stream.Synchronize();
        }

        for (var i = 0; i < _buffers.Length; i++)
        {
            _copied[i]?.Dispose();
            _buffers[i]?.Dispose();
        }
    }
}
