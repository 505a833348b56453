using System.IO.MemoryMappedFiles;

namespace Octet.Inference.Loading;

/// <summary>
/// A file that is read to the byte: short reads are continued, reads that a signal broke off are made again, and a file that ends early or
/// has changed is refused. Any number of threads may read at once.
/// </summary>
internal sealed class CheckpointFile : IDisposable
{
    // errno of a call that a signal broke off, or that is to be made again; .NET has them in HResult.
    private const int Interrupted = 4;
    private const int TryAgain = 11;
    private const int MostInterruptions = 1000;

    private readonly IFileReader _reader;
    private readonly DateTime _lastWrite;
    private long _bytesRead;

    private CheckpointFile(string path, IFileReader reader, bool isRemote)
    {
        (Path, _reader, IsRemote) = (path, reader, isRemote);
        (Length, _lastWrite) = (reader.Length, reader.LastWrite);
    }

    /// <summary>The path it was opened with.</summary>
    public string Path { get; }

    /// <summary>The size in bytes when it was opened.</summary>
    public long Length { get; }

    /// <summary>Whether it lies on a network file system and is not to be mapped.</summary>
    public bool IsRemote { get; }

    /// <summary>Bytes read so far.</summary>
    public long BytesRead => Interlocked.Read(ref _bytesRead);

    /// <summary>Opens a file.</summary>
    public static CheckpointFile Open(IFileSource files, string path)
    {
        var reader = files.Open(path);
        try
        {
            return new CheckpointFile(path, reader, files.IsRemote(path));
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>Fills <paramref name="destination"/> with the bytes from <paramref name="offset"/> on.</summary>
    /// <exception cref="ModelFormatException">The file ends before, or cannot be read; the message has file, offset and sizes.</exception>
    /// <exception cref="OperationCanceledException">Between two reads of the system.</exception>
    public void Read(Span<byte> destination, long offset, CancellationToken cancellation)
    {
        var (got, interruptions) = (0, 0);
        while (got < destination.Length)
        {
            cancellation.ThrowIfCancellationRequested();
            int count;
            try
            {
                count = _reader.Read(destination[got..], offset + got);
            }
            catch (IOException cause) when (cause.HResult is Interrupted or TryAgain && ++interruptions < MostInterruptions)
            {
                continue;
            }
            catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
            {
                throw new ModelFormatException(
                    $"{Path}: cannot be read: {destination.Length} bytes from offset {offset} on were wanted, after {got} of them: {cause.Message}", cause);
            }

            if (count <= 0)
            {
                throw new ModelFormatException(
                    $"{Path}: ends at offset {offset + got}: {destination.Length} bytes from offset {offset} on were wanted and {got} are there; it had {Length} bytes when it was opened; fetch it again");
            }

            (got, interruptions) = (got + count, 0);
            Interlocked.Add(ref _bytesRead, count);
        }
    }

    /// <summary>Refuses a file that is not the one that was opened: what was read of it may be of two states.</summary>
    /// <exception cref="ModelFormatException">Its size or its time of writing is another.</exception>
    public void RequireUnchanged()
    {
        var (length, lastWrite) = (_reader.Length, _reader.LastWrite);
        if (length != Length || lastWrite != _lastWrite)
        {
            throw new ModelFormatException(
                $"{Path}: was changed while it was loaded: it had {Length} bytes, written {_lastWrite:O}, and has {length}, written {lastWrite:O}; load it again once it is complete");
        }
    }

    /// <summary>Maps the whole file.</summary>
    public MemoryMappedFile Map() => _reader.Map();

    public void Dispose() => _reader.Dispose();
}
