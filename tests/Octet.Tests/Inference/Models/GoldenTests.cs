using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Models;

/// <summary>
/// The model against what PyTorch and transformers compute from the same files; golden/README.md says why the limits are what
/// they are.
/// </summary>
public sealed class GoldenTests
{
    private const int Vocabulary = 1024;

    [Theory]
    [InlineData("cpu", "short")]
    [InlineData("cpu", "line")]
    [InlineData("cpu", "long")]
    [InlineData("cpu:fnuz", "short")]
    [InlineData("cpu:fnuz", "line")]
    [InlineData("cpu:fnuz", "long")]
    [InlineData("sim:gfx942", "short")]
    [InlineData("sim:gfx942", "line")]
    [InlineData("sim:gfx950", "short")]
    [InlineData("sim:sm_90", "short")]
    public void Logits_with_either_kv_encoding_match_the_golden_ones(string deviceName, string prompt)
    {
        using var device = Device.Open(deviceName);
        foreach (var (kv, golden) in new[] { (KvEncoding.Float8, "w8a8_kv8"), (KvEncoding.BFloat16, "w8a8") })
        {
            using var model = TinyModel.Load(device, kv);
            var difference = TinyModel.Difference(
                TinyModel.Logits(model, TinyModel.Ids(prompt)), TinyModel.Read<float>($"{prompt}.logits_{golden}"));
            Assert.InRange(difference, double.NegativeInfinity, 2e-4);
        }
    }

    [Theory]
    [InlineData("cpu", "short")]
    [InlineData("cpu", "line")]
    [InlineData("cpu", "long")]
    [InlineData("sim:gfx942", "line")]
    public void Routing_matches_wherever_the_golden_margin_is_wide(string deviceName, string prompt)
    {
        using var device = Device.Open(deviceName);
        using var model = TinyModel.Load(device);
        var tokens = TinyModel.Ids(prompt);
        using var probe = new LayerProbe(model);
        var routed = probe.Route(tokens);

        var golden = TinyModel.Read<int>($"{prompt}.experts_w8a8_kv8");
        var margins = TinyModel.Read<float>($"{prompt}.router_margin_w8a8_kv8");
        var compared = 0;
        for (var i = 0; i < margins.Length; i++)
        {
            if (margins[i] > 0.1f)
            {
                var (layer, token) = (i / tokens.Length, i % tokens.Length);
                Assert.Equal(golden[(4 * i)..(4 * i + 4)].Order(), routed[layer][(4 * token)..(4 * token + 4)].Order());
                compared++;
            }
        }

        Assert.True(compared > 0);
    }

    [Theory]
    [InlineData("cpu", "short")]
    [InlineData("cpu", "line")]
    [InlineData("cpu", "long")]
    public void Fed_the_golden_tokens_the_arg_max_is_the_next_golden_one_wherever_the_gap_is_wide(string deviceName, string prompt)
    {
        using var device = Device.Open(deviceName);
        using var model = TinyModel.Load(device);
        var (golden, gaps) = TinyModel.Greedy($"{prompt}.w8a8_kv8");
        var ids = TinyModel.Ids(prompt);
        var logits = TinyModel.Logits(model, [.. ids, .. golden]);
        for (var i = 0; i < golden.Length; i++)
        {
            if (gaps[i] > 0.25)
            {
                Assert.Equal(golden[i], TinyModel.ArgMax(logits.AsSpan((ids.Length - 1 + i) * Vocabulary, Vocabulary)));
            }
        }
    }

    [Fact]
    public async Task Greedy_generation_repeats_itself_and_is_the_arg_max_of_the_logits()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        var prompt = TinyModel.Ids("short");
        var first = await Generate(model, prompt, 40);
        Assert.Equal(first, await Generate(model, prompt, 40));

        var logits = TinyModel.Logits(model, [.. prompt, .. first]);
        for (var i = 0; i < first.Length; i++)
        {
            Assert.Equal(TinyModel.ArgMax(logits.AsSpan((prompt.Length - 1 + i) * Vocabulary, Vocabulary)), first[i]);
        }
    }

    [Fact]
    public async Task Texts_generated_together_are_those_generated_alone()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device, chunk: 16);
        string[] prompts = ["short", "line", "long", "short"];
        var alone = new List<int[]>();
        foreach (var prompt in prompts)
        {
            alone.Add(await Generate(model, TinyModel.Ids(prompt), 12));
        }

        var together = await Task.WhenAll(prompts.Select(prompt => Task.Run(() => Generate(model, TinyModel.Ids(prompt), 12))));
        Assert.Equal(alone, together);
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("cpu:fnuz")]
    [InlineData("sim:gfx942")]
    public void Each_layer_fed_the_golden_hidden_state_gives_the_next(string deviceName)
    {
        using var device = Device.Open(deviceName);
        using var model = TinyModel.Load(device);
        using var probe = new LayerProbe(model);
        var hidden = TinyModel.Read<float>("line.hidden_w8a8_kv8");
        var size = hidden.Length / (model.Config.LayerCount + 1);
        for (var layer = 0; layer < model.Config.LayerCount; layer++)
        {
            var input = Array.ConvertAll(hidden[(layer * size)..((layer + 1) * size)], x => (BFloat16)x);
            var output = Array.ConvertAll(probe.RunLayer(layer, input), x => (float)x);
            Assert.InRange(
                TinyModel.Difference(output, hidden[((layer + 1) * size)..((layer + 2) * size)]), double.NegativeInfinity, 1e-4);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(64)]
    public void Prefill_in_chunks_gives_the_logits_of_the_whole(int chunk)
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        var ids = TinyModel.Ids("long");
        var difference = TinyModel.Difference(TinyModel.Logits(model, ids, chunk), TinyModel.Logits(model, ids));
        Assert.InRange(difference, double.NegativeInfinity, 1e-4);
    }

    [Fact]
    public void Perplexity_is_within_half_a_percent_of_the_golden_one()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        Assert.InRange(model.Perplexity(TinyModel.Ids("perplexity"), 192), 25.9153 * 0.995, 25.9153 * 1.005);
    }

    [Fact]
    public async Task Sampling_with_a_seed_repeats_itself_and_another_seed_differs()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        async Task<int[]> Draw(long seed) => await Generate(model, TinyModel.Ids("short"), 24, temperature: 1, seed);
        Assert.Equal(await Draw(1), await Draw(1));
        Assert.NotEqual(await Draw(1), await Draw(2));
    }

    private static async Task<int[]> Generate(LanguageModel model, int[] prompt, int count, float temperature = 0, long seed = 0)
    {
        var ids = new List<int>();
        var options = new GenerationOptions { MaxTokens = count, Temperature = temperature, Seed = seed, IgnoreEndOfText = true };
        await foreach (var token in model.GenerateAsync(prompt, options, TestContext.Current.CancellationToken))
        {
            ids.Add(token.Id);
        }

        return [.. ids];
    }
}
