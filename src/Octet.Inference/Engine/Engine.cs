using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>
/// Serves any number of requests on a thread of its own: a step is scheduled, run, committed, and then what it gave is delivered, never
/// before. That thread alone touches scheduler, sequences and runner; requests come in through an inbox.
/// </summary>
internal sealed class Engine : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Device _device;
    private readonly Scheduler _scheduler;
    private readonly ModelRunner _runner;
    private readonly int _maxSequences;
    private readonly int? _maxQueue;
    private readonly SemaphoreSlim _work = new(0);
    private readonly List<Request> _inbox = [];
    private readonly List<Action<Scheduler>> _posted = [];

    // Of the engine's thread.
    private readonly List<Request> _requests = [];
    private readonly List<Request> _arrived = [];
    private readonly List<Action<Scheduler>> _commands = [];
    private readonly List<(GenerationRequest Request, GeneratedToken Token)> _drawn = [];
    private readonly float[] _logits;
    private int[] _accepted = new int[64];

    private EngineStatistics _statistics;
    private Thread? _thread;
    private int _open;
    private volatile bool _stopping;

    /// <param name="device">Where the model is.</param>
    /// <param name="scheduler">The policy.</param>
    /// <param name="runner">The model.</param>
    /// <param name="maxSequences">Sequences that run together.</param>
    /// <param name="maxQueue">Requests that may wait beyond those; null: any number.</param>
    /// <param name="logits">Elements of the rows of logits that are read at once.</param>
    public Engine(Device device, Scheduler scheduler, ModelRunner runner, int maxSequences, int? maxQueue, int logits)
    {
        (_device, _scheduler, _runner, _maxSequences, _maxQueue) = (device, scheduler, runner, maxSequences, maxQueue);
        _logits = new float[logits];
    }

    /// <summary>What was done so far.</summary>
    public EngineStatistics Statistics
    {
        get
        {
            lock (_lock)
            {
                return _statistics;
            }
        }
    }

    /// <summary>Queues requests: one, or several whose texts begin with the prompt of the first.</summary>
    /// <exception cref="QueueFullException">As many run and wait as may.</exception>
    /// <exception cref="ObjectDisposedException">The engine has stopped.</exception>
    public void Submit(params ReadOnlySpan<Request> requests)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, typeof(Models.LanguageModel));
            if (_maxQueue is { } maxQueue && requests[0].IsBounded && Volatile.Read(ref _open) + requests.Length > (long)_maxSequences + maxQueue)
            {
                throw new QueueFullException(_maxSequences, maxQueue);
            }

            foreach (var request in requests)
            {
                Interlocked.Add(ref _open, request.IsBounded ? 1 : 0);
                request.Ended = Leave;
                request.Sequence.Owner = request;
                _inbox.Add(request);
            }

            if (_thread is null)
            {
                _thread = new Thread(Run) { IsBackground = true, Name = "Octet engine" };
                _thread.Start();
            }
        }

        _work.Release();
    }

    /// <summary>Has something done on the engine's thread before the next step, behind what was asked for before.</summary>
    public void Post(Action<Scheduler> command)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, typeof(Models.LanguageModel));
            _posted.Add(command);
        }

        _work.Release();
    }

    /// <summary>Lets a text that waits for its owner begin as another one is so far.</summary>
    public void Fork(SteppedRequest parent, SteppedRequest child)
    {
        child.Sequence.Owner = child;
        child.Ended = Leave;
        Post(scheduler =>
        {
            if (parent.HasEnded || parent.Sequence.Status != SequenceStatus.Paused)
            {
                child.End(new ObjectDisposedException(nameof(TextSession), "the text to fork has ended"));
                return;
            }

            _runner.Fork(parent.Sequence, child.Sequence);
            scheduler.Fork(parent.Sequence, child.Sequence);
            _requests.Add(child);
        });
    }

    /// <summary>Stops after the step at hand: texts that are being continued end with an error, those that are evaluated are first brought to their end.</summary>
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

    // A request that ends while nothing runs still holds blocks that others may wait for.
    private void Leave(Request request)
    {
        Interlocked.Add(ref _open, request.IsBounded ? -1 : 0);
        lock (_lock)
        {
            if (!_stopping)
            {
                _work.Release();
            }
        }
    }

    private void Run()
    {
        while (!_stopping)
        {
            DropEnded();
            TakeArrived();
            if (!Step())
            {
                _work.Wait();
            }
        }

        // Texts end here; what is evaluated for somebody who waits is brought to its end.
        TakeArrived();
        var stopped = new ObjectDisposedException(nameof(Models.LanguageModel), "the model was disposed while a text was being generated");
        foreach (var request in _requests)
        {
            if (request is not EvaluationRequest)
            {
                request.End(stopped);
            }
        }

        do
        {
            DropEnded();
        }
        while (Step());
    }

    // Before anything is done for them, wherever they stand: nobody waits behind a request that nobody wants.
    private void DropEnded()
    {
        var kept = 0;
        for (var i = 0; i < _requests.Count; i++)
        {
            if (_requests[i].HasEnded)
            {
                _scheduler.Remove(_requests[i].Sequence);
                _runner.Forget(_requests[i].Sequence);
            }
            else
            {
                _requests[kept++] = _requests[i];
            }
        }

        _requests.RemoveRange(kept, _requests.Count - kept);
    }

    private void TakeInbox()
    {
        lock (_lock)
        {
            _arrived.AddRange(_inbox);
            _inbox.Clear();
            _commands.AddRange(_posted);
            _posted.Clear();
        }
    }

    private void TakeArrived()
    {
        TakeInbox();
        foreach (var request in _arrived)
        {
            if (request.HasEnded)
            {
                continue;
            }

            try
            {
                // A sibling begins with the first of its kind.
                if (!request.Sequence.IsSibling)
                {
                    _scheduler.Add(request.Sequence);
                }

                _requests.Add(request);
            }
            catch (ArgumentException error)
            {
                Fail(request.Sequence, error);
            }
        }

        _arrived.Clear();
        foreach (var command in _commands)
        {
            command(_scheduler);
        }

        _commands.Clear();
    }

    private bool Step()
    {
        StepPlan? plan = null;
        try
        {
            plan = _scheduler.Schedule();
            if (plan is null)
            {
                return false;
            }

            var start = Stopwatch.GetTimestamp();
            _runner.Run(plan);
            Accept(plan);
            _scheduler.Commit(plan, _accepted.AsSpan(0, plan.Rows.Count));
            Count(plan, Stopwatch.GetElapsedTime(start));
            Deliver(plan);
        }
        catch (Exception error)
        {
            Fail(plan, error);
        }

        return true;
    }

    // The texts of a step that failed learn what went wrong, and those whose blocks were on their way; the others go on. Where no step could
    // be decided, all end.
    private void Fail(StepPlan? plan, Exception error)
    {
        if (plan is null)
        {
            _requests.ForEach(request => request.End(error));
            return;
        }

        plan.Rows.ForEach(row => Fail(row.Sequence, error));
        plan.SwapsOut.ForEach(swap => Fail(swap.Sequence, error));
    }

    // Before anything of the step is visible: who has seen a text's end finds all of it counted.
    private void Count(StepPlan plan, TimeSpan duration)
    {
        Telemetry.Step(plan, _drawn.Count, duration);
        lock (_lock)
        {
            _statistics = new EngineStatistics
            {
                Steps = _statistics.Steps + 1,
                PromptTokens = _statistics.PromptTokens + plan.PromptTokens,
                CachedTokens = _statistics.CachedTokens + plan.CachedTokens,
                GeneratedTokens = _statistics.GeneratedTokens + _drawn.Count,
                Preemptions = _statistics.Preemptions + plan.Preempted,
                RecomputedTokens = _statistics.RecomputedTokens + plan.Recomputed,
            };
        }
    }

    // The drawn tokens that stand: all up to the first that differs from what was proposed, or ends its text. Nothing of it is visible yet.
    private void Accept(StepPlan plan)
    {
        _drawn.Clear();
        if (_accepted.Length < plan.Rows.Count)
        {
            _accepted = new int[plan.Rows.Count * 2];
        }

        for (var i = 0; i < plan.Rows.Count; i++)
        {
            var row = plan.Rows[i];
            var drawn = _runner.Drawn(i);
            _accepted[i] = row.Draws == 0 ? row.Count : i < plan.DecodeRows ? Accept(i, row, drawn) : AcceptFirst(i, row, drawn);
        }
    }

    private int Accept(int index, in ScheduledRow row, ReadOnlySpan<int> drawn)
    {
        var sequence = row.Sequence;
        var known = sequence.Tokens.Count - row.Start;
        var proposed = row.Count - known;
        for (var i = 0; ; i++)
        {
            var token = drawn[known + i - 1];
            var ends = Draw(sequence, token, index, known + i - 1);
            if (ends || i == proposed || sequence.Proposals[i] != token)
            {
                PromptLookup.Judge(sequence, proposed, i);
                return known + i;
            }
        }
    }

    private int AcceptFirst(int index, in ScheduledRow row, ReadOnlySpan<int> drawn)
    {
        for (var i = 0; i < drawn.Length; i++)
        {
            Draw(i == 0 ? row.Sequence : row.Sequence.Siblings[i - 1], drawn[i], index, i);
        }

        return row.Count;
    }

    // Whether the text ends with it. A negative token stands for none.
    private bool Draw(Sequence sequence, int token, int row, int draw)
    {
        var (request, alternatives) = ((GenerationRequest)sequence.Owner!, sequence.Sampling.Logprobs);
        var next = token < 0 ? new GeneratedToken(token, "") : request.Next(token, alternatives < 0 ? null : _runner.Logprobs(row, draw, alternatives));
        _drawn.Add((request, next));
        sequence.Tokens.Add(token);
        return next.FinishReason is not null;
    }

    private void Deliver(StepPlan plan)
    {
        DeliverDrawn(holdsBack: true);

        for (var i = 0; i < plan.Rows.Count; i++)
        {
            if (plan.Rows[i].Sequence is { IsStepped: true, Pending: 0, Owner: SteppedRequest { HasEnded: false } stepped })
            {
                _runner.ReadLogits(i, stepped.Logits);
                stepped.Computed();
            }
        }

        // Behind all others: it writes over their logits.
        for (var i = plan.DecodeRows; i < plan.Rows.Count; i++)
        {
            if (plan.Rows[i].Sequence.Owner is { HasEnded: false, Rows: { } rows } request)
            {
                Evaluate(request, rows, i);
            }
        }

        DeliverDrawn(holdsBack: false);
    }

    // Tokens that come with log probabilities of their prompt stay until these are there.
    private void DeliverDrawn(bool holdsBack)
    {
        var kept = 0;
        foreach (var (request, token) in CollectionsMarshal.AsSpan(_drawn))
        {
            if (holdsBack && request.AwaitsPrompt)
            {
                _drawn[kept++] = (request, token);
            }
            else if (!request.HasEnded && token.Id >= 0)
            {
                request.Deliver(token);
            }
            else if (!request.HasEnded)
            {
                request.End(request.Sequence.MaskError ?? FiniteLogits.NoToken(request.Sequence.Tokens.Count - 2, _device));
            }
        }

        _drawn.RemoveRange(kept, _drawn.Count - kept);
    }

    private void Evaluate(Request request, Action<int, ReadOnlySpan<float>> rows, int row)
    {
        try
        {
            _runner.ReadAllLogits(row, _logits, rows);
        }
        catch (Exception error)
        {
            Fail(request.Sequence, error);
            return;
        }

        if (request is EvaluationRequest && request.Sequence.Pending == 0)
        {
            request.End();
        }
    }

    private static void Fail(Sequence sequence, Exception error)
    {
        sequence.Owner!.End(error);
        foreach (var sibling in sequence.Siblings)
        {
            sibling.Owner!.End(error);
        }
    }
}
