using System.Diagnostics.Metrics;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>
/// Who is read when, measured in prompt tokens and not in time. Runs alone: the meter counts the tokens of the whole process.
/// A call of Logits holds the model, so what is asked for and cancelled meanwhile lies in the queue until it returns.
/// </summary>
[CollectionDefinition(nameof(QueueTests), DisableParallelization = true)]
[Collection(nameof(QueueTests))]
public sealed class QueueTests : IDisposable
{
    private const int Chunk = 16;

    private readonly Device _device = Device.Open("cpu");
    private readonly MeterListener _listener = new();
    private long _promptTokens;
    private Action<long> _stepped = _ => { };

    public QueueTests()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument is { Meter.Name: "Octet", Name: "octet.prompt_tokens" })
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((_, count, _, _) => _stepped(Interlocked.Add(ref _promptTokens, count)));
        _listener.Start();
    }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _listener.Dispose();
        _device.Dispose();
    }

    [Fact]
    public async Task Requests_cancelled_while_queued_cost_no_prompt_token()
    {
        using var model = Load();
        using var source = new CancellationTokenSource();
        var cancelled = new List<Task>();
        Task<Completion>? next = null;
        model.Logits([1], (_, _) =>
        {
            for (var i = 0; i < 200; i++)
            {
                cancelled.Add(Assert.ThrowsAnyAsync<OperationCanceledException>(() => Text(model, 500, source.Token)));
            }

            source.Cancel();
            next = model.CompleteAsync(new int[7], new() { MaxTokens = 1 }, Cancellation);
        }, cancellation: Cancellation);
        Assert.NotNull(await next!);
        await Task.WhenAll(cancelled);
        Assert.Equal(7, _promptTokens);
    }

    [Fact]
    public async Task A_request_cancelled_before_it_is_asked_for_is_never_queued()
    {
        using var model = Load();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Text(model, 500, new CancellationToken(canceled: true)));
        await model.CompleteAsync(new int[7], new() { MaxTokens = 1 }, Cancellation);
        Assert.Equal(7, _promptTokens);
    }

    // The whole cache is the first one's, so that the second can only follow when its blocks are back.
    [Fact]
    public async Task A_request_cancelled_amid_its_prompt_gives_its_blocks_back_within_a_step()
    {
        using var model = Load(tokens: 1024);
        using var source = new CancellationTokenSource();
        _stepped = total =>
        {
            if (total >= 3 * Chunk)
            {
                source.Cancel();
            }
        };
        var first = Assert.ThrowsAnyAsync<OperationCanceledException>(() => Text(model, 1000, source.Token, 24));
        var second = model.CompleteAsync(new int[7], new() { MaxTokens = 1000 }, Cancellation);
        await first;
        Assert.NotNull(await second);
        Assert.Equal(3 * Chunk + 7, _promptTokens);
    }

    [Fact]
    public async Task A_request_cancelled_amid_its_text_gives_its_blocks_back()
    {
        using var model = Load(tokens: 1024);
        using var source = new CancellationTokenSource();
        var tokens = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var _ in model.GenerateAsync([1], new() { MaxTokens = 1023, IgnoreEndOfText = true }, source.Token))
            {
                if (++tokens == 3)
                {
                    await source.CancelAsync();
                }
            }
        });
        Assert.Equal(3, tokens);
        Assert.Equal(1000, (await model.CompleteAsync([1], new() { MaxTokens = 1000, IgnoreEndOfText = true }, Cancellation)).Ids.Count);
    }

    // Small requests keep coming and would always fit; the large one, which came first, still is the first of them to be read.
    [Fact]
    public async Task A_request_that_does_not_fit_yet_is_not_overtaken()
    {
        using var model = Load(tokens: 1024);
        var order = new List<string>();
        async Task Follow(string name, int prompt, int tokens)
        {
            var first = true;
            await foreach (var _ in model.GenerateAsync(new int[prompt], new() { MaxTokens = tokens, IgnoreEndOfText = true }, Cancellation))
            {
                if (first)
                {
                    lock (order)
                    {
                        order.Add(name);
                    }
                }

                first = false;
            }
        }

        var texts = new List<Task>();
        model.Logits([1], (_, _) =>
        {
            texts.Add(Follow("running", 4, 60));
            texts.Add(Follow("large", 800, 200));
            for (var i = 0; i < 10; i++)
            {
                texts.Add(Follow("small", 4, 4));
            }
        }, cancellation: Cancellation);
        await Task.WhenAll(texts);
        Assert.Equal(["running", "large"], order[..2]);
        Assert.Equal(12, order.Count);
    }

    [Fact]
    public async Task A_full_queue_refuses_the_next_request_and_takes_one_when_there_is_room_again()
    {
        using var model = Load(batch: 2, queue: 3);
        using var source = new CancellationTokenSource();
        var texts = new List<Task<Completion>>();
        Task<Completion>? cancelled = null, refused = null;
        model.Logits([1], (_, _) =>
        {
            texts.AddRange(Enumerable.Range(0, 4).Select(_ => Complete(Cancellation)));
            cancelled = Complete(source.Token);
            refused = Complete(Cancellation);
            source.Cancel();
            texts.Add(Complete(Cancellation)); // in the place of the cancelled one
        }, cancellation: Cancellation);
        Assert.Contains("3 may wait (MaxQueue)", (await Assert.ThrowsAsync<QueueFullException>(() => refused!)).Message, StringComparison.Ordinal);
        Assert.Equal(FinishReason.Cancelled, (await cancelled!).FinishReason);
        Assert.All(await Task.WhenAll(texts), text => Assert.Equal(5, text.Ids.Count));
        Assert.Equal(5, (await Complete(Cancellation)).Ids.Count);

        Task<Completion> Complete(CancellationToken cancellation) =>
            model.CompleteAsync([1, 2, 3], new() { MaxTokens = 5, IgnoreEndOfText = true }, cancellation);
    }

    [Fact]
    public async Task A_queue_of_none_takes_as_many_as_are_generated_together()
    {
        using var model = Load(batch: 2, queue: 0);
        var texts = new List<Task<Completion>>();
        model.Logits([1], (_, _) =>
            texts.AddRange(Enumerable.Range(1, 3).Select(id => model.CompleteAsync([id], new() { MaxTokens = 2 }, Cancellation))),
            cancellation: Cancellation);
        await Task.WhenAll(texts[..2]);
        await Assert.ThrowsAsync<QueueFullException>(() => texts[2]);
        Assert.Throws<ArgumentException>(() => Load(queue: -1));
    }

    [Fact]
    public async Task The_meter_counts_the_tokens_of_all_groups()
    {
        using var devices = DeviceGroup.Open("cpu*2");
        using var model = LanguageModel.Load(TinyModel.Directory, devices, new() { DataParallel = 2, TokenBudget = Chunk, MaxSequences = 8, KvCacheTokens = 1024 });
        await Task.WhenAll(Enumerable.Range(0, 8).Select(i => model.CompleteAsync([i, 1, 2, 3, 4, 5, 6], new() { MaxTokens = 2 }, Cancellation)));
        Assert.Equal(8 * 7, _promptTokens);
    }

    private static async Task Text(LanguageModel model, int prompt, CancellationToken cancellation, int tokens = 4)
    {
        await foreach (var _ in model.GenerateAsync(new int[prompt], new() { MaxTokens = tokens }, cancellation))
        {
        }
    }

    private LanguageModel Load(int tokens = 4096, int batch = 8, int? queue = null) => LanguageModel.Load(
        TinyModel.Directory, _device, new() { TokenBudget = Chunk, MaxSequences = batch, MaxQueue = queue, KvCacheTokens = tokens });
}
