using System.Text;
using System.Text.Json;
using Octet.Cli.Inspect;
using Octet.Inference.Models;
using Octet.Inference.Planning;
using Octet.Tests.Backends;

namespace Octet.Tests.Cli.Inspect;

/// <summary>
/// Whole steps: the ops are those the engine enqueues, their sums add up, and what links and waits take is what their bytes say.
/// </summary>
public sealed class StepCostTests
{
    private static readonly ModelShape s_target = ModelShape.Find(ModelShape.Target);

    private static readonly Lazy<StepCosts> s_costs = new(() => new StepCosts(KernelCosts.Read(Gpu.Gfx942, simulate: false, null)));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task The_ops_are_those_the_engine_enqueues_in_order(int ranks)
    {
        const int Prompt = 64; // so many that ranks divide them
        using var group = WatchedBackend.Open("cpu:fnuz", ranks);
        using var model = LanguageModel.Load(TinyModel.Directory, group, new()
        {
            TensorParallel = ranks, ExpertParallel = ranks, TokenBudget = Prompt, MaxSequences = 1, KvCacheTokens = 512,
        });
        List<string> ops = [];
        WatchedBackend.Of(group.Devices[0]).Before = ops.Add;
        await foreach (var token in model.GenerateAsync((int[])[.. Enumerable.Range(0, Prompt)], new() { MaxTokens = 2, Temperature = 0 }))
        {
            Assert.True(token.Id >= 0);
        }

        var config = ModelConfig.Load(TinyModel.Directory);
        IEnumerable<string> Recorded(StepLoad load) => EngineStep.Record("gfx942", config, ranks, ranks, load)
            .Where(op => op.Name != "fill").Select(op => op.Name.Split(' ')[0].Replace("_", "", StringComparison.Ordinal));
        Assert.Equal(
            Recorded(new(0, 0, 1, Prompt)).Concat(Recorded(new(1, Prompt + 1, 0, 0))), ops.Select(op => op.ToLowerInvariant()));
    }

    [Fact]
    public void Steps_of_every_division_can_be_recorded_with_continuations_beside_prompts_too()
    {
        foreach (var (tp, ep) in ((int, int)[])[(2, 1), (4, 2), (8, 1), (8, 4)])
        {
            var ops = EngineStep.Record("gfx950", s_target.Config, tp, ep, new(5, 300, 2, 40));
            Assert.Equal(94, ops.Count(op => op.Name == "attention_decode"));
            Assert.Equal(94, ops.Count(op => op.Name == "attention_prefill"));
            Assert.Equal((2 * 94) + 1, ops.Count(op => op.Name == "norm" && op.Links.Bytes > 0));
        }
    }

    [Theory]
    [InlineData(1, 1, 64, 5670)]
    [InlineData(4, 4, 64, 5670)]
    [InlineData(8, 2, 3, 262_144)]
    public void Lines_and_layers_add_up_to_the_step_and_repeat_to_the_bit(int tp, int ep, int rows, int context)
    {
        var cost = s_costs.Value.Of(s_target, tp, ep, new(rows, context, 0, 0));
        Assert.Equal(cost.Microseconds, cost.Lines.Sum(line => line.Count * line.Microseconds), 1e-6);
        Assert.Equal(cost.Microseconds, cost.KernelMicroseconds + cost.LinkMicroseconds, 1e-6);
        Assert.All(cost.Lines, line => Assert.True(line is { KernelMicroseconds: > 0, LinkMicroseconds: >= 0, Count: > 0 }, $"{line}"));
        Assert.Equal(tp == 1, cost.LinkMicroseconds == 0);

        // What stands outside the layers is a small part of a step.
        var layers = 94 * (cost.Layer.Kernels + cost.Layer.Links);
        Assert.InRange(cost.Microseconds, layers, 1.05 * layers);
        Assert.True(cost.Microseconds > cost.Floors.Weights + cost.Floors.Kv, "a step of decode reads weights and KV one after the other");
        var again = s_costs.Value.Of(s_target, tp, ep, new(rows, context, 0, 0));
        Assert.Equal(cost.Lines, again.Lines);
        Assert.Equal((cost.Layer, cost.PlainMicroseconds), (again.Layer, again.PlainMicroseconds));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(8)]
    public void Links_and_waits_of_a_layer_are_those_of_two_sums_whose_ranges_are_gathered(int ranks)
    {
        var (rows, layer) = (64 / ranks, s_costs.Value.Of(s_target, ranks, ranks, new(64, 5670, 0, 0)).Layer);
        Assert.Equal(4 * 2.0, layer.Signals, 1e-9);

        // BF16 nodes of a range, twice; and FP8 rows with their 32 scales, once with 8 experts and weights.
        var bytes = (2 * 2 * 4096) + (2 * (4096 + 128)) + 64;
        Assert.Equal(rows * bytes / 46e3, layer.Transfers, 1e-9);
        Assert.Equal((6 * 1.5) + (2 * 1.0), layer.Launches, 1e-9);
    }

