using Octet.Tests.Cli;

namespace Octet.Tests.Inference.Models;

/// <summary>A step of decode is the launches that docs/decode-step.md lists, and no other.</summary>
public sealed class DecodeLaunchesTests
{
    // Of the small model, whose projections do not split K, and whose few experts gate_up cuts narrow.
    private static readonly string[] s_layer =
    [
        "norm", "gemm", "rope", "attention_decode", "attention_combine", "gemm", "norm", "gemm", "moe_route", "moe_gate_up", "moe_gate_up_quantize", "moe_down",
    ];

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    public async Task Twelve_launches_a_layer_and_four_beside_them(int texts)
    {
        var (code, _, trace) = await OctetProcess.Run(
            ["generate", "--device", "sim", "--prompt", "R", "--max-tokens", "2", "--n", $"{texts}", "--temperature", "0"], ("OCTET_TRACE", "1"));
        Assert.Equal(0, code);
        string[] launches = [.. trace.Split('\n').Where(line => line.Contains(" grid ", StringComparison.Ordinal)).Select(line => line.Split(' ')[1])];
        var prompt = Array.FindIndex(launches, launch => launch.StartsWith("sampling", StringComparison.Ordinal));
        Assert.Equal(
            (string[])["embedding", .. Enumerable.Repeat(s_layer, 4).SelectMany(layer => layer), "norm", "gemm", "sampling"],
            launches[(prompt + 1)..].Where(launch => !launch.StartsWith("kv_copy", StringComparison.Ordinal)).Select(Family)); // of the block that texts share until they part
    }

    // "gemm_fp8_m16n16" is an instance of gemm: what follows a family's name says which. One or two tokens are routed by counting ranks.
    private static string Family(string launch) =>
        launch == "moe_gate_up_quantize" ? launch : launch.StartsWith("moe_rank_sort", StringComparison.Ordinal) ? "moe_route" : s_layer.Append("embedding").Append("sampling").First(family => launch.StartsWith($"{family}_", StringComparison.Ordinal));
}
