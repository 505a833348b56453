using System.Globalization;
using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Planning;

/// <summary>What collectives are modelled to take, beside what is published of others.</summary>
public sealed class CollectiveModelTests
{
    private static readonly Hardware Mi325X = Hardware.Find("mi325x");

    [Fact]
    public void One_rank_waits_for_nobody()
    {
        var alone = new CollectiveModel(1, 46);
        Assert.Equal((0, 0, 0), (alone.GroupSync, alone.Gather(1e6), alone.AllReduce(1e6)));
    }

    [Fact]
    public void A_gather_takes_a_request_and_the_bytes_of_one_peer_over_one_link()
    {
        // 5,600 tokens of 4,096 FP8 codes and 32 scales on four ranks.
        var bytes = 5600 / 4 * (4096 + (32 * 4));
        Assert.Equal(1 + (bytes / 46e3), new CollectiveModel(4, 46).Gather(bytes), 9);
        Assert.InRange(new CollectiveModel(4, 46).Gather(bytes), 129, 130);
    }

    [Fact]
    public void The_document_has_the_modelled_times_beside_the_published_ones()
    {
        var table = File.ReadAllLines(Path.Combine(TinyModel.Directory, "..", "..", "..", "docs", "parallel.md"))
            .SkipWhile(line => !line.StartsWith("| all-reduce", StringComparison.Ordinal)).Skip(2).TakeWhile(line => line.StartsWith('|')).ToArray();
        var model = new CollectiveModel(8, Mi325X.LinkGBPerSecond);
        (string Name, int Bytes)[] sizes = [("8 KB", 8 << 10), ("64 KB", 64 << 10), ("512 KB", 512 << 10), ("1 MB", 1 << 20), ("4 MB", 4 << 20), ("16 MB", 16 << 20), ("64 MB", 64 << 20)];
        Assert.Equal(
            sizes.Select(s => string.Create(CultureInfo.InvariantCulture, $"| {s.Name} | {model.AllReduce(s.Bytes):F1} | {Mi325X.AllReduceMs(8, s.Bytes) * 1e3:F1} |")),
            table);
    }
}
