using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Tests.Inference.Loading;

/// <summary>What the ranks of Qwen3-235B-A22B-Instruct-2507-FP8 read and keep, counted on a checkpoint of its names and shapes.</summary>
public sealed class TargetLoadingTests
{
    // A valid code, scale and BF16 weight alike.
    private const byte Filling = 0x3C;

    [Theory]
    [InlineData(2, 2, 118.2)]
    [InlineData(4, 4, 59.2)]
    [InlineData(8, 8, 29.7)]
    public void A_rank_of_the_target_model_keeps_its_share_and_reads_at_most_2_percent_more(int tp, int ep, double gigabytes)
    {
        using var target = new TargetCheckpoint();
        using var device = Device.Open("cpu:fnuz");
        using var files = CheckpointFiles.Open(target.Folder);
        var config = ModelConfig.Load(target.Folder);
        Assert.InRange(files.SizeInBytes, 236.2e9, 236.6e9);
        for (var rank = 0; rank < tp; rank++)
        {
            var bytes = ModelRegistry.Measure(files, config, new Sharding(rank, tp, ep), device);
            Assert.InRange(bytes.BytesKept, (gigabytes - 0.1) * 1e9, (gigabytes + 0.1) * 1e9);
            Assert.InRange(bytes.BytesRead, bytes.BytesKept * 0.99, bytes.BytesKept * 1.02);
        }
    }

    [Fact]
    public void What_was_planned_is_what_is_read_nearly_all_of_it_in_reads_of_4_mebibytes_or_more()
    {
        using var target = new TargetCheckpoint();
        using var device = Device.Open("cpu:fnuz");
        var watched = new WatchedFiles { Constant = path => (target.DataOffsets[path], Filling) };
        using var files = CheckpointFiles.Open(target.Folder, watched);
        var config = ModelConfig.Load(target.Folder);
        var rank = new Sharding(3, 4, 4);
        var planned = ModelRegistry.Measure(files, config, rank, device);
        var headers = watched.BytesRead;
        watched.Ranges.Clear();
        using var loaded = ModelRegistry.Load(files, config, rank, device, new() { Drops = true });
        Assert.Equal(planned, loaded.Loaded);
        Assert.Equal(planned.BytesRead, watched.BytesRead - headers);
        Assert.InRange(planned.BytesRead, planned.BytesKept * 0.99, planned.BytesKept * 1.02);

        // But for runs of the output projection, nearly all comes in large reads.
        Assert.True(watched.Ranges.Where(range => range.Length >= 4 << 20).Sum(range => (long)range.Length) > planned.BytesRead * 0.97);
        Assert.All(watched.Ranges, range => Assert.InRange(range.Length, 1, ReadPlan.WindowBytes));
    }
}
