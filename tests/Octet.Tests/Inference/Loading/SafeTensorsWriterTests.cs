using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public sealed class SafeTensorsWriterTests : IDisposable
{
    private readonly ModelDirectory _directory = new();

    private string Target => Path.Combine(_directory.Path, "out.safetensors");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Committed_file_reads_back_the_same()
    {
        float[] logits = [1, -2, 3.5f, 0, float.NaN, 6];
        using (SafeTensorsWriter writer = SafeTensorsWriter.Create(
            Target,
            [new("logits \"quoted\" é", SafeTensorType.Float32, 2, 3), new("empty", SafeTensorType.Int64, 0), new("ids", SafeTensorType.Int32, 2)],
            new Dictionary<string, string> { ["made by"] = "a test" }))
        {
            writer.Write<float>(logits.AsSpan(0, 3));
            writer.Write<float>(logits.AsSpan(3));
            writer.Write<int>([7, 8]);
            writer.Commit();
        }
        using SafeTensorsFile file = SafeTensorsFile.Open(Target);
        Assert.Equal(logits, file["logits \"quoted\" é"].As<float>());
        Assert.Equal([2L, 3L], file["logits \"quoted\" é"].Shape);
        Assert.Equal([7, 8], file["ids"].As<int>());
        Assert.Equal("a test", file.Metadata["made by"]);
        Assert.Equal(0, file["ids"].Address % 4);
    }

    [Fact]
    public void Nothing_is_left_without_a_commit()
    {
        using (SafeTensorsWriter writer = SafeTensorsWriter.Create(Target, [new("a", SafeTensorType.UInt8, 2)]))
        {
            writer.Write<byte>([1, 2]);
        }
        Assert.Empty(Directory.EnumerateFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Older_file_stays_until_the_commit_replaces_it()
    {
        File.WriteAllText(Target, "old");
        using SafeTensorsWriter writer = SafeTensorsWriter.Create(Target, [new("a", SafeTensorType.UInt8, 1)]);
        writer.Write<byte>([5]);
        Assert.Equal("old", File.ReadAllText(Target));
        writer.Commit();
        using SafeTensorsFile file = SafeTensorsFile.Open(Target);
        Assert.Equal((byte[])[5], file["a"].Bytes.ToArray());
        Assert.Single(Directory.EnumerateFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Too_many_and_too_few_bytes_are_refused()
    {
        using SafeTensorsWriter writer = SafeTensorsWriter.Create(Target, [new("a", SafeTensorType.Int16, 2)]);
        writer.Write<byte>([1, 2]);
        Assert.Contains("2 of 4 bytes", Assert.Throws<InvalidOperationException>(writer.Commit).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => writer.Write<byte>([1, 2, 3]));
    }

    [Fact]
    public void Repeated_names_and_impossible_shapes_are_refused()
    {
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Create(Target, [new("a", SafeTensorType.UInt8, 1), new("a", SafeTensorType.UInt8, 1)]));
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Create(Target, [new("__metadata__", SafeTensorType.UInt8, 1)]));
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Create(Target, [new("a", SafeTensorType.UInt8, -1)]));
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Create(Target, [new("a", SafeTensorType.Int64, long.MaxValue, 4)]));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Missing_directory_is_an_io_error()
    {
        Assert.ThrowsAny<IOException>(() => SafeTensorsWriter.Create(Path.Combine(_directory.Path, "absent", "f"), []));
    }

    [Fact]
    public void What_is_no_file_is_not_replaced()
    {
        Assert.ThrowsAny<IOException>(() => SafeTensorsWriter.Create(_directory.Path, []));
        Assert.ThrowsAny<IOException>(() => SafeTensorsWriter.Create(Target + "/", []));
        if (!OperatingSystem.IsWindows())
        {
            // CheckTarget alone: were it wrong, the writer would replace the device.
            Assert.Contains("/dev/full: is not a regular file", Assert.ThrowsAny<IOException>(() => SafeTensorsWriter.CheckTarget("/dev/full")).Message, StringComparison.Ordinal);
        }
        File.WriteAllBytes(Target, []);
        SafeTensorsWriter.CheckTarget(Target);
    }

    [Fact]
    public void Writing_after_dispose_throws()
    {
        SafeTensorsWriter writer = SafeTensorsWriter.Create(Target, []);
        writer.Dispose();
        writer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => writer.Write<byte>([]));
        Assert.Throws<ObjectDisposedException>(writer.Commit);
    }
}
