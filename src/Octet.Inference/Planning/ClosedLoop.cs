namespace Octet.Inference.Planning;

/// <summary>What one group serves.</summary>
/// <param name="Input">Input tokens of a request.</param>
/// <param name="Output">Output tokens of a request.</param>
/// <param name="Users">Users, each sending its next request when the last is answered.</param>
/// <param name="KvTokens">Tokens the group's KV cache holds.</param>
internal readonly record struct ServingLoad(int Input, int Output, int Users, long KvTokens);

/// <summary>Latency of each answered request.</summary>
/// <param name="TtftMs">Time to first token.</param>
/// <param name="TpotMs">Time per output token, (latency - TTFT) / (output - 1); zero where there is one output token.</param>
/// <param name="Preemptions">Times a request lost its KV blocks to an older one.</param>
internal sealed record ServingResult(IReadOnlyList<double> TtftMs, IReadOnlyList<double> TpotMs, long Preemptions);

/// <summary>The users of a load generator in virtual time: when each request reaches the engine, and how long it took.</summary>
internal sealed class ClosedLoop
{
    // The users do not start together, and the ramp is part of what a load generator reports: six requests a user, the first at a random point of one cycle.
    private const int RequestsPerUser = 6;
    private const int LeastRequests = 60;
    private readonly ServingLoad _load;
    private readonly double _frontEndMs;
    private readonly PriorityQueue<int, (double Time, int User)> _arrivals = new();
    private readonly double[] _sent;
    private readonly double[] _first;
    private readonly List<double> _ttft = [];
    private readonly List<double> _tpot = [];

    public ClosedLoop(StepModel step, ServingLoad load)
    {
        (_load, _frontEndMs) = (load, step.Engine.FrontEnd.Value);
        _sent = new double[load.Users];
        _first = new double[load.Users];
        double pairs = load.Input * (load.Input / 2.0);
        double prefill = step.Milliseconds(load.Users, 0, load.Input, pairs) - step.Milliseconds(load.Users, 0, 0, 0);
        double cycle = load.Output * step.Milliseconds(load.Users, load.Users * (load.Input + load.Output / 2.0), 0, 0) + load.Users * prefill;
        ulong seed = 42;
        for (int user = 0; user < load.Users; user++)
        {
            Send(user, NextUniform(ref seed) * cycle);
        }
    }

    /// <summary>Whether enough requests were answered.</summary>
    public bool IsOver => _ttft.Count >= Math.Max(RequestsPerUser * _load.Users, LeastRequests);

    /// <summary>When the next request reaches the engine; infinite while the engine has one of every user.</summary>
    public double NextArrival => _arrivals.TryPeek(out _, out (double Time, int User) next) ? next.Time : double.PositiveInfinity;

    /// <summary>Takes the user whose request has reached the engine first; false where none has by now.</summary>
    public bool TryTake(double now, out int user)
    {
        user = -1;
        return NextArrival <= now && _arrivals.TryDequeue(out user, out _);
    }

    /// <summary>A user has its first token.</summary>
    public void Begin(int user, double now) => _first[user] = now;

    /// <summary>A user has its last token, and sends its next request.</summary>
    public void Answer(int user, double now)
    {
        // The front end and the engine overlap: measured, the time to first token of a nearly idle server does not grow with the prompt.
        double engine = _first[user] - _sent[user] - _frontEndMs;
        _ttft.Add(Math.Sqrt(engine * engine + _frontEndMs * _frontEndMs));
        _tpot.Add(_load.Output == 1 ? 0 : (now - _first[user]) / (_load.Output - 1));
        Send(user, now);
    }

    /// <summary>The latencies so far.</summary>
    public ServingResult Result(long preemptions) => new(_ttft, _tpot, preemptions);

    private void Send(int user, double now)
    {
        _sent[user] = now;
        _arrivals.Enqueue(user, (now + _frontEndMs, user));
    }

    // SplitMix64: the same sequence on every platform and release.
    private static double NextUniform(ref ulong state)
    {
        state += 0x9E3779B97F4A7C15;
        ulong z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}
