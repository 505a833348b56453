using System.Diagnostics.Metrics;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>Several continuations of one prompt. Alone in their collection: they count.</summary>
[Collection(nameof(AllocationTests))]
public sealed class ChoicesTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("cpu", 5, 40, 0)]
    [InlineData("cpu", 5, 40, 3)]
    [InlineData("sim", 2, 6, 0)]
    public async Task Choices_are_the_texts_of_the_seeds_from_the_first_on_and_their_prompt_is_read_once(string name, int choices, int tokens, int proposals)
    {
        using var device = Device.Open(name);
        using var model = Load(device, proposals);
        int[] prompt = [.. Enumerable.Range(0, 37).Select(i => 100 + i * 17 % 500)];
        var options = new GenerationOptions
        {
            MaxTokens = tokens, Temperature = 1, Seed = 70, Choices = choices, Logprobs = 1, RepetitionPenalty = 1.1f, StopTokenIds = [.. Enumerable.Range(180, 20)],
        };
        IReadOnlyList<Completion> together = [];
        var read = await PromptTokens(async () => together = await model.CompleteAllAsync(prompt, options, Cancellation));
        Assert.Equal(prompt.Length, read);
        Assert.Equal(choices, together.Count);
        for (var i = 0; i < choices; i++)
        {
            var alone = await model.CompleteAsync(prompt, options with { Choices = 1, Seed = 70 + i, CacheSalt = $"{i}" }, Cancellation);
            Assert.Equal(alone.Ids, together[i].Ids);
            Assert.Equal((alone.Text, alone.FinishReason), (together[i].Text, together[i].FinishReason));
            Assert.Equal(alone.Logprobs.Select(logprobs => logprobs.Logprob), together[i].Logprobs.Select(logprobs => logprobs.Logprob));
        }

        Assert.NotEqual(together[0].Ids, together[1].Ids);
    }

    [Fact]
    public async Task A_choice_that_ends_by_a_stop_string_leaves_the_others_going_on()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, 0);
        var options = new GenerationOptions { MaxTokens = 40, Temperature = 1, Seed = 3, Choices = 6, IgnoreEndOfText = true };
        var whole = await model.CompleteAllAsync("ROMEO:", options, Cancellation);
        var stopped = await model.CompleteAllAsync("ROMEO:", options with { StopStrings = ["the", "\n"] }, Cancellation);
        Assert.Contains(stopped, completion => completion.StopString is not null);
        foreach (var (all, completion) in whole.Zip(stopped))
        {
            var ends = new[] { "the", "\n" }.Select(stop => (At: all.Text.IndexOf(stop, StringComparison.Ordinal), Stop: stop)).Where(end => end.At >= 0).ToArray();
            Assert.Equal(ends.Length == 0 ? all.Text : all.Text[..ends.MinBy(end => end.At + end.Stop.Length).At], completion.Text);
        }
    }

    [Fact]
    public async Task Cached_tokens_are_reported_and_a_salt_keeps_them_apart()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, 0);
        int[] prompt = [.. Enumerable.Range(100, 50)];
        async Task<int> Cached(string? salt)
        {
            var completion = await model.CompleteAsync(prompt, new() { MaxTokens = 3, CacheSalt = salt }, Cancellation);
            Assert.Equal(50, completion.PromptTokens);
            return completion.CachedTokens;
        }

        // Full blocks of 16.
        Assert.Equal(0, await Cached(null));
        Assert.Equal(48, await Cached(null));
        Assert.Equal(0, await Cached("tenant"));
        Assert.Equal(48, await Cached("tenant"));
        Assert.Equal(48, (await model.GenerateAsync(prompt, new() { MaxTokens = 1 }, Cancellation).ToListAsync(Cancellation))[0].CachedTokens);
    }

    [Fact]
    public async Task Several_choices_are_not_taken_for_one()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, 0);
        var error = await Assert.ThrowsAsync<ArgumentException>(() => model.CompleteAsync([40], new() { Choices = 2 }, Cancellation));
        Assert.Contains("CompleteAllAsync", error.Message, StringComparison.Ordinal);
    }

    private static LanguageModel Load(Device device, int proposals) =>
        LanguageModel.Load(TinyModel.Directory, device, new() { KvCacheTokens = 2048, KvBlockSize = 16, MaxSequences = 8, Speculate = proposals });

    private static async Task<long> PromptTokens(Func<Task> run)
    {
        long total = 0;
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == "octet.prompt_tokens")
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((_, count, _, _) => Interlocked.Add(ref total, count));
        listener.Start();
        await run();
        return total;
    }
}
