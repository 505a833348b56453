using System.Diagnostics;
using Octet.Inference.Models;

namespace Octet.Inference.Engine;

/// <summary>
/// Continues many texts at once on a thread of its own. A step admits waiting requests while there are KV blocks for all of
/// what they may need, reads one chunk of the prompts that are not read yet, then gives every text that is one more token.
/// </summary>
internal sealed class Generator : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Device _device;
    private readonly Lock _modelLock;
    private readonly Qwen3MoeForward _forward;
    private readonly PagedKvCache _cache;
    private readonly Batch _batch;
    private readonly Sampler _sampler;
    private readonly DecodeGraphs? _graphs;
    private readonly Action _decode;
    private readonly int _prefillChunk;
    private readonly int _maxBatch;
    private readonly int? _maxQueue;
    private readonly List<Request> _waiting = [];
    private readonly List<Request> _running = [];
    private readonly SemaphoreSlim _work = new(0);

    // The requests of a step, how many tokens each reads, and the tokens drawn: kept, so that a step of decode allocates nothing.
    private readonly List<(Request Request, int Count)> _picked = [];
    private readonly List<int> _ready = [];
    private readonly int[] _tokens;
    private Thread? _thread;
    private volatile bool _stopping;

    /// <param name="device">Where the model is.</param>
    /// <param name="modelLock">Held during a step.</param>
    /// <param name="forward">The model.</param>
    /// <param name="cache">Where requests get their KV blocks.</param>
    /// <param name="batch">Filled for every step.</param>
    /// <param name="sampler">Draws the tokens.</param>
    /// <param name="graphs">Records the steps of decode; null: they run eagerly.</param>
    /// <param name="prefillChunk">Prompt tokens read in one step.</param>
    /// <param name="maxBatch">Requests continued together.</param>
    /// <param name="maxQueue">Requests that may wait beyond those; null: any number.</param>
    public Generator(
        Device device, Lock modelLock, Qwen3MoeForward forward, PagedKvCache cache, Batch batch, Sampler sampler, DecodeGraphs? graphs,
        int prefillChunk, int maxBatch, int? maxQueue)
    {
        (_device, _modelLock, _forward, _cache) = (device, modelLock, forward, cache);
        (_batch, _sampler, _graphs) = (batch, sampler, graphs);
        (_prefillChunk, _maxBatch, _maxQueue) = (prefillChunk, maxBatch, maxQueue);
        _tokens = new int[DecodeGraphs.RowBucket(maxBatch)];
        _decode = Decode;
    }

    /// <summary>Queues a request; its tokens appear in its output.</summary>
    /// <exception cref="QueueFullException">As many are generated and waiting as may be.</exception>
    public void Submit(Request request)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, typeof(Qwen3Moe));
            if (_maxQueue is { } maxQueue && IsFull((long)_maxBatch + maxQueue))
            {
                throw new QueueFullException(_maxBatch, maxQueue);
            }

            _waiting.Add(request);
            if (_thread is null)
            {
                _thread = new Thread(Run) { IsBackground = true, Name = "Octet generator" };
                _thread.Start();
            }
        }

        _work.Release();
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _stopping = true;
        }

        _work.Release();
        _thread?.Join();
        _work.Dispose();
    }

    private void Run()
    {
        while (!_stopping)
        {
            if (!HasWork())
            {
                _work.Wait();
                continue;
            }

            lock (_modelLock)
            {
                Step();
            }
        }

        var stopped = new ObjectDisposedException(nameof(Qwen3Moe), "the model was disposed while a text was being generated");
        foreach (var request in _running.ToArray())
        {
            Finish(request, stopped);
        }

        foreach (var request in _waiting)
        {
            request.Cancel(stopped);
        }
    }

    private bool HasWork()
    {
        lock (_lock)
        {
            return _running.Count + _waiting.Count > 0;
        }
    }

    // Those that were cancelled count no more, though their turn to be dropped is the next step.
    private bool IsFull(long limit) =>
        _running.Count + _waiting.Count >= limit
        && _running.Count(request => !request.IsCancelled) + _waiting.Count(request => !request.IsCancelled) >= limit;

    private void Step()
    {
        DropCancelled();
        Admit();
        PickPrefill();
        RunPicked("prefill");
        PickDecode();
        RunPicked("decode");
    }

    // Before anything is done for them, wherever they stand in the queue: nobody waits behind a request that nobody wants.
    private void DropCancelled()
    {
        for (var i = _running.Count - 1; i >= 0; i--)
        {
            if (_running[i].IsCancelled)
            {
                Finish(_running[i], null);
            }
        }

        lock (_lock)
        {
            _waiting.RemoveAll(static request => request.IsCancelled);
        }
    }

    // Strictly in the order they came: one whose blocks are not free yet waits for those before it, and none after it overtakes.
    private void Admit()
    {
        lock (_lock)
        {
            while (_running.Count < _maxBatch && _waiting is [var request, ..]
                && _cache.TryTake(_cache.BlocksFor(request.Capacity), out var blocks))
            {
                _waiting.RemoveAt(0);
                request.Sequence = new Sequence(request.Prompt, request.Capacity, blocks);
                _running.Add(request);
            }
        }
    }

    // The prompts' next tokens, oldest request first, up to a chunk in all.
    private void PickPrefill()
    {
        _picked.Clear();
        var room = _prefillChunk;
        foreach (var request in _running)
        {
            var count = Math.Min(request.Prompt.Length - request.Sequence!.Cached, room);
            if (count > 0)
            {
                room -= count;
                _picked.Add((request, count));
            }
        }
    }

    private void PickDecode()
    {
        _picked.Clear();
        foreach (var request in _running)
        {
            if (request.Sequence!.Cached >= request.Prompt.Length)
            {
                _picked.Add((request, 1));
            }
        }
    }

    private void RunPicked(string kind)
    {
        if (_picked.Count == 0)
        {
            return;
        }

        try
        {
            var start = Stopwatch.GetTimestamp();
            Advance(kind == "decode");
            Telemetry.StepDuration.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, new KeyValuePair<string, object?>("kind", kind));
            Telemetry.PromptTokens.Add(kind == "prefill" ? _batch.Tokens : 0);
            Telemetry.GeneratedTokens.Add(_ready.Count);
            for (var i = 0; i < _ready.Count; i++)
            {
                Deliver(_picked[_ready[i]].Request, _tokens[i]);
            }
        }
        catch (Exception error)
        {
            // The requests of this step learn what went wrong; the others go on.
            foreach (var (request, _) in _picked)
            {
                Finish(request, error);
            }
        }
    }

    // Reads the picked tokens; _ready then names those of the picked whose prompt is read, _tokens has the next token of each.
    private void Advance(bool decode)
    {
        _ready.Clear();
        _batch.Clear();
        foreach (var (request, count) in _picked)
        {
            if (request.Sequence!.Pending == count)
            {
                _sampler.Set(_ready.Count, request);
                _ready.Add(_batch.Count);
            }

            _batch.Add(request.Sequence, count);
        }

        if (decode)
        {
            AdvanceDecode();
            return;
        }

        _batch.Upload();
        _sampler.Upload();
        _forward.Run(_batch);
        _batch.Commit();
        if (_ready.Count == 0)
        {
            _batch.Synchronize();
            return;
        }

        _sampler.Sample(_forward.Head(_batch, [.. _ready.Select(_batch.LastRow)]));
        _sampler.Read(_tokens.AsSpan(0, _ready.Count));
    }

    // One token of each: every row's logits are wanted, in order.
    private void AdvanceDecode()
    {
        if (_graphs is not null && _graphs.Covers(_batch.Count))
        {
            var (rows, context) = (DecodeGraphs.RowBucket(_batch.Count), _graphs.ContextBucket(_batch.MaxContext));
            for (var row = _batch.Count; row < rows; row++)
            {
                _sampler.SetPadding(row);
            }

            _batch.Pad(rows, context);
            _batch.Upload();
            _sampler.Upload();
            _graphs.Run(rows, context, _decode);
        }
        else
        {
            _batch.Upload();
            _sampler.Upload();
            _decode();
        }

        _sampler.Read(_tokens.AsSpan(0, _batch.Count));
        _batch.Commit();
    }

    private void Decode()
    {
        _forward.Run(_batch);
        _sampler.Sample(_forward.Head(_batch));
    }

    private void Deliver(Request request, int token)
    {
        var sequence = request.Sequence!;
        if (token < 0)
        {
            Finish(request, FiniteLogits.NoToken(sequence.Tokens.Count - 1, _device));
            return;
        }

        sequence.Tokens.Add(token);
        request.Output.Writer.TryWrite(token);
        if (request.EndTokens.Contains(token) || sequence.Tokens.Count - request.Prompt.Length >= request.MaxTokens)
        {
            Finish(request, null);
        }
    }

    private void Finish(Request request, Exception? error)
    {
        lock (_lock)
        {
            // A step that fails may have ended some of its requests already.
            if (!_running.Remove(request))
            {
                return;
            }
        }

        _cache.Return(request.Sequence!.Blocks);
        request.Output.Writer.TryComplete(error);
    }
}
