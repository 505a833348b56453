using Octet.Inference.Models;

namespace Octet.Tests.Backends.Ilgpu;

/// <summary>The small model on ILGPU's CPU accelerator against the golden data; golden/README.md says why the limits are what they are.</summary>
public sealed class IlgpuGoldenTests(IlgpuCpu cpu) : IClassFixture<IlgpuCpu>
{
    private const int Vocabulary = 1024;

    [Theory]
    [InlineData(KvEncoding.Float8, "w8a8_kv8")]
    [InlineData(KvEncoding.BFloat16, "w8a8")]
    public void Logits_of_the_short_prompt_match_the_golden_ones(KvEncoding kv, string golden)
    {
        using var model = TinyModel.Load(cpu.Device, kv);
        var difference = TinyModel.Difference(
            TinyModel.Logits(model, TinyModel.Ids("short")), TinyModel.Read<float>($"short.logits_{golden}"));
        Assert.InRange(difference, double.NegativeInfinity, 2e-4);
    }

    [Fact]
    public void Fed_the_golden_tokens_the_arg_max_is_the_next_golden_one_wherever_the_gap_is_wide()
    {
        using var model = TinyModel.Load(cpu.Device);
        var (golden, gaps) = TinyModel.Greedy("short.w8a8_kv8");
        var ids = TinyModel.Ids("short");
        var logits = TinyModel.Logits(model, [.. ids, .. golden]);
        var compared = 0;
        for (var i = 0; i < golden.Length; i++)
        {
            if (gaps[i] > 0.25)
            {
                Assert.Equal(golden[i], TinyModel.ArgMax(logits.AsSpan((ids.Length - 1 + i) * Vocabulary, Vocabulary)));
                compared++;
            }
        }

        Assert.True(compared > 0);
    }

    [Fact]
    public async Task Generation_repeats_itself_and_leaves_no_bytes_behind()
    {
        var before = cpu.Device.LiveBytes;
        async Task<string> Generate()
        {
            using var model = TinyModel.Load(cpu.Device);
            var text = "";
            await foreach (var token in model.GenerateAsync("ROMEO:\n", new() { MaxTokens = 8, Temperature = 0 }, TestContext.Current.CancellationToken))
            {
                text += token.Text;
            }

            return text;
        }

        var first = await Generate();
        Assert.StartsWith("I'll not be", first, StringComparison.Ordinal);
        Assert.Equal(first, await Generate());
        Assert.Equal(before, cpu.Device.LiveBytes);
    }
}
