using System.Runtime.InteropServices;
using Octet.Inference.Engine;

namespace Octet.Inference.Planning;

/// <summary>The engine in virtual time: its own scheduler and block manager decide every step, and <see cref="StepModel"/> says how long the step takes, in the place of a model that runs it. Nobody has tokens; they are counted.</summary>
/// <remarks>Blocks that move to host memory and back take no time: the requests of a plan that is called feasible never have to.</remarks>
internal sealed class ServingSimulation
{
    private readonly StepModel _step;
    private readonly ServingLoad _load;
    private readonly ClosedLoop _users;
    private readonly BlockManager _blocks;
    private readonly Scheduler _scheduler;
    // The user of each request, which are numbered as they arrive.
    private readonly List<int> _userOf = [];
    private readonly List<BlockCopy> _copies = [];
    private int[] _computed = [];
    private double _now;

    private ServingSimulation(StepModel step, ServingLoad load)
    {
        (_step, _load, _users) = (step, load, new ClosedLoop(step, load));
        EngineCalibration engine = step.Engine;
        // A step has a token of every request that is being continued, so no more of them run than a step has tokens; one is left for prompts.
        int most = Math.Max(1, Math.Min(load.Users, engine.ChunkTokens - 1));
        long worst = engine.BlocksFor(load.Input + load.Output);
        // More blocks than those that run can fill, and the one each that admission keeps free, change nothing.
        _blocks = new BlockManager((int)Math.Min(load.KvTokens / engine.KvBlockTokens, most * (worst + 1)), engine.KvBlockTokens, shares: false);
        _scheduler = new Scheduler(new() { TokenBudget = engine.ChunkTokens, MaxSequences = most, ReserveAll = engine.ReserveAll }, _blocks);
    }

    /// <summary>Serves the load until its users have seen enough.</summary>
    /// <exception cref="ArgumentException">The KV cache holds less than one request.</exception>
    public static ServingResult Run(StepModel step, ServingLoad load) => new ServingSimulation(step, load).Run();

    private ServingResult Run()
    {
        while (!_users.IsOver)
        {
            while (_users.TryTake(_now, out int user))
            {
                _scheduler.Add(new Sequence(_userOf.Count, _load.Input, _load.Input + _load.Output));
                _userOf.Add(user);
            }
            if (_scheduler.Schedule() is { } plan)
            {
                Advance(plan);
            }
            else
            {
                _now = _users.NextArrival;
            }
        }
        return _users.Result(_scheduler.Preemptions);
    }

    private void Advance(StepPlan plan)
    {
        Span<ScheduledRow> rows = CollectionsMarshal.AsSpan(plan.Rows);
        double kvTokens = 0;
        foreach (ref readonly ScheduledRow row in rows[..plan.DecodeRows])
        {
            kvTokens += row.Start;
        }
        double pairs = 0;
        foreach (ref readonly ScheduledRow row in rows[plan.DecodeRows..])
        {
            pairs += row.Count * (row.Start + row.Count / 2.0);
        }
        int most = MostRepeats(plan);
        int steps = 0;
        do
        {
            _now += _step.Milliseconds(plan.DecodeRows, kvTokens, plan.Tokens - plan.DecodeRows, pairs);
            kvTokens += plan.DecodeRows;
            steps++;
        }
        while (steps < most && _users.NextArrival > _now);
        Commit(plan, steps);
    }

    // Steps in a row that are sure to be this very one. Without prompts a step ends nobody but at a limit, and gives nobody what the oldest
    // in the queue was refused: blocks only become fewer, and what is reserved of them fewer alike. There must be blocks for all of them.
    private int MostRepeats(StepPlan plan)
    {
        if (plan.DecodeRows < plan.Rows.Count)
        {
            return 1;
        }
        int most = 1 + (int)Math.Min((long)_blocks.Free / plan.DecodeRows * _blocks.BlockSize, int.MaxValue - 1);
        foreach (ref readonly ScheduledRow row in CollectionsMarshal.AsSpan(plan.Rows))
        {
            most = Math.Min(most, row.Sequence.Limit - row.Sequence.Length);
        }
        return most;
    }

    private void Commit(StepPlan plan, int steps)
    {
        Span<ScheduledRow> rows = CollectionsMarshal.AsSpan(plan.Rows);
        if (_computed.Length < rows.Length)
        {
            _computed = new int[Math.Max(rows.Length, 2 * _computed.Length)];
        }
        for (int i = 0; i < rows.Length; i++)
        {
            ref readonly ScheduledRow row = ref rows[i];
            _computed[i] = row.Count;
            if (i < plan.DecodeRows)
            {
                // Repeated steps are one in which so many tokens were proposed and all of them right.
                _computed[i] = steps;
                _ = steps == 1 || _blocks.TryGrow(row.Sequence, steps, _copies);
            }
            row.Sequence.VirtualTokens += row.Draws * steps;
        }
        _scheduler.Commit(plan, _computed);
        for (int i = 0; i < rows.Length; i++)
        {
            Sequence sequence = rows[i].Sequence;
            if (i >= plan.DecodeRows && !sequence.IsPrefilling)
            {
                _users.Begin(_userOf[(int)sequence.Id], _now);
            }
            if (sequence.Length == sequence.Limit)
            {
                _scheduler.Remove(sequence);
                _users.Answer(_userOf[(int)sequence.Id], _now);
            }
        }
    }
}
