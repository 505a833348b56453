using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public sealed class CheckpointFileTests : IDisposable
{
    private const int Size = 10_000;

    private readonly ModelDirectory _directory = new();
    private readonly byte[] _content = new byte[Size];
    private readonly string _path;

    public CheckpointFileTests()
    {
        new Random(1).NextBytes(_content);
        _path = _directory.Write("content.bin", _content);
    }

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Short_reads_are_continued_and_interrupted_ones_made_again()
    {
        var files = new WatchedFiles
        {
            OnRead = (read, _, _, length) => read % 3 == 1 ? throw new IOException("interrupted", read % 2 == 0 ? 4 : 11) : Math.Min(length, 1 + (read * 7 % 100)),
        };
        using var file = CheckpointFile.Open(files, _path);
        var bytes = new byte[Size - 1000];
        file.Read(bytes, 500, CancellationToken.None);
        Assert.Equal(_content[500..(Size - 500)], bytes);
        Assert.Equal(bytes.Length, file.BytesRead);
        Assert.True(files.Reads > 100);
    }

    [Fact]
    public void A_file_that_ends_early_is_refused_with_offset_and_sizes()
    {
        using var file = CheckpointFile.Open(DiskFiles.Instance, _path);
        using (var shorter = new FileStream(_path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            shorter.SetLength(7000);
        }

        var message = Assert.Throws<ModelFormatException>(() => file.Read(new byte[4096], 4000, CancellationToken.None)).Message;
        Assert.Equal(
            $"{_path}: ends at offset 7000: 4096 bytes from offset 4000 on were wanted and 3000 are there; it had {Size} bytes when it was opened; fetch it again", message);
        Assert.Contains($"had {Size} bytes", Assert.Throws<ModelFormatException>(file.RequireUnchanged).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_read_that_fails_is_refused_with_offset_and_reason()
    {
        var files = new WatchedFiles { OnRead = (read, _, _, length) => read == 1 ? throw new IOException("Input/output error", 5) : Math.Min(length, 100) };
        using var file = CheckpointFile.Open(files, _path);
        var message = Assert.Throws<ModelFormatException>(() => file.Read(new byte[500], 60, CancellationToken.None)).Message;
        Assert.Equal($"{_path}: cannot be read: 500 bytes from offset 60 on were wanted, after 100 of them: Input/output error", message);
    }

    [Fact]
    public void A_file_that_is_interrupted_for_ever_is_given_up()
    {
        var files = new WatchedFiles { OnRead = (_, _, _, _) => throw new IOException("Interrupted system call", 4) };
        using var file = CheckpointFile.Open(files, _path);
        Assert.Contains("Interrupted", Assert.Throws<ModelFormatException>(() => file.Read(new byte[1], 0, CancellationToken.None)).Message, StringComparison.Ordinal);
        Assert.Equal(1000, files.Reads);
    }

    [Fact]
    public void A_file_that_was_changed_is_refused_with_both_states()
    {
        var files = new WatchedFiles();
        using var file = CheckpointFile.Open(files, _path);
        file.RequireUnchanged();
        files.WrittenNow = (_, time) => time.AddSeconds(1);
        Assert.Contains("was changed while it was loaded", Assert.Throws<ModelFormatException>(file.RequireUnchanged).Message, StringComparison.Ordinal);
        files.WrittenNow = (_, time) => time;
        files.LengthNow = (_, length) => length + 1;
        Assert.Contains($"has {Size + 1}", Assert.Throws<ModelFormatException>(file.RequireUnchanged).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Reading_stops_between_two_reads()
    {
        using var stop = new CancellationTokenSource();
        var files = new WatchedFiles
        {
            OnRead = (read, _, _, length) =>
            {
                if (read == 2)
                {
                    stop.Cancel();
                }

                return Math.Min(length, 10);
            },
        };
        using var file = CheckpointFile.Open(files, _path);
        Assert.Throws<OperationCanceledException>(() => file.Read(new byte[1000], 0, stop.Token));
        Assert.Equal(3, files.Reads);
    }
}
