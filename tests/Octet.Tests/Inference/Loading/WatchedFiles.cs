using System.IO.MemoryMappedFiles;
using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

/// <summary>The disk's files, with every read counted, and made shorter, later or wrong where a test wants it.</summary>
internal sealed class WatchedFiles : IFileSource
{
    private readonly Lock _lock = new();
    private int _reads;
    private int _open;
    private int _maps;
    private long _bytes;

    /// <summary>Told of each read before it is made: its number from 0, file, offset and length; gives how many bytes may be read at most, or throws.</summary>
    public Func<int, string, long, int, int> OnRead { get; init; } = (_, _, _, length) => length;

    /// <summary>From this offset on, every byte is this one and nothing is read from the disk.</summary>
    public Func<string, (long Offset, byte Value)>? Constant { get; init; }

    /// <summary>The size a file has now, from its real one.</summary>
    public Func<string, long, long> LengthNow { get; set; } = (_, length) => length;

    /// <summary>When it was written, from the real time.</summary>
    public Func<string, DateTime, DateTime> WrittenNow { get; set; } = (_, time) => time;

    /// <summary>Whether all files are on a network file system.</summary>
    public bool AreRemote { get; init; }

    public int Reads => _reads;

    /// <summary>Files that are not closed.</summary>
    public int StillOpen => _open;

    public int Maps => _maps;

    public long BytesRead => Interlocked.Read(ref _bytes);

    /// <summary>Every read: file, offset and bytes that were read.</summary>
    public List<(string Path, long Offset, int Length)> Ranges { get; } = [];

    public IFileReader Open(string path)
    {
        Interlocked.Increment(ref _open);
        return new Reader(this, path, DiskFiles.Instance.Open(path));
    }

    public bool IsRemote(string path) => AreRemote;

    private sealed class Reader(WatchedFiles files, string path, IFileReader inner) : IFileReader
    {
        private int _closed;

        public long Length => files.LengthNow(path, inner.Length);

        public DateTime LastWrite => files.WrittenNow(path, inner.LastWrite);

        public int Read(Span<byte> destination, long offset)
        {
            var most = files.OnRead(Interlocked.Increment(ref files._reads) - 1, path, offset, destination.Length);
            var count = Math.Min(most, destination.Length);
            if (files.Constant?.Invoke(path) is { } constant && offset >= constant.Offset)
            {
                destination[..count].Fill(constant.Value);
            }
            else
            {
                count = count == 0 ? 0 : inner.Read(destination[..count], offset);
            }

            Interlocked.Add(ref files._bytes, count);
            lock (files._lock)
            {
                files.Ranges.Add((path, offset, count));
            }

            return count;
        }

        public MemoryMappedFile Map()
        {
            Interlocked.Increment(ref files._maps);
            return inner.Map();
        }

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _closed, 1) == 0)
            {
                Interlocked.Decrement(ref files._open);
            }

            inner.Dispose();
        }
    }
}
