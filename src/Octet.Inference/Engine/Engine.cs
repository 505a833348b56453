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
    private readonly IStepRunner _runner;
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
    private EngineLoad _load;
    private Thread? _thread;
    private int _open;
    private long _outstanding;
    private OctetException? _lost;
    private volatile bool _stopping;

    /// <param name="device">Where the model is.</param>
    /// <param name="scheduler">The policy.</param>
    /// <param name="runner">The model.</param>
    /// <param name="logits">Elements of the rows of logits that are read at once.</param>
    public Engine(Device device, Scheduler scheduler, IStepRunner runner, int logits)
    {
        (_device, _scheduler, _runner) = (device, scheduler, runner);
        _logits = new float[logits];
        _load = new() { KvBlocks = scheduler.Blocks.Count };
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

    /// <summary>What it does at the moment.</summary>
    public EngineLoad Load
    {
        get
        {
            lock (_lock)
            {
                return _load with { Waiting = _load.Waiting + _inbox.Count, Lost = Lost };
            }
        }
    }

    /// <summary>Requests that run and wait, of those that are bounded.</summary>
    public int Open => Volatile.Read(ref _open);

    /// <summary>The most tokens that may yet be computed of all requests.</summary>
    public long Outstanding => Interlocked.Read(ref _outstanding);

    /// <summary>Why no step can be run any more; null where steps can. Every request ends with it.</summary>
    public OctetException? Lost => Volatile.Read(ref _lost);

    /// <summary>Queues requests: one, or several whose texts begin with the prompt of the first.</summary>
    /// <exception cref="ObjectDisposedException">The engine has stopped.</exception>
    public void Submit(params ReadOnlySpan<Request> requests)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, typeof(Models.LanguageModel));
            foreach (var request in requests)
            {
                Interlocked.Add(ref _open, request.IsBounded ? 1 : 0);
                request.Engine = this;
                request.Sequence.Owner = request;
                SetOutstanding(request, request.Sequence.Outstanding);
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
        child.Engine = this;
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

    /// <summary>Called once, by whoever ends a request: one that ends while nothing runs still holds blocks that others may wait for.</summary>
    public void Leave(Request request)
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
            NoteLoad();
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

    private void NoteLoad()
    {
        lock (_lock)
        {
            _load = new()
            {
                Running = _scheduler.Running,
                Waiting = _scheduler.Waiting,
                KvBlocks = _scheduler.Blocks.Count,
                UsedKvBlocks = _scheduler.Blocks.Count - _scheduler.Blocks.Free,
            };
        }
    }

    // Before anything is done for them, wherever they stand: nobody waits behind a request that nobody wants.
    private void DropEnded()
    {
        var kept = 0;
        for (var i = 0; i < _requests.Count; i++)
        {
            if (_requests[i].HasEnded)
            {
                SetOutstanding(_requests[i], 0);
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
            if (_lost is not null)
            {
                request.End(_lost);
            }

            if (request.HasEnded)
            {
                SetOutstanding(request, 0);
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
                SetOutstanding(request, 0);
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
            Begin(plan);
            _runner.Run(plan);
            Accept(plan);
            _scheduler.Commit(plan, _accepted.AsSpan(0, plan.Rows.Count));
            foreach (ref readonly var row in CollectionsMarshal.AsSpan(plan.Rows))
            {
                SetOutstanding(row.Sequence.Owner!, row.Sequence.Outstanding);
            }

            Count(plan, Stopwatch.GetElapsedTime(start));
            Deliver(plan);
        }
        catch (Exception error)
        {
            // First: who is told the end may ask again at once, and is then to be served elsewhere.
            var lost = _runner.FindLoss();
            Volatile.Write(ref _lost, lost);
            Fail(plan, lost ?? error);
            if (lost is not null)
            {
                _requests.ForEach(request => request.End(lost));
            }
        }

        return true;
    }

    private static void Begin(StepPlan plan)
    {
        foreach (ref readonly var row in CollectionsMarshal.AsSpan(plan.Rows))
        {
            (row.Sequence.Owner as GenerationRequest)?.Begin();
        }
    }

    // Of requests in the inbox and on the engine's thread: never of one request at once.
    private void SetOutstanding(Request request, int tokens)
    {
        Interlocked.Add(ref _outstanding, tokens - request.Outstanding);
        request.Outstanding = tokens;
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
                request.End(request.Sequence.MaskError ?? FiniteLogits.NoToken(request.Sequence.Tokens.Count - 2, _device.Name));
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
