using System.Text.Json;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Cli;

/// <summary>octet load, as a process.</summary>
public sealed class LoadCommandTests
{
    [Fact]
    public async Task Each_rank_reports_what_it_read_and_kept()
    {
        var (code, output, error) = await OctetProcess.Run(["load", "--tp", "2", "--ep", "2", "--device", "cpu:fnuz*2", "--json"]);
        Assert.Equal((0, ""), (code, error));
        using var json = JsonDocument.Parse(output);
        var root = json.RootElement;
        var checkpoint = root.GetProperty("checkpoint_bytes").GetInt64();
        var ranks = root.GetProperty("ranks").EnumerateArray().ToArray();
        Assert.Equal([0, 1], ranks.Select(rank => rank.GetProperty("rank").GetInt32()));
        Assert.Equal((2, 2, false), (root.GetProperty("tp").GetInt32(), root.GetProperty("ep").GetInt32(), root.GetProperty("dry_run").GetBoolean()));
        foreach (var rank in ranks)
        {
            Assert.Equal("cpu:fnuz", rank.GetProperty("device").GetString());
            Assert.InRange(rank.GetProperty("bytes_kept").GetInt64(), checkpoint / 2, checkpoint * 6 / 10);
            Assert.InRange(rank.GetProperty("bytes_read").GetInt64(), checkpoint / 2, checkpoint * 7 / 10);
            Assert.True(rank.GetProperty("seconds").GetDouble() > 0);
            Assert.True(rank.TryGetProperty("gb_per_second", out _));
        }

        Assert.InRange(root.GetProperty("bytes_read").GetInt64(), checkpoint, checkpoint * 14 / 10);
    }

    [Fact]
    public async Task A_dry_run_of_one_rank_needs_one_device_and_says_so_in_lines()
    {
        var (code, output, error) = await OctetProcess.Run(["load", "--tp", "4", "--rank", "3", "--dry-run", "--device", "cpu"]);
        Assert.Equal((0, ""), (code, error));
        var lines = output.TrimEnd().Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.StartsWith("rank 3 of 4 on cpu: read ", lines[0], StringComparison.Ordinal);
        Assert.Contains(", would keep ", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("tp 4, ep 4: checkpoint 8.95 MB, read ", lines[1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--tp is '3', expected 1, 2, 4 or 8.", "--tp", "3")]
    [InlineData("4 query heads do not divide evenly over tp 8", "--tp", "8", "--dry-run")]
    [InlineData("rank is 2, expected 0 to 1", "--tp", "2", "--rank", "2")]
    [InlineData("ep is 4, expected 1, 2, 4 or 8 and a divisor of tp 2", "--tp", "2", "--ep", "4")]
    [InlineData("--device cpu is 1 of the 2 devices that --tp 2 needs", "--tp", "2")]
    [InlineData("no-such-folder", "--model", "no-such-folder")]
    public async Task What_cannot_be_loaded_is_refused_in_one_line(string message, params string[] arguments)
    {
        var (code, output, error) = await OctetProcess.Run(["load", "--device", "cpu", .. arguments]);
        Assert.Equal((2, ""), (code, output));
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.Single(error.TrimEnd().Split('\n'));
    }

    [Fact]
    public async Task A_damaged_checkpoint_is_told_with_file_and_position()
    {
        using var copy = new CheckpointCopy();
        copy.Set("model.layers.1.mlp.experts.3.up_proj.weight", 77, (byte)0x7F);
        var (code, _, error) = await OctetProcess.Run(["load", "--model", copy.Write(), "--tp", "2", "--dry-run", "--device", "cpu"]);
        Assert.Equal(2, code);
        Assert.Contains("experts.3.up_proj.weight' (F8_E4M3 [128, 256]) holds the FP8 NaN 0x7f at position 77", error, StringComparison.Ordinal);
    }
}
