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
    private readonly Lock _modelLock;
    private readonly Qwen3MoeForward _forward;
    private readonly PagedKvCache _cache;
    private readonly Batch _batch;
    private readonly Sampler _sampler;
    private readonly int _prefillChunk;
    private readonly int _maxBatch;
    private readonly Queue<Request> _waiting = new();
    private readonly List<Request> _running = [];
    private readonly SemaphoreSlim _work = new(0);
    private Thread? _thread;
    private volatile bool _stopping;

    public Generator(
        Lock modelLock, Device device, Qwen3MoeForward forward, PagedKvCache cache, Batch batch, int prefillChunk, int maxBatch)
    {
        (_modelLock, _forward, _cache, _batch, _prefillChunk, _maxBatch) = (modelLock, forward, cache, batch, prefillChunk, maxBatch);
        _sampler = new Sampler(device, maxBatch);
    }

    /// <summary>Queues a request; its tokens appear in its output.</summary>
    public void Submit(Request request)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, typeof(Qwen3Moe));
            _waiting.Enqueue(request);
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
        _sampler.Dispose();
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
        Admit(limit: int.MaxValue);
        foreach (var request in _running.ToArray())
        {
            Finish(request, stopped);
        }

        while (_waiting.TryDequeue(out var request))
        {
            request.Output.Writer.TryComplete(stopped);
        }
    }

    private bool HasWork()
    {
        lock (_lock)
        {
            return _running.Count + _waiting.Count > 0;
        }
    }

    private void Step()
    {
        foreach (var request in _running.Where(r => r.IsAbandoned).ToArray())
        {
            Finish(request, null);
        }

        Admit(_maxBatch);
        RunBatch("prefill", PickPrefill);
        RunBatch("decode", PickDecode);
    }

    private void Admit(int limit)
    {
        lock (_lock)
        {
            while (_running.Count < limit && _waiting.TryPeek(out var request)
                && _cache.TryTake(_cache.BlocksFor(request.Capacity), out var blocks))
            {
                _waiting.Dequeue();
                request.Sequence = new Sequence(request.Prompt, blocks);
                _running.Add(request);
            }
        }
    }

    // The prompts' next tokens, oldest request first, up to a chunk in all.
    private IEnumerable<(Request Request, int Count)> PickPrefill()
    {
        var room = _prefillChunk;
        foreach (var request in _running)
        {
            var unread = request.Prompt.Length - request.Sequence!.Cached;
            if (unread > 0 && room > 0)
            {
                var count = Math.Min(unread, room);
                room -= count;
                yield return (request, count);
            }
        }
    }

    private IEnumerable<(Request Request, int Count)> PickDecode() =>
        _running.Where(r => r.Sequence!.Cached >= r.Prompt.Length).Select(r => (r, 1));

    private void RunBatch(string kind, Func<IEnumerable<(Request Request, int Count)>> pick)
    {
        (Request Request, int Count)[] picked = [.. pick()];
        if (picked.Length == 0)
        {
            return;
        }

        try
        {
            var start = Stopwatch.GetTimestamp();
            var tokens = Advance(picked);
            Telemetry.StepDuration.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, new KeyValuePair<string, object?>("kind", kind));
            Telemetry.PromptTokens.Add(kind == "prefill" ? picked.Sum(p => p.Count) : 0);
            Telemetry.GeneratedTokens.Add(tokens.Length);
            foreach (var (request, token) in tokens)
            {
                Deliver(request, token);
            }
        }
        catch (Exception error)
        {
            // The requests of this step learn what went wrong; the others go on.
            foreach (var (request, _) in picked)
            {
                Finish(request, error);
            }
        }
    }

    // Reads the picked tokens; gives the next token of every request whose prompt is read.
    private (Request Request, int Token)[] Advance((Request Request, int Count)[] picked)
    {
        _batch.Clear();
        foreach (var (request, count) in picked)
        {
            _batch.Add(request.Sequence!, count);
        }

        _batch.Upload();
        _forward.Run(_batch);
        _batch.Commit();

        int[] ready = [.. Enumerable.Range(0, picked.Length).Where(i => picked[i].Request.Sequence!.Pending == 0)];
        if (ready.Length == 0)
        {
            _batch.Synchronize();
            return [];
        }

        Request[] requests = [.. ready.Select(i => picked[i].Request)];
        var logits = _forward.Head(_batch, [.. ready.Select(_batch.LastRow)]);
        var tokens = _sampler.Sample(logits, requests);
        return [.. requests.Zip(tokens)];
    }

    private void Deliver(Request request, int token)
    {
        var sequence = request.Sequence!;
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
            _running.Remove(request);
        }

        _cache.Return(request.Sequence!.Blocks);
        request.Output.Writer.TryComplete(error);
    }
}