    [Fact]
    public void Few_tokens_are_not_divided_and_a_plain_all_reduce_stands_beside()
    {
        var cost = s_costs.Value.Of(s_target, 4, 4, new(16, 5670, 0, 0));
        Assert.Equal(2 * 2.0, cost.Layer.Signals, 1e-9);
        Assert.Equal(2 * 16 * 8192 / 46e3, cost.Layer.Transfers, 1e-9);
        Assert.Equal(2 * (new CollectiveModel(4, 46).AllReduce(16 * 8192) - 1), cost.PlainLayer.Links, 1e-9);
        Assert.DoesNotContain(cost.Lines, line => line.Name is "gather" or "moe_sort");
    }

    [Fact]
    public void A_prompt_of_5600_tokens_on_four_ranks_takes_at_most_180_ms_and_more_with_a_plain_all_reduce()
    {
        var cost = s_costs.Value.Of(s_target, 4, 4, new(0, 0, 1, 5600));
        Assert.InRange(cost.Microseconds, 140e3, 180e3);
        Assert.InRange(cost.LinkMicroseconds, 71e3, 73.5e3);
        Assert.True(cost.PlainMicroseconds > 1.2 * cost.Microseconds, $"{cost.PlainMicroseconds} beside {cost.Microseconds}");
        Assert.All(cost.Lines.Where(line => line.Name == "norm"), line => Assert.Equal("link", line.Binds));
    }

    [Theory]
    [InlineData(3, 3, 1, 64, "tp is 3")]
    [InlineData(2, 4, 1, 64, "ep is 4")]
    [InlineData(1, 1, 1, 262_145, "262144")]
    [InlineData(1, 1, 20_000, 64, "smaller batch")]
    [InlineData(1, 1, 0, 64, "at least one sequence")]
    public void What_cannot_be_is_refused_with_its_values(int tp, int ep, int rows, int context, string reason)
    {
        var error = Assert.Throws<ArgumentException>(() => StepCosts.Check(s_target, tp, ep, new(rows, context, 0, 0)));
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Json_has_the_documented_fields_and_its_shares_are_one()
    {
        var cost = s_costs.Value.Of(s_target, 2, 1, new(0, 0, 2, 100));
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            StepJson.Write(cost, Gpu.Gfx942, "clang 22", writer);
            writer.WriteEndObject();
        }

        using var json = JsonDocument.Parse(Encoding.UTF8.GetString(buffer.ToArray()));
        static IEnumerable<string> Names(JsonElement element) => element.EnumerateObject().Select(p => p.Name);
        var root = json.RootElement;
        Assert.Equal(
            [
                "target", "build", "step", "launches", "microseconds", "kernel_microseconds", "link_microseconds", "floors", "layer",
                "plain_microseconds", "plain_layer", "memory",
            ],
            Names(root));
        Assert.Equal("""{"kind":"prefill","tp":2,"ep":1,"batch":2,"context":100}""", root.GetProperty("step").GetRawText());
        Assert.Equal(["weights", "kv", "matrices", "links"], Names(root.GetProperty("floors")));
        Assert.Equal(["kernels", "signals", "transfers", "launches_that_wait"], Names(root.GetProperty("layer")));
        var launches = root.GetProperty("launches").EnumerateArray().ToList();
        string[] fields = ["op", "name", "config", "count", "microseconds", "link_microseconds", "share", "binds"];
        Assert.All(launches, l => Assert.Equal(fields, Names(l)));
        Assert.Equal(1, launches.Sum(l => l.GetProperty("share").GetDouble()), 0.01);
        Assert.Equal(cost.Microseconds, root.GetProperty("microseconds").GetDouble(), 0.001);
    }

    [Fact]
    public async Task The_command_prints_a_step_and_refuses_options_that_do_not_go_with_it()
    {
        var (code, output, error) = await OctetProcess.Run(
            ["inspect", "--step", "decode", "--tp", "2", "--batch", "4", "--context", "1000", "--target", "gfx950", "--no-sim"]);
        Assert.Equal((0, ""), (code, error));
        Assert.StartsWith("decode of 4 x 1000, TP2/EP2 on gfx950. Modelled from the compiled code, not", output, StringComparison.Ordinal);
        Assert.Contains("gemm qkv", output, StringComparison.Ordinal);
        Assert.Contains("plain BF16 all-reduce", output, StringComparison.Ordinal);
        foreach (var (arguments, reason) in ((string[], string)[])
        [
            (["--batch", "4"], "--step decode"), (["--step", "decode", "--op", "gemm"], "--op does not go"),
            (["--step", "decode", "--tp", "3"], "1, 2, 4 or 8"), (["--step", "decode", "--tp", "2", "--ep", "4"], "ep is 4"),
            (["--step", "prefill", "--context", "0"], "--context is '0'"),
            (["--step", "prefill", "--batch", "8", "--context", "262144"], "smaller batch"),
        ])
        {
            (code, _, error) = await OctetProcess.Run(["inspect", .. arguments]);
            Assert.Equal(2, code);
            Assert.Contains(reason, error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Pinned_memory_of_a_planned_device_is_the_hosts()
    {
        using var device = Device.Open("plan:gfx942");
        using var pinned = new PinnedBuffer(device, 4096);
        pinned.AsSpan<byte>().Fill(7);
        Assert.Equal(4096, pinned.AsSpan<byte>().Count((byte)7));
    }
}
