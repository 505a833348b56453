using Octet.Ilgpu;
using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Tests.Inference.Models;

/// <summary>
/// Logits that are not finite though every weight is, as a faulty device may give them. Here it is the angle of one position that is
/// NaN: every text that reaches the position has NaN for its query and key there, and no shorter one is touched.
/// </summary>
public sealed class NotFiniteLogitsTests
{
    private const int Position = 12;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("cpu")]
    [InlineData("cpu:fnuz")]
    [InlineData("sim:gfx942")]
    [InlineData("sim:sm_90")]
    [InlineData("ilgpu:cpu")]
    public async Task The_text_whose_logits_are_not_finite_fails_and_no_other(string deviceName)
    {
        IlgpuBackend.Register();
        using var device = Device.Open(deviceName);
        using var model = Load(device);
        int[] prompt = [.. Enumerable.Range(40, Position - 3)];
        var alone = await Complete(prompt, 3, temperature: 0);
        Spoil(model);
        foreach (var temperature in (float[])[0, 1])
        {
            // One text meets it in its prompt, one in what is generated, one never.
            var inPrompt = Assert.ThrowsAsync<NotFiniteNumberException>(() => Complete([.. Enumerable.Range(40, Position + 1)], 3, temperature));
            var inText = Assert.ThrowsAsync<NotFiniteNumberException>(() => Complete(prompt, 20, temperature));
            var never = Complete(prompt, 3, temperature);
            foreach (var error in await Task.WhenAll(inPrompt, inText))
            {
                Assert.StartsWith($"position {Position}: the logits are not finite on {device.Name}: ", error.Message, StringComparison.Ordinal);
                Assert.DoesNotContain('\n', error.Message);
            }

            Assert.Equal(3, (await never).Ids.Count);
        }

        Assert.Equal(alone.Ids, (await Complete(prompt, 3, temperature: 0)).Ids);

        Task<Completion> Complete(int[] ids, int tokens, float temperature) => model.CompleteAsync(
            ids, new() { MaxTokens = tokens, Temperature = temperature, Seed = 3, IgnoreEndOfText = true }, Cancellation);
    }

    [Fact]
    public async Task Every_token_before_comes_and_the_blocks_are_given_back()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        Spoil(model);
        for (var round = 0; round < 5; round++)
        {
            // The whole cache: a round that kept its blocks would be the last.
            var options = new GenerationOptions { MaxTokens = 1020, Temperature = 1, Seed = round, IgnoreEndOfText = true };
            var tokens = 0;
            await Assert.ThrowsAsync<NotFiniteNumberException>(async () =>
            {
                await foreach (var _ in model.GenerateAsync([1, 2, 3, 4], options, Cancellation))
                {
                    tokens++;
                }
            });

            // The token at the position is read to give the next one, and that one is missing.
            Assert.Equal(Position + 1, 4 + tokens);
        }
    }

    [Theory]
    [InlineData(5)]
    [InlineData(512)]
    public void Logits_name_the_position_and_a_token_and_give_no_row_of_it(int chunk)
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        Spoil(model);
        int[] ids = [.. Enumerable.Range(40, 20)];
        var rows = 0;
        var error = Assert.Throws<NotFiniteNumberException>(() => model.Logits(ids, (first, logits) => rows = first + logits.Length / 1024, chunk));
        Assert.StartsWith($"position {Position}: the logits are not finite on cpu: the logit of token id 0 is NaN", error.Message, StringComparison.Ordinal);
        Assert.InRange(rows, 0, Position);
        Assert.Equal(Position * 1024, TinyModel.Logits(model, ids[..Position]).Length);
    }

    [Fact]
    public void Perplexity_names_the_position_in_the_whole_text()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        int[] ids = [.. Enumerable.Range(40, 64)];
        Assert.True(double.IsFinite(model.Perplexity(ids, 16)));
        var windows = 0;
        var spoil = new Progress(() => windows++, () => Spoil(model));
        var error = Assert.Throws<NotFiniteNumberException>(() => model.Perplexity(ids, 16, spoil));
        Assert.Equal(2, windows);
        Assert.StartsWith($"position {2 * 16 + Position}: ", error.Message, StringComparison.Ordinal);
    }

    private static LanguageModel Load(Device device) => LanguageModel.Load(TinyModel.Directory, device, new() { MaxSequences = 8, KvCacheTokens = 1024 });

    private static void Spoil(LanguageModel model)
    {
        var angles = ((Decoder)model.Model).Prepared.CosSin.Slice(0, Position, 1);
        model.Device.Stream.Write<float>(angles, [.. Enumerable.Repeat(float.NaN, (int)angles.ElementCount)]);
    }

    // Spoils the position after the second window.
    private sealed class Progress(Action count, Action spoil) : IProgress<(int Done, int Total)>
    {
        public void Report((int Done, int Total) value)
        {
            count();
            if (value.Done == 2)
            {
                spoil();
            }
        }
    }
}
