using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Parallel;

/// <summary>The small model on several groups of one device or two each: every text is the one it is alone.</summary>
public sealed class DataParallelTests
{
    private const int Block = 16;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("cpu*2", 2, 1)]
    [InlineData("cpu:fnuz*4", 4, 1)]
    [InlineData("cpu*4", 2, 2)]
    public async Task Sixteen_texts_at_once_have_the_tokens_they_have_alone(string name, int groups, int ranks)
    {
        using var devices = DeviceGroup.Open(name);
        using var model = Load(devices, groups, ranks: ranks);
        using var alone = LanguageModel.Load(TinyModel.Directory, devices.Devices[0], new() { KvCacheTokens = 1024, PrefixCache = false });
        var texts = Enumerable.Range(0, 16).Select(i => (
            Prompt: Enumerable.Range(0, 5 + i * 7).Select(at => at < 20 ? 40 + at : (i * 31 + at * 7) % 1000).ToArray(),
            Options: new GenerationOptions { MaxTokens = 24, Temperature = i % 2, Seed = i, Choices = i == 5 ? 3 : 1, IgnoreEndOfText = true })).ToArray();
        var together = await Task.WhenAll(texts.Select(text => model.CompleteAllAsync(text.Prompt, text.Options, Cancellation)));
        foreach (var (text, completions) in texts.Zip(together))
        {
            var expected = await alone.CompleteAllAsync(text.Prompt, text.Options, Cancellation);
            Assert.Equal(expected.Select(completion => completion.Ids), completions.Select(completion => completion.Ids));
        }

        Assert.All(model.Replicas, replica => Assert.Equal(0, replica.Engine.Open));
    }

    [Theory]
    [InlineData("cpu*2", 1)]
    [InlineData("cpu*4", 2)]
    public async Task A_common_beginning_is_computed_once_by_each_group_that_serves_it(string name, int ranks)
    {
        using var devices = DeviceGroup.Open(name);
        using var model = Load(devices, 2, ranks: ranks);
        int[] common = [.. Enumerable.Range(0, 8 * Block).Select(i => i * 7 % 1000)];
        var first = await Complete(0);
        var rest = await Task.WhenAll(Enumerable.Range(1, 15).Select(Complete));

        // The first group had the beginning; the second takes texts when the first has eight steps' token budgets more to do than it, and
        // computes the beginning for the first of them.
        var cached = rest.Append(first).Select(text => text.CachedTokens).Order().ToArray();
        Assert.Equal([0, 0, .. Enumerable.Repeat(common.Length, 14)], cached);
        Assert.Equal((2 * common.Length + 16 * 2, 14 * common.Length), (model.Statistics.PromptTokens, model.Statistics.CachedTokens));

        Task<Completion> Complete(int text) =>
            model.CompleteAsync([.. common, 1000 - text, 5], new() { MaxTokens = 24, IgnoreEndOfText = true }, Cancellation);
    }

    [Theory]
    [InlineData("cpu*2", 1)]
    [InlineData("cpu*4", 2)]
    public async Task Sessions_and_their_forks_and_evaluations_have_the_logits_they_have_on_one_device(string name, int ranks)
    {
        using var devices = DeviceGroup.Open(name);
        using var model = Load(devices, 2, ranks: ranks);
        using var alone = LanguageModel.Load(TinyModel.Directory, devices.Devices[0], new() { TokenBudget = Block, KvCacheTokens = 1024 });
        int[] ids = [.. Enumerable.Range(40, 30)];
        for (var i = 0; i < 4; i++)
        {
            using var session = model.OpenSession();
            using var expected = alone.OpenSession();
            Assert.Equal((await expected.AppendAsync(ids, Cancellation)).ToArray(), (await session.AppendAsync(ids, Cancellation)).ToArray());
            using var fork = session.Fork();
            Assert.Equal((await expected.AppendAsync(7, Cancellation)).ToArray(), (await fork.AppendAsync(7, Cancellation)).ToArray());
            session.Rewind(20);
            expected.Rewind(20);
            Assert.Equal((await expected.AppendAsync(8, Cancellation)).ToArray(), (await session.AppendAsync(8, Cancellation)).ToArray());
            Assert.Equal(TinyModel.Logits(alone, ids), TinyModel.Logits(model, ids));
        }

        int[] text = [.. Enumerable.Range(0, 200)];
        Assert.Equal(alone.Perplexity(text, 50, cancellation: Cancellation), model.Perplexity(text, 50, cancellation: Cancellation));
    }

    [Fact]
    public async Task Cancelled_texts_leave_their_groups_and_a_disposed_model_ends_all_and_frees_everything()
    {
        using var devices = DeviceGroup.Open("cpu*2");
        using (var model = Load(devices, 2))
        {
            using var source = new CancellationTokenSource();
            var cancelled = Enumerable.Range(0, 8).Select(i => Complete(i, 900, source.Token)).ToArray();
            var kept = Enumerable.Range(0, 8).Select(i => Complete(100 + i, 20, Cancellation)).ToArray();
            await Task.WhenAll(kept[..2]);
            await source.CancelAsync();
            Assert.All(await Task.WhenAll(cancelled), text => Assert.Equal(FinishReason.Cancelled, text.FinishReason));
            Assert.All(await Task.WhenAll(kept), text => Assert.Equal(20, text.Ids.Count));

            var ended = Enumerable.Range(0, 8).Select(i => Complete(i, 900, Cancellation)).ToArray();
            model.Dispose();
            foreach (var text in ended)
            {
                await Assert.ThrowsAsync<ObjectDisposedException>(() => text);
            }

            Task<Completion> Complete(int id, int tokens, CancellationToken cancellation) =>
                model.CompleteAsync([id], new() { MaxTokens = tokens, IgnoreEndOfText = true }, cancellation);
        }

        Assert.Equal(0, devices.LiveBytes);
    }

    [Fact]
    public void Loading_reports_all_groups_and_leaves_nothing_where_it_is_stopped()
    {
        using var devices = DeviceGroup.Open("cpu:fnuz*2");
        var reports = new Reports();
        Load(devices, 2, reports).Dispose();
        Assert.True(reports.Seen.Zip(reports.Seen.Skip(1)).All(pair => pair.First.LoadedBytes <= pair.Second.LoadedBytes));
        Assert.Single(reports.Seen.Select(report => report.TotalBytes).Distinct());
        Assert.Equal(reports.Seen[^1].TotalBytes, reports.Seen[^1].LoadedBytes);

        using var source = new CancellationTokenSource();
        var stops = new Reports { Reported = report => { if (report.LoadedBytes > report.TotalBytes * 3 / 4) { source.Cancel(); } } };
        Assert.ThrowsAny<OperationCanceledException>(() => Load(devices, 2, stops, cancellation: source.Token));
        Assert.Equal(0, devices.LiveBytes);
    }

    private static LanguageModel Load(
        DeviceGroup devices, int groups, IProgress<LoadProgress>? progress = null, int ranks = 1, CancellationToken cancellation = default) =>
        LanguageModel.Load(
            TinyModel.Directory, devices,
            new()
            {
                DataParallel = groups, TensorParallel = ranks, ExpertParallel = ranks, TokenBudget = Block, MaxSequences = 8, KvCacheTokens = 1024,
                KvBlockSize = Block,
            },
            progress, cancellation);

    private sealed class Reports : IProgress<LoadProgress>
    {
        public List<LoadProgress> Seen { get; } = [];

        public Action<LoadProgress> Reported { get; init; } = _ => { };

        public void Report(LoadProgress value)
        {
            Seen.Add(value);
            Reported(value);
        }
    }
}
