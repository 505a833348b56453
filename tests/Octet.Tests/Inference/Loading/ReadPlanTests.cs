using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public sealed class ReadPlanTests : IDisposable
{
    private const int Window = ReadPlan.WindowBytes;

    private readonly ModelDirectory _directory = new();
    private readonly CheckpointFile _a;
    private readonly CheckpointFile _b;

    public ReadPlanTests()
    {
        _a = CheckpointFile.Open(DiskFiles.Instance, _directory.Write("a", "a"));
        _b = CheckpointFile.Open(DiskFiles.Instance, _directory.Write("b", "b"));
    }

    public void Dispose()
    {
        _a.Dispose();
        _b.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public void Ranges_are_read_by_file_and_offset_and_neighbours_together()
    {
        ReadRange[] ranges = [At(_b, 0, 10), At(_a, 5000, 100), At(_a, 0, 10), At(_a, 10, 20), At(_a, 100, 50)];
        Array.Sort(ranges, ReadPlan.Compare);
        var windows = ReadPlan.Windows(ranges);
        Assert.Equal([(0, 4), (4, 1)], windows.Select(window => (window.First, window.Count)));

        // 70 bytes between two of them are read along, 4,850 are not.
        Assert.Equal([new(0, 150, 0), new(5000, 100, 150)], windows[0].Reads);
        Assert.Equal([new(0, 10, 0)], windows[1].Reads);
        Assert.Equal(250, windows[0].SizeInBytes);
    }

    [Theory]
    [InlineData(4095, 1)]
    [InlineData(4096, 2)]
    public void A_gap_of_less_than_a_page_is_read_along(int gap, int reads) =>
        Assert.Equal(reads, ReadPlan.Windows([At(_a, 0, 10), At(_a, 10 + gap, 10)])[0].Reads.Length);

    [Fact]
    public void Windows_are_filled_up_to_their_size_and_a_larger_range_has_one_of_its_own()
    {
        const int Expert = 6 << 20;
        ReadRange[] ranges = [.. Enumerable.Range(0, 5).Select(i => At(_a, (long)i * Expert, Expert)), At(_a, 5L * Expert, Window + 1)];
        var windows = ReadPlan.Windows(ranges);
        Assert.Equal([2, 2, 1, 1], windows.Select(window => window.Count));
        Assert.All(windows, window => Assert.Single(window.Reads));
        Assert.Equal([2 * Expert, 2 * Expert, Expert, Window + 1], windows.Select(window => window.SizeInBytes));
    }

    [Theory]
    [InlineData(2048, 8192, 100)] // columns of a quarter of the output projection: each run by itself
    [InlineData(4096, 8192, 100)]
    [InlineData(4097, 8192, 1)]
    [InlineData(100, 300, 1)]
    public void Runs_are_read_apart_where_that_is_cheaper(int length, int stride, int reads)
    {
        var range = new ReadRange(_a, 77, length, 100, stride);
        var window = Assert.Single(ReadPlan.Windows([range]));
        Assert.Equal(reads, window.Reads.Length);
        Assert.Equal(range.ReadInBytes, window.SizeInBytes);
        Assert.Equal(reads == 1 ? (99 * stride) + length : 100 * length, window.SizeInBytes);
    }

    [Fact]
    public unsafe void Ranges_that_lie_in_each_other_are_read_once_and_found_again()
    {
        // Gate and up of an expert that lie transposed: rows of one and of the other in turn.
        const int Rows = 50, Length = 6000;
        var content = new byte[2 * Rows * Length];
        new Random(2).NextBytes(content);
        ReadRange[] ranges = [new(_a, 1000, Length, Rows, 2 * Length), new(_a, 1000 + Length, Length, Rows, 2 * Length)];
        var window = Assert.Single(ReadPlan.Windows(ranges));
        Assert.Equal([new(1000, content.Length, 0)], window.Reads);
        fixed (byte* buffer = content)
        {
            for (var i = 0; i < 2; i++)
            {
                var bytes = new WindowBytes(buffer, window.Reads, ranges[i]);
                Assert.Null(bytes.PackedPosition);
                Assert.Equal(content[((2 * 7 * Length) + (i * Length) + 3)..][..20], bytes.At((7 * 2 * Length) + 3, 20).ToArray());
            }
        }
    }

    private static ReadRange At(CheckpointFile file, long offset, long length) => new(file, offset, length, 1, length);
}
