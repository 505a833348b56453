using Octet.Inference.Engine;

namespace Octet.Inference.Parallel;

/// <summary>
/// The engines of a model's data parallel groups, each with a KV cache and a scheduler of its own: a request goes to one of them and stays
/// there. A group whose devices are lost takes no more; the others go on. Thread-safe.
/// </summary>
internal sealed class EngineGroup : IDisposable
{
    private readonly Lock _lock = new();
    private readonly IReadOnlyList<Engine.Engine> _engines;
    private readonly RequestRouter _router;
    private readonly int _maxSequences;
    private readonly int? _maxQueue;
    private readonly long[] _outstanding;
    private bool _disposed;

    /// <param name="engines">One for each data parallel group.</param>
    /// <param name="router">Chooses among them.</param>
    /// <param name="maxSequences">Sequences that run together on each.</param>
    /// <param name="maxQueue">Requests that may wait beyond those, over all; null: any number.</param>
    public EngineGroup(IReadOnlyList<Engine.Engine> engines, RequestRouter router, int maxSequences, int? maxQueue)
    {
        (_engines, _router, _maxSequences, _maxQueue) = (engines, router, maxSequences, maxQueue);
        _outstanding = new long[engines.Count];
    }

    /// <summary>What was done so far, by all groups.</summary>
    public EngineStatistics Statistics => _engines.Aggregate(default(EngineStatistics), (sum, engine) => sum.Plus(engine.Statistics));

    /// <summary>What each group does at the moment.</summary>
    public EngineLoad[] Loads => [.. _engines.Select(engine => engine.Load)];

    /// <summary>Queues requests on one group: one, or several whose texts begin with the prompt of the first.</summary>
    /// <exception cref="QueueFullException">As many run and wait as may.</exception>
    /// <exception cref="ObjectDisposedException">The model is disposed.</exception>
    /// <exception cref="OctetException">The devices of all groups are lost.</exception>
    public void Submit(params ReadOnlySpan<Request> requests)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, typeof(Models.LanguageModel));
            CheckQueue(requests);
            for (var group = 0; group < _engines.Count; group++)
            {
                _outstanding[group] = _engines[group].Lost is null ? _engines[group].Outstanding : RequestRouter.Lost;
            }

            var chosen = _router.Route(requests[0].Sequence, _outstanding);
            if (chosen < 0)
            {
                throw _engines[0].Lost!;
            }

            _engines[chosen].Submit(requests);
        }
    }

    /// <summary>Stops all engines after the step at hand.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
        }

        foreach (var engine in _engines)
        {
            engine.Dispose();
        }
    }

    private void CheckQueue(ReadOnlySpan<Request> requests)
    {
        if (_maxQueue is not { } maxQueue || !requests[0].IsBounded)
        {
            return;
        }

        var (open, groups) = (0L, 0);
        foreach (var engine in _engines)
        {
            open += engine.Open;
            groups += engine.Lost is null ? 1 : 0;
        }

        if (groups > 0 && open + requests.Length > (long)groups * _maxSequences + maxQueue)
        {
            throw new QueueFullException(_maxSequences, groups, maxQueue);
        }
    }
}
