namespace Octet.Inference.Engine;

/// <summary>Scratch memory for all ops of one stream, which run one after another; it only grows.</summary>
internal sealed class Workspace(Device device) : IDisposable
{
    private Tensor? _bytes;

    /// <summary>Counts the times the memory moved: what was recorded with another count points to memory that is gone.</summary>
    public int Moves { get; private set; }

    /// <summary>At least this many bytes; null where none are needed. Growing waits for the stream.</summary>
    public Tensor? Take(long sizeInBytes)
    {
        if (sizeInBytes > (_bytes?.SizeInBytes ?? 0))
        {
            device.Stream.Synchronize();
            _bytes?.Dispose();
            _bytes = null;
            _bytes = Tensor.Create(device, DType.Byte, sizeInBytes);
            Moves++;
        }

        return _bytes;
    }

    public void Dispose() => _bytes?.Dispose();
}
