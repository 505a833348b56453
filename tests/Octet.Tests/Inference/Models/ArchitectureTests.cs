using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>Small random checkpoints of each architecture, several shapes of each, against a reference in f64.</summary>
public sealed class ArchitectureTests
{
    private const SafeTensorType Fp8 = SafeTensorType.Float8E4M3;

    private static readonly Dictionary<string, RandomShape> Shapes = new()
    {
        ["Qwen3-MoE FP8"] = new() { Architecture = "Qwen3MoeForCausalLM", Type = Fp8, Experts = 16, TopK = 4, HeadDim = 128 },
        ["Qwen3-MoE tails"] = new()
        {
            Architecture = "Qwen3MoeForCausalLM", Hidden = 200, Heads = 6, KvHeads = 3, Layers = 3, Experts = 5, Width = 72, Dense = 136,
            DenseLayers = [1], Bias = true, Tied = true, NormalizeTopK = false, Vocabulary = 333, Embedding = 0.3,
        },
        ["Qwen3 FP8"] = new() { Architecture = "Qwen3ForCausalLM", Type = Fp8, Dense = 384, Heads = 2, KvHeads = 1, HeadDim = 128, Tied = true, Embedding = 0.3 },
        ["Qwen3 BF16"] = new() { Architecture = "Qwen3ForCausalLM", Dense = 256, Layers = 3 },
        ["Qwen3 tails"] = new() { Architecture = "Qwen3ForCausalLM", Hidden = 200, Heads = 6, KvHeads = 3, Dense = 136, Bias = true, Vocabulary = 333, Type = SafeTensorType.Float32 },
        ["Mixtral BF16"] = new() { Architecture = "MixtralForCausalLM", Experts = 8, Width = 256 },
        ["Mixtral FP8"] = new() { Architecture = "MixtralForCausalLM", Type = Fp8, Experts = 8, HeadDim = 128, KvHeads = 4 },
        ["Mixtral tails"] = new() { Architecture = "MixtralForCausalLM", Hidden = 136, Heads = 3, KvHeads = 1, Experts = 3, TopK = 2, Width = 88, Tied = true, Embedding = 0.3 },
        ["MiniMax-M2 FP8"] = new() { Architecture = "MiniMaxM2ForCausalLM", Type = Fp8, Experts = 32, TopK = 8, RotaryDim = 32 },
        ["MiniMax-M2 heads"] = new() { Architecture = "MiniMaxM2ForCausalLM", Type = Fp8, Hidden = 384, Heads = 6, KvHeads = 2, HeadDim = 128, RotaryDim = 64, Experts = 12, TopK = 3, Layers = 1 },
        ["MiniMax-M2 tails"] = new()
        {
            Architecture = "MiniMaxM2ForCausalLM", Type = Fp8, Hidden = 200, Heads = 3, KvHeads = 1, RotaryDim = 48, Experts = 7, TopK = 2, Width = 72, ScoreBias = false, Seed = 3,
        },
        ["MiniMax-M2 BF16"] = new() { Architecture = "MiniMaxM2ForCausalLM", Hidden = 128, Heads = 2, KvHeads = 1, RotaryDim = 64, Experts = 5, TopK = 2, Layers = 3, Seed = 2 },
    };

    public static TheoryData<string, string> Cases()
    {
        var cases = new TheoryData<string, string>();
        foreach (var name in Shapes.Keys)
        {
            cases.Add(name, "cpu");
            cases.Add(name, "cpu:fnuz");
        }

        foreach (var (name, device) in ((string, string)[])[
            ("Qwen3 FP8", "sim:gfx942"), ("Qwen3 tails", "sim:gfx950"), ("Mixtral BF16", "sim:gfx950"), ("Mixtral tails", "sim:gfx942"),
            ("MiniMax-M2 heads", "sim:gfx942"), ("MiniMax-M2 tails", "sim:gfx950"), ("MiniMax-M2 BF16", "sim:sm_90")])
        {
            cases.Add(name, device);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Logits_are_those_of_the_reference_and_so_are_the_tokens(string name, string deviceName)
    {
        using var directory = new ModelDirectory();
        var checkpoint = new RandomCheckpoint(Shapes[name]);
        checkpoint.Write(directory.Path);
        File.Copy(Path.Combine(TinyModel.Directory, ModelTokenizer.FileName), Path.Combine(directory.Path, ModelTokenizer.FileName));
        using var device = Device.Open(deviceName);
        using (var model = LanguageModel.Load(directory.Path, device, new() { TokenBudget = 8, MaxSequences = 2, KvCacheTokens = 256, KvBlockSize = 16 }))
        {
            int[] prompt = [.. Enumerable.Range(0, 13).Select(i => i * 37 % Shapes[name].Vocabulary)];
            var ids = new List<int>(prompt);
            if (deviceName.StartsWith("cpu", StringComparison.Ordinal))
            {
                await Continue(model, ids);
            }

            var actual = TinyModel.Logits(model, [.. ids]);
            var expected = new ReferenceDecoder(checkpoint, roundsSoftmax: deviceName.StartsWith("sim", StringComparison.Ordinal)).Logits([.. ids]);

            // Until f32 and f64 first fall on different sides of a rounding, tokens agree to 1e-9 and better. Then 6 % of one FP8 value is off,
            // later values fall on other sides more often, and what is left is the noise of FP8 itself: up to 1e-3.
            var singles = Array.ConvertAll(expected, x => (float)x);
            var width = Shapes[name].Vocabulary;
            var best = Enumerable.Range(0, ids.Count).Min(t => TinyModel.Difference(actual[(t * width)..((t + 1) * width)], singles[(t * width)..((t + 1) * width)]));
            Assert.InRange(best, double.NegativeInfinity, 1e-4);
            Assert.InRange(TinyModel.Difference(actual, singles), double.NegativeInfinity, 1e-3);
            for (var i = prompt.Length; i < ids.Count; i++)
            {
                // Decode's own way through attention: the token it drew is the reference's best, or next to it.
                var row = expected[((i - 1) * width)..(i * width)];
                Assert.InRange(row.Max() - row[ids[i]], 0, 0.1 * row.Max(Math.Abs));
            }
        }

        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public void Layers_that_predict_further_tokens_are_left_out_and_other_layers_refused()
    {
        using var directory = new ModelDirectory();
        var shape = Shapes["MiniMax-M2 BF16"];
        var checkpoint = new RandomCheckpoint(shape);
        checkpoint.AddOther($"model.layers.{shape.Layers + 2}.self_attn.q_proj.weight", 4, 4);
        checkpoint.AddOther("mtp.0.norm.weight", 4);
        checkpoint.Write(directory.Path);
        using var device = Device.Open("cpu");
        LanguageModel.Load(directory.Path, device, new() { KvCacheTokens = 256 }).Dispose();

        // Three modules are declared.
        checkpoint.AddOther($"model.layers.{shape.Layers + 3}.self_attn.q_proj.weight", 4, 4);
        checkpoint.Write(directory.Path);
        var message = Assert.Throws<ModelFormatException>(() => LanguageModel.Load(directory.Path, device)).Message;
        Assert.Contains("model.layers.6.self_attn.q_proj.weight", message, StringComparison.Ordinal);
    }

    private static async Task Continue(LanguageModel model, List<int> ids)
    {
        var tokens = new List<int>();
        await foreach (var token in model.GenerateAsync([.. ids], new() { MaxTokens = 6, Temperature = 0, IgnoreEndOfText = true }, TestContext.Current.CancellationToken))
        {
            tokens.Add(token.Id);
        }

        ids.AddRange(tokens);
    }
}
