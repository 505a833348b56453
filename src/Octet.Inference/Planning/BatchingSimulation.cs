namespace Octet.Inference.Planning;

/// <summary>What one simulated group serves: a fixed number of users, each sending its next request when the last is answered.</summary>
/// <param name="Input">Input tokens of a request.</param>
/// <param name="Output">Output tokens of a request.</param>
/// <param name="Concurrency">Users.</param>
/// <param name="ChunkTokens">Most tokens of one step.</param>
/// <param name="KvTokens">Tokens the group's KV cache holds.</param>
/// <param name="FrontEndMs">Milliseconds between a user's sending and the engine's seeing a request.</param>
internal readonly record struct BatchingLoad(int Input, int Output, int Concurrency, int ChunkTokens, double KvTokens, double FrontEndMs);

/// <summary>Latency of each request a simulation saw.</summary>
/// <param name="TtftMs">Time to first token.</param>
/// <param name="TpotMs">Time per output token, (latency - TTFT) / (output - 1); zero where there is one output token.</param>
internal sealed record BatchingResult(IReadOnlyList<double> TtftMs, IReadOnlyList<double> TpotMs);

/// <summary>Discrete-event simulation of continuous batching: every step decodes all running sequences and fills what is left of its token budget with prefill, first come first served; a request waits until the KV cache holds all of it.</summary>
internal sealed class BatchingSimulation
{
    // The users of a load generator do not start together, and its ramp is part of what it reports: six requests a user, the first at a random point of one cycle.
    private const int RequestsPerUser = 6;
    private const int LeastRequests = 60;
    private readonly StepModel _step;
    private readonly BatchingLoad _load;
    private readonly PriorityQueue<int, (double Time, int User)> _arrivals = new();
    private readonly double[] _sent;
    private readonly double[] _first;
    private readonly long[] _lastStep;
    private readonly Queue<int> _waiting = new();
    private readonly Queue<int> _prefilling = new();
    private readonly Queue<int> _running = new();
    private readonly List<double> _ttft = [];
    private readonly List<double> _tpot = [];
    private int _headTokens;
    private double _now;
    private double _kvTokens;
    private double _reserved;
    private long _steps;

    private BatchingSimulation(StepModel step, BatchingLoad load)
    {
        (_step, _load) = (step, load);
        _sent = new double[load.Concurrency];
        _first = new double[load.Concurrency];
        _lastStep = new long[load.Concurrency];
        double pairs = load.Input * (load.Input / 2.0);
        double prefill = step.Milliseconds(load.Concurrency, 0, load.Input, pairs) - step.Milliseconds(load.Concurrency, 0, 0, 0);
        double cycle = load.Output * step.Milliseconds(load.Concurrency, load.Concurrency * (load.Input + load.Output / 2.0), 0, 0) + load.Concurrency * prefill;
        ulong seed = 42;
        for (int user = 0; user < load.Concurrency; user++)
        {
            Send(user, NextUniform(ref seed) * cycle);
        }
    }

    public static BatchingResult Run(StepModel step, BatchingLoad load) => new BatchingSimulation(step, load).Run();

    private BatchingResult Run()
    {
        int requests = Math.Max(RequestsPerUser * _load.Concurrency, LeastRequests);
        var prefilled = new List<int>();
        while (_ttft.Count < requests)
        {
            Admit();
            prefilled.Clear();
            (int prefill, double pairs) = TakePrefill(prefilled);
            if (_running.Count == 0 && prefill == 0)
            {
                _ = _arrivals.TryPeek(out _, out (double Time, int User) next);
                _now = next.Time;
                continue;
            }
            _now += _step.Milliseconds(_running.Count, _kvTokens, prefill, pairs);
            _steps++;
            _kvTokens += _running.Count;
            Finish();
            foreach (int user in prefilled)
            {
                Start(user);
            }
        }
        return new BatchingResult(_ttft, _tpot);
    }

    private void Send(int user, double time)
    {
        _sent[user] = time;
        _arrivals.Enqueue(user, (time + _load.FrontEndMs, user));
    }

    private void Admit()
    {
        while (_arrivals.TryPeek(out int user, out (double Time, int User) next) && next.Time <= _now)
        {
            _ = _arrivals.Dequeue();
            _waiting.Enqueue(user);
        }
        while (_waiting.Count > 0 && _reserved + _load.Input + _load.Output <= _load.KvTokens)
        {
            _reserved += _load.Input + _load.Output;
            _prefilling.Enqueue(_waiting.Dequeue());
        }
    }

    private (int Tokens, double Pairs) TakePrefill(List<int> prefilled)
    {
        int budget = Math.Max(0, _load.ChunkTokens - _running.Count);
        int tokens = 0;
        double pairs = 0;
        while (budget > 0 && _prefilling.Count > 0)
        {
            int taken = Math.Min(budget, _load.Input - _headTokens);
            pairs += taken * (_headTokens + taken / 2.0);
            tokens += taken;
            budget -= taken;
            _headTokens += taken;
            if (_headTokens == _load.Input)
            {
                prefilled.Add(_prefilling.Dequeue());
                _headTokens = 0;
            }
        }
        return (tokens, pairs);
    }

    private void Finish()
    {
        while (_running.TryPeek(out int user) && _lastStep[user] == _steps)
        {
            _ = _running.Dequeue();
            _kvTokens -= _load.Input + _load.Output - 1;
            Answer(user);
        }
    }

    private void Start(int user)
    {
        _first[user] = _now;
        if (_load.Output == 1)
        {
            Answer(user);
            return;
        }
        _lastStep[user] = _steps + _load.Output - 1;
        _kvTokens += _load.Input;
        _running.Enqueue(user);
    }

    private void Answer(int user)
    {
        _reserved -= _load.Input + _load.Output;
        // The front end and the engine overlap: measured, the time to first token of a nearly idle server does not grow with the prompt.
        double engine = _first[user] - _sent[user] - _load.FrontEndMs;
        _ttft.Add(Math.Sqrt(engine * engine + _load.FrontEndMs * _load.FrontEndMs));
        _tpot.Add(_load.Output == 1 ? 0 : (_now - _first[user]) / (_load.Output - 1));
        Send(user, _now);
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
