using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>The log probabilities of a prompt's tokens, beside its continuation: the bits that LogProbabilities gives, whatever else runs.</summary>
public sealed class PromptLogprobsTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("cpu", 100)]
    [InlineData("sim", 20)]
    public async Task A_prompt_read_in_chunks_and_cached_before_has_the_log_probabilities_of_the_text(string name, int length)
    {
        using var device = Device.Open(name);
        using var model = Load(device, tokens: 2048, budget: 19);
        int[] prompt = [.. Enumerable.Range(0, length).Select(i => i * 13 % 1000)];
        var options = new GenerationOptions { MaxTokens = 3, Temperature = 0, IgnoreEndOfText = true };
        var plain = await model.CompleteAsync(prompt, options, Cancellation);
        Assert.Empty(plain.PromptLogprobs);
        foreach (var alternatives in (int[])[0, 20])
        {
            var expected = model.LogProbabilities(prompt, alternatives, Cancellation);
            var tokens = await model.GenerateAsync(prompt, options with { PromptLogprobs = alternatives }, Cancellation).ToListAsync(Cancellation);
            Same(expected, tokens[0].PromptLogprobs!);
            Assert.All(tokens[0].PromptLogprobs!.Skip(1), logprobs => Assert.Equal(alternatives, logprobs!.MostLikely.Count));
            Assert.All(tokens.Skip(1), token => Assert.Null(token.PromptLogprobs));
            Assert.Equal(plain.Ids, tokens.Select(token => token.Id));
            Assert.Equal(0, tokens[0].CachedTokens);
        }

        // What it computed is there for those who want no log probabilities.
        Assert.Equal((length - 1) / 16 * 16, (await model.CompleteAsync(prompt, options, Cancellation)).CachedTokens);
    }

    [Fact]
    public async Task Several_choices_have_those_of_their_prompt_once_before_any_other_token()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 2048, budget: 19);
        int[] prompt = [.. Enumerable.Range(0, 50).Select(i => i * 13 % 1000)];
        var options = new GenerationOptions { MaxTokens = 5, Temperature = 1, Seed = 1, Choices = 4, PromptLogprobs = 2, IgnoreEndOfText = true };
        var tokens = await model.GenerateAsync(prompt, options, Cancellation).ToListAsync(Cancellation);
        Same(model.LogProbabilities(prompt, 2, Cancellation), tokens[0].PromptLogprobs!);
        Assert.All(tokens.Skip(1), token => Assert.Null(token.PromptLogprobs));

        var completions = await model.CompleteAllAsync(prompt, options, Cancellation);
        Assert.All(completions, completion => Same(tokens[0].PromptLogprobs!, completion.PromptLogprobs));
    }

    [Fact]
    public async Task A_prompt_of_one_token_has_one_entry_which_is_null()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 64, budget: 19);
        Assert.Equal([null], (await model.CompleteAsync([40], new() { MaxTokens = 1, PromptLogprobs = 0 }, Cancellation)).PromptLogprobs);
    }

    // Chunks of at most four tokens beside texts that grow, in a pool for one long prompt and three more blocks.
    [Fact]
    public async Task Prompts_preempted_half_read_have_each_entry_once()
    {
        using var device = Device.Open("cpu");
        using var large = Load(device, tokens: 2048, budget: 512);
        using var model = Load(device, tokens: 256, budget: 5, sequences: 4);
        var random = new Random(2);
        var texts = Enumerable.Range(0, 16).Select(i => (
            Prompt: (int[])[.. Enumerable.Range(0, i % 2 == 0 ? 10 : 200).Select(_ => random.Next(1000))],
            Options: new GenerationOptions { MaxTokens = i % 2 == 0 ? 90 : 2, Temperature = 1, Seed = i, PromptLogprobs = 1, IgnoreEndOfText = true })).ToArray();
        var completions = await Task.WhenAll(texts.Select(text => model.CompleteAsync(text.Prompt, text.Options, Cancellation)));
        foreach (var (text, completion) in texts.Zip(completions))
        {
            Same(large.LogProbabilities(text.Prompt, 1, Cancellation), completion.PromptLogprobs);
            Assert.Equal((await large.CompleteAsync(text.Prompt, text.Options, Cancellation)).Ids, completion.Ids);
        }

        var statistics = model.Statistics;
        Assert.True(statistics is { Preemptions: > 0, RecomputedTokens: > 0, CachedTokens: 0 }, $"{statistics}");
        Assert.Equal(texts.Sum(text => text.Prompt.Length) + statistics.RecomputedTokens, statistics.PromptTokens);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(21)]
    public void A_number_of_alternatives_that_nobody_has_is_refused(int alternatives)
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 64, budget: 19);
        var error = Assert.Throws<ArgumentException>(() => model.GenerateAsync([40], new() { PromptLogprobs = alternatives }, Cancellation));
        Assert.Equal($"PromptLogprobs is {alternatives}, but it must be 0 to 20", error.Message);
    }

    [Fact]
    public void The_most_likely_come_first_and_of_equal_ones_the_lowest_id()
    {
        var random = new Random(4);
        float[] logits = [.. Enumerable.Range(0, 300).Select(_ => (float)random.Next(40))];
        var sum = LogSoftmax.LogSum(logits);
        foreach (var count in (int[])[0, 1, 20, 300, 400])
        {
            var logprobs = LogSoftmax.Of(logits, 7, count);
            Assert.Equal((float)(logits[7] - sum), logprobs.Logprob);
            Assert.Equal(
                Enumerable.Range(0, 300).OrderByDescending(id => logits[id]).Take(count).Select(id => new TokenLogprob(id, (float)(logits[id] - sum))),
                logprobs.MostLikely);
        }
    }

    private static void Same(IReadOnlyList<TokenLogprobs?> expected, IReadOnlyList<TokenLogprobs?> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        Assert.Null(actual[0]);
        foreach (var (one, other) in expected.Zip(actual).Skip(1))
        {
            Assert.Equal(one!.Logprob, other!.Logprob);
            Assert.Equal(one.MostLikely, other.MostLikely);
        }
    }

    private static LanguageModel Load(Device device, int tokens, int budget, int sequences = 8) => LanguageModel.Load(
        TinyModel.Directory, device, new() { TokenBudget = budget, MaxSequences = sequences, KvCacheTokens = tokens, KvBlockSize = 16 });
}
