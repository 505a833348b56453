using Octet.Inference.Engine;

namespace Octet.Tests.Inference.Engine;

/// <summary>
/// Runs a scheduler without a model: the next token is a function of all tokens before it, and the pool records what was written where,
/// so that a wrong block, a stale one or a lost token shows as a wrong text.
/// </summary>
internal sealed class ScheduleSimulation
{
    private readonly int _vocabulary;
    private readonly Dictionary<(int Block, int Offset), ulong> _pool = [];
    private readonly Dictionary<long, ulong[]> _host = [];

    // Positions that were computed as continuations.
    private readonly Dictionary<long, HashSet<int>> _continued = [];

    public ScheduleSimulation(SchedulerOptions options, int blocks, int blockSize, bool shares = true, int vocabulary = 5, BlockHash? hash = null)
    {
        _vocabulary = vocabulary;
        Blocks = new BlockManager(blocks, blockSize, shares, hash);
        Scheduler = new Scheduler(options, Blocks) { Propose = Propose };
    }

    public BlockManager Blocks { get; }

    public Scheduler Scheduler { get; }

    public int Steps { get; private set; }

    public long Computed { get; private set; }

    public StepPlan? Last { get; private set; }

    /// <summary>The token that follows: a function of all before, and of the salt where one is given.</summary>
    public int Next(IEnumerable<int> tokens, long seed = 0) => (int)(Digest(tokens, (ulong)seed) % (ulong)_vocabulary);

    /// <summary>The text a sequence has alone.</summary>
    public List<int> Alone(IReadOnlyList<int> prompt, int limit, long seed = 0)
    {
        var tokens = prompt.ToList();
        while (tokens.Count < limit)
        {
            tokens.Add(Next(tokens, seed));
        }

        return tokens;
    }

    /// <summary>Schedules, "computes" and commits one step; false where there was nothing to do.</summary>
    public bool Step(IEnumerable<Sequence> all, Action<Sequence, int>? drawn = null)
    {
        if (Scheduler.Schedule() is not { } plan)
        {
            return false;
        }

        Last = plan;
        Steps++;
        Assert.InRange(plan.Tokens, 1, Scheduler.TokenBudget);
        Move(plan);
        var accepted = new int[plan.Rows.Count];
        var events = new List<(Sequence, int)>();
        for (var i = 0; i < plan.Rows.Count; i++)
        {
            accepted[i] = Compute(plan.Rows[i], i < plan.DecodeRows, events);
        }

        Scheduler.Commit(plan, accepted);
        foreach (var (sequence, token) in events)
        {
            drawn?.Invoke(sequence, token);
        }

        Blocks.Check(all.Where(sequence => sequence.Status != SequenceStatus.Finished));
        return true;
    }

    /// <summary>Forks a paused text, and what of it waits on the host.</summary>
    public void Fork(Sequence parent, Sequence child)
    {
        Scheduler.Fork(parent, child);
        Continued(child).UnionWith(Continued(parent));
        if (_host.TryGetValue(parent.Id, out var content))
        {
            _host[child.Id] = [.. content];
        }
    }

    private HashSet<int> Continued(Sequence sequence) =>
        _continued.TryGetValue(sequence.Id, out var positions) ? positions : _continued[sequence.Id] = [];

    private void Move(StepPlan plan)
    {
        foreach (var (sequence, blocks) in plan.SwapsOut)
        {
            _host[sequence.Id] = [.. blocks.SelectMany(block => Enumerable.Range(0, Blocks.BlockSize).Select(offset => _pool.GetValueOrDefault((block, offset))))];
        }

        foreach (var (sequence, blocks) in plan.SwapsIn)
        {
            Assert.True(_host.Remove(sequence.Id, out var content));
            Assert.Equal(blocks.Length * Blocks.BlockSize, content.Length);
            for (var i = 0; i < content.Length; i++)
            {
                _pool[(blocks[i / Blocks.BlockSize], i % Blocks.BlockSize)] = content[i];
            }
        }

        Assert.Empty(plan.Copies.Select(copy => copy.Source).Intersect(plan.Copies.Select(copy => copy.Destination)));
        foreach (var (source, destination) in plan.Copies)
        {
            for (var offset = 0; offset < Blocks.BlockSize; offset++)
            {
                _pool[(destination, offset)] = _pool.GetValueOrDefault((source, offset));
            }
        }
    }

    // What is kept of a token is a digest of all tokens up to it, and whether it was computed as part of a prompt.
    private int Compute(ScheduledRow row, bool decode, List<(Sequence, int)> events)
    {
        var (sequence, start, count, draws) = row;
        Assert.Equal(SequenceStatus.Running, sequence.Status);
        Assert.Equal(sequence.Computed, start);
        var tokens = sequence.Tokens.Concat(sequence.Proposals.Take(start + count - sequence.Tokens.Count)).ToList();
        Computed += count;
        var continued = Continued(sequence);
        for (var position = start; position < start + count; position++)
        {
            Assert.Equal(decode, position >= sequence.PrefillEnd);
            _ = decode ? continued.Add(position) : continued.Remove(position);
            _pool[(sequence.Blocks[position / Blocks.BlockSize], position % Blocks.BlockSize)] = Written(tokens, position, decode);
        }

        // Attention reads the whole context: all of it must be what this very text wrote, or would have.
        for (var position = 0; position < start + count; position++)
        {
            Assert.Equal(
                Written(tokens, position, continued.Contains(position)),
                _pool[(sequence.Blocks[position / Blocks.BlockSize], position % Blocks.BlockSize)]);
        }

        return draws == 0 ? count : Draw(row, tokens, events);
    }

    private int Draw(ScheduledRow row, List<int> tokens, List<(Sequence, int)> events)
    {
        var (sequence, start, count, draws) = row;
        var continued = Continued(sequence);
        var proposed = Math.Max(0, start + count - sequence.Tokens.Count);
        var known = sequence.Tokens.Count - start;
        for (var i = 0; i <= proposed; i++)
        {
            var token = Next(tokens.Take(start + known + i), sequence.Id);
            sequence.Tokens.Add(token);
            events.Add((sequence, token));
            if (i == proposed || tokens[start + known + i] != token)
            {
                for (var sibling = 1; sibling < draws; sibling++)
                {
                    var other = sequence.Siblings[sibling - 1];
                    Continued(other).UnionWith(continued);
                    other.Tokens.Add(Next(tokens, other.Id));
                    events.Add((other, other.Tokens[^1]));
                }

                return known + i;
            }
        }

        throw new InvalidOperationException("unreachable");
    }

    private static int Propose(Sequence sequence, int most)
    {
        sequence.Proposals.Clear();
        for (var i = 0; i < most; i++)
        {
            sequence.Proposals.Add((int)((sequence.Id + sequence.Tokens.Count + i) % 3));
        }

        return sequence.Proposals.Count;
    }

    private static ulong Written(List<int> tokens, int position, bool decode) =>
        Digest(tokens.Take(position + 1), 0) * 2 + (decode ? 1UL : 0);

    private static ulong Digest(IEnumerable<int> tokens, ulong seed)
    {
        var digest = 14695981039346656037UL ^ (seed * 0x9E3779B97F4A7C15UL);
        foreach (var token in tokens)
        {
            digest = (digest ^ (uint)token) * 1099511628211UL;
            digest ^= digest >> 29;
        }

        return digest;
    }
}
