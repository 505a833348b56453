namespace Octet.Inference.Engine;

/// <summary>Memory that the ops of one stream, which run one after another, share; it only grows.</summary>
internal sealed class Workspace(Device device) : IDisposable
{
    private Tensor? _scratch;
    private Tensor? _partialSums;

    /// <summary>Counts the times the memory moved: what was recorded with another count points to memory that is gone.</summary>
    public int Moves { get; private set; }

    /// <summary>At least this many bytes for the inside of one op; no tensor where none are needed. Growing waits for the stream.</summary>
    public TensorView Take(long sizeInBytes) => sizeInBytes == 0 ? default : Grow(ref _scratch, sizeInBytes);

    /// <summary>[segments, rows, columns] f32 that one op leaves to the next, valid until it is asked for again.</summary>
    public TensorView PartialSums(long segments, long rows, long columns) =>
        TensorView.Borrow(device, Grow(ref _partialSums, segments * rows * columns * sizeof(float)).Address, DType.Float32, segments, rows, columns);

    /// <summary>Counts a move of other memory that recorded steps point to.</summary>
    public void NoteMove() => Moves++;

    public void Dispose()
    {
        _scratch?.Dispose();
        _partialSums?.Dispose();
    }

    private Tensor Grow(ref Tensor? bytes, long sizeInBytes)
    {
        if (bytes is null || bytes.SizeInBytes < sizeInBytes)
        {
            device.Stream.Synchronize();
            bytes?.Dispose();
            bytes = null;
            bytes = Tensor.Create(device, DType.Byte, sizeInBytes);
            Moves++;
        }

        return bytes;
    }
}
