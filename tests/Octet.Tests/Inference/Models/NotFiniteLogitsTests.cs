using Octet.Ilgpu;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Models;

/// <summary>
/// A checkpoint of good weights whose logits are not finite at some positions: one token's logit is 2^64 * 2^64 times a number h of the
/// normalised hidden state, which is infinite where the BF16 |h| is 1 or more. What h is at each position, the same checkpoint with 1
/// in the place of 2^64 tells.
/// </summary>
public sealed class NotFiniteLogitsTests : IDisposable
{
    private const int Token = 900, Column = 17;
    private const float Weight = 1.8446744e19f, Edge = 1;

    private readonly PatchedModel _damaged = PatchedModel.WithLogit(Token, Column, Weight, Weight);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _damaged.Dispose();

    [Theory]
    [InlineData("cpu")]
    [InlineData("cpu:fnuz")]
    [InlineData("sim:gfx942")]
    [InlineData("sim:sm_90")]
    [InlineData("ilgpu:cpu")]
    public async Task The_text_whose_logits_are_not_finite_fails_and_no_other(string deviceName)
    {
        using var device = Open(deviceName);
        using var model = Qwen3Moe.Load(_damaged.Path, device, new() { MaxBatch = 8, KvCacheTokens = 4096 });
        var hidden = HiddenOfSingleTokens();
        int[] bad = [Array.FindIndex(hidden, h => h > 1.2), Array.FindIndex(hidden, h => h < -1.2)];
        int[] good = [.. Enumerable.Range(0, hidden.Length).Where(id => hidden[id] is < -0.1f and > -0.8f).Take(2)];
        foreach (var temperature in (float[])[0, 1])
        {
            var options = new GenerationOptions { MaxTokens = 1, Temperature = temperature, Seed = 3 };
            var texts = good.Select(id => model.CompleteAsync([id], options, Cancellation)).ToArray();
            var errors = bad.Select(id => Assert.ThrowsAsync<NotFiniteNumberException>(() => model.CompleteAsync([id], options, Cancellation)));
            foreach (var error in await Task.WhenAll(errors))
            {
                Assert.StartsWith($"position 0: the logits are not finite on {device.Name}: ", error.Message, StringComparison.Ordinal);
                Assert.DoesNotContain('\n', error.Message);
            }

            foreach (var (id, text) in good.Zip(await Task.WhenAll(texts)))
            {
                Assert.Equal(FinishReason.Length, text.FinishReason);
                Assert.DoesNotContain(Token, text.Ids);
                Assert.Equal((await model.CompleteAsync([id], options, Cancellation)).Ids, text.Ids);
            }
        }
    }

    [Fact]
    public async Task A_text_fails_at_the_token_after_its_last_one()
    {
        using var device = Device.Open("cpu");
        using var model = Qwen3Moe.Load(_damaged.Path, device, new() { KvCacheTokens = 1024 });
        var failures = 0;
        for (var seed = 0; seed < 20; seed++)
        {
            int[] prompt = [.. Enumerable.Range(40, 3 + seed)];
            var tokens = 0;
            try
            {
                var options = new GenerationOptions { MaxTokens = 40, Temperature = 1, Seed = seed, IgnoreEndOfText = true };
                await foreach (var token in model.GenerateAsync(prompt, options, Cancellation))
                {
                    tokens++;
                }

                Assert.Equal(40, tokens);
            }
            catch (NotFiniteNumberException error)
            {
                Assert.StartsWith($"position {prompt.Length + tokens - 1}: ", error.Message, StringComparison.Ordinal);
                failures += tokens > 0 ? 1 : 0;
            }
        }

        Assert.NotEqual(0, failures);

        // Every text gave its blocks back, else there is no room for this one.
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            using var source = new CancellationTokenSource();
            await foreach (var token in model.GenerateAsync([GoodToken()], new() { MaxTokens = 1023, Temperature = 0 }, source.Token))
            {
                await source.CancelAsync();
            }
        });
    }

    [Theory]
    [InlineData(7)]
    [InlineData(512)]
    public void Logits_name_the_first_position_and_the_token(int chunk)
    {
        using var device = Device.Open("cpu");
        var ids = TinyModel.Ids("line");
        var expected = FirstOverEdge(ids);
        using var model = Qwen3Moe.Load(_damaged.Path, device, new() { KvCacheTokens = 1024 });
        var error = Assert.Throws<NotFiniteNumberException>(() => model.Logits(ids, (_, _) => { }, chunk));
        Assert.StartsWith(
            $"position {expected}: the logits are not finite on cpu: the logit of token id {Token} is ", error.Message, StringComparison.Ordinal);
        Assert.NotEmpty(TinyModel.Logits(model, ids[..expected]));
    }

    [Fact]
    public void Perplexity_names_the_position_in_the_whole_text()
    {
        using var device = Device.Open("cpu");
        var ids = TinyModel.Ids("perplexity");
        const int Window = 2;
        ids = ids[(Window * Enumerable.Range(0, 100).First(i => FirstOverEdge(ids[(i * Window)..((i + 1) * Window)]) < 0))..]; // begins with a window that is finite
        var first = Enumerable.Range(0, ids.Length / Window).First(i => FirstOverEdge(ids[(i * Window)..((i + 1) * Window)]) >= 0);
        var expected = first * Window + FirstOverEdge(ids[(first * Window)..((first + 1) * Window)]);
        Assert.InRange(expected, Window, ids.Length);
        using var model = Qwen3Moe.Load(_damaged.Path, device, new() { KvCacheTokens = 1024 });
        var error = Assert.Throws<NotFiniteNumberException>(() => model.Perplexity(ids, Window));
        Assert.StartsWith($"position {expected}: ", error.Message, StringComparison.Ordinal);
    }

    private static Device Open(string name)
    {
        IlgpuBackend.Register();
        return Device.Open(name);
    }

    private static int GoodToken() => Array.FindIndex(HiddenOfSingleTokens(), h => h is < -0.1f and > -0.8f);

    // The first position whose logit overflows: -1 if none does. So near the edge that rounding could decide, the text is a bad choice.
    private static int FirstOverEdge(int[] ids)
    {
        var hidden = Hidden(model => TinyModel.Logits(model, ids).Where((_, i) => i % 1024 == Token).ToArray());
        var first = Array.FindIndex(hidden, h => Math.Abs(h) >= Edge);
        Assert.All(hidden[..(first + 1)], h => Assert.False(Math.Abs(h) is > Edge - 0.01f and < Edge + 0.01f, $"{h} is too near {Edge}"));
        return first;
    }

    // h after each token as a text of its own.
    private static float[] HiddenOfSingleTokens() =>
        Hidden(model => [.. Enumerable.Range(0, 300).Select(id => TinyModel.Logits(model, [id])[Token])]);

    private static float[] Hidden(Func<Qwen3Moe, float[]> read)
    {
        using var probe = PatchedModel.WithLogit(Token, Column, 1, 1);
        using var device = Device.Open("cpu");
        using var model = Qwen3Moe.Load(probe.Path, device, new() { KvCacheTokens = 1024 });
        return read(model);
    }
}
