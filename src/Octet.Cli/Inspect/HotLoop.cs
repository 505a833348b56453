namespace Octet.Cli.Inspect;

/// <summary>
/// The loop of a kernel that does its work: the innermost one with the most matrix instructions (of two that move
/// nearly as much the shorter: the other is for a special case, as shards that begin inside a scale block), or the most bytes moved where there are none, laid out as the
/// straight line one turn of it most likely runs.
/// </summary>
/// <param name="Instructions">One turn; the whole kernel where it has no loop.</param>
/// <param name="IsLoop">False where the kernel has no loop.</param>
/// <remarks>
/// Of a branch in the body the side is taken that has more matrix instructions, then the one that moves more bytes by the widest
/// loads and stores of the loop, then the shorter one: so a turn loads what the next one needs, and the narrow loads of unaligned
/// rows are left out. Lanes are taken to be active: s_cbranch_execz falls through, unless to nothing but such loads. A loop inside the body runs once, and its
/// instructions count for itself when loops are compared.
/// </remarks>
internal sealed record HotLoop(IReadOnlyList<Instruction> Instructions, bool IsLoop)
{
    public static HotLoop Find(IReadOnlyList<Instruction> function)
    {
        var blocks = Blocks(function);
        var loops = Loops(blocks);
        var best = default((Score Score, Loop Loop)?);
        foreach (var loop in loops)
        {
            var inner = loops.Where(l => l != loop && l.Body.IsProperSubsetOf(loop.Body)).SelectMany(l => l.Body).ToHashSet();
            var own = loop.Body.Where(b => !inner.Contains(b)).Aggregate(default(Score), (sum, b) => sum + blocks[b].Score);
            if (best is null || IsHotter(own, best.Value.Score))
            {
                best = (own, loop);
            }
        }

        var path = best is { Loop: var hot }
            ? LikelyPath(blocks, hot.Header, hot.Body, hot.Latches)
            : LikelyPath(blocks, 0, [.. Enumerable.Range(0, blocks.Count)], [.. Enumerable.Range(0, blocks.Count).Where(b => blocks[b].Next.Count == 0)]);
        return new([.. path.SelectMany(b => blocks[b].Instructions)], best is not null);
    }

    private static bool IsHotter(Score loop, Score other)
    {
        var (less, more) = (Math.Min(loop.Bytes, other.Bytes), Math.Max(loop.Bytes, other.Bytes));
        return loop.Macs == other.Macs && loop.Macs > 0 && less >= 0.9 * more
            ? loop.Instructions < other.Instructions
            : loop.CompareTo(other) > 0;
    }

    // Compared in this order; more is better, of instructions fewer.
    private readonly record struct Score(long Macs, long Bytes, int Instructions) : IComparable<Score>
    {
        public static Score operator +(Score a, Score b) => new(a.Macs + b.Macs, a.Bytes + b.Bytes, a.Instructions + b.Instructions);

        public int CompareTo(Score other) =>
            (Macs, Bytes, -Instructions).CompareTo((other.Macs, other.Bytes, -other.Instructions));
    }

    private sealed record Block(List<Instruction> Instructions, List<int> Next, InstructionMix Mix)
    {
        public Score Score => new(Mix.Macs, Mix.LdsBytes + Mix.GlobalLoadBytes + Mix.GlobalStoreBytes, Instructions.Count);
    }

    private sealed record Loop(int Header, HashSet<int> Body, List<int> Latches);

    private static List<Block> Blocks(IReadOnlyList<Instruction> function)
    {
        var index = new Dictionary<long, int>();
        for (var i = 0; i < function.Count; i++)
        {
            index[function[i].Address] = i;
        }

        var leaders = new SortedSet<int> { 0 };
        for (var i = 0; i < function.Count; i++)
        {
            if (function[i].Target is { } target && index.TryGetValue(target, out var to))
            {
                leaders.Add(to);
            }

            if ((function[i].Target is not null || function[i].IsEnd) && i + 1 < function.Count)
            {
                leaders.Add(i + 1);
            }
        }

        var starts = leaders.ToList();
        var blockAt = starts.Select((start, block) => (start, block)).ToDictionary(p => p.start, p => p.block);
        var blocks = new List<Block>();
        for (var b = 0; b < starts.Count; b++)
        {
            var end = b + 1 < starts.Count ? starts[b + 1] : function.Count;
            var body = Enumerable.Range(starts[b], end - starts[b]).Select(i => function[i]).ToList();
            var last = body[^1];
            var next = new List<int>();
            if (!last.IsEnd && end < function.Count)
            {
                next.Add(b + 1);
            }

            if (last.Target is { } target && index.TryGetValue(target, out var to) && !next.Contains(blockAt[to]))
            {
                next.Add(blockAt[to]);
            }

            blocks.Add(new(body, next, InstructionMix.Count(body)));
        }

        return blocks;
    }

    // Natural loops: an edge back to a block that dominates its origin, and all that reaches the origin without that block.
    private static List<Loop> Loops(List<Block> blocks)
    {
        var before = Enumerable.Range(0, blocks.Count).Select(_ => new List<int>()).ToList();
        var reached = new HashSet<int>();
        for (var open = new Stack<int>([0]); open.TryPop(out var b);)
        {
            if (reached.Add(b))
            {
                blocks[b].Next.ForEach(n => before[n].Add(b));
                blocks[b].Next.ForEach(open.Push);
            }
        }

        var dominators = Dominators(blocks.Count, before);
        var loops = new Dictionary<int, Loop>();
        for (var b = 0; b < blocks.Count; b++)
        {
            foreach (var header in blocks[b].Next.Where(n => reached.Contains(b) && dominators[b].Contains(n)))
            {
                if (!loops.TryGetValue(header, out var loop))
                {
                    loops[header] = loop = new(header, [header], []);
                }

                loop.Latches.Add(b);
                var open = new Stack<int>([b]);
                while (open.TryPop(out var inside))
                {
                    if (loop.Body.Add(inside))
                    {
                        before[inside].ForEach(open.Push);
                    }
                }
            }
        }

        return [.. loops.Values];
    }

    private static HashSet<int>[] Dominators(int count, List<List<int>> before)
    {
        var dominators = Enumerable.Range(0, count).Select(b => b == 0 ? [0] : Enumerable.Range(0, count).ToHashSet()).ToArray();
        for (var changed = true; changed;)
        {
            changed = false;
            for (var b = 1; b < count; b++)
            {
                HashSet<int>? common = null;
                foreach (var p in before[b])
                {
                    if (common is null)
                    {
                        common = [.. dominators[p]];
                    }
                    else
                    {
                        common.IntersectWith(dominators[p]);
                    }
                }

                common ??= [];
                common.Add(b);
                if (common.Count != dominators[b].Count)
                {
                    (dominators[b], changed) = (common, true);
                }
            }
        }

        return dominators;
    }

    // The best way from the header to one of the ends inside the body, never along an edge that goes back.
    private static List<int> LikelyPath(List<Block> blocks, int header, HashSet<int> body, List<int> ends)
    {
        var order = new List<int>();
        var state = new Dictionary<int, bool>(); // true: done, false: on the way
        Visit(header);
        var isEnd = ends.ToHashSet();
        var widest = body.Select(b => blocks[b].Mix.WidestGlobal).DefaultIfEmpty().Max();
        var best = new Dictionary<int, (Score Score, int? Next)>();
        foreach (var b in order)
        {
            (Score Score, int? Next)? choice = isEnd.Contains(b) ? (default(Score), null) : null;
            foreach (var next in Likely(b))
            {
                if (choice is null || best[next].Score.CompareTo(choice.Value.Score) > 0)
                {
                    choice = (best[next].Score, next);
                }
            }

            if (choice is { } chosen)
            {
                var mix = blocks[b].Mix;
                best[b] = (chosen.Score + new Score(mix.Macs, mix.LdsBytes + mix.GlobalBytes(widest), mix.Total), chosen.Next);
            }
        }

        var path = new List<int>();
        for (int? b = header; b is { } block && best.ContainsKey(block); b = best[block].Next)
        {
            path.Add(block);
        }

        return path;

        void Visit(int b)
        {
            state[b] = false;
            foreach (var next in blocks[b].Next.Where(n => body.Contains(n) && !state.ContainsKey(n)))
            {
                Visit(next);
            }

            state[b] = true;
            order.Add(b);
        }

        // Successors that do not go back and lead to an end; with lanes active where a branch asks for that.
        List<int> Likely(int b)
        {
            var forward = blocks[b].Next.Where(n => n != header && best.ContainsKey(n)).ToList();
            var active = blocks[b].Instructions[^1].Mnemonic switch { "s_cbranch_execz" => 0, "s_cbranch_execnz" => 1, _ => -1 };
            if (forward.Count < 2 || active < 0)
            {
                return forward;
            }

            var (on, off) = (forward[active], forward[1 - active]);
            return IsNarrowDetour(on, off) ? [off] : [on];
        }

        // Whether what lies between does nothing but narrow accesses, as for the ends of unaligned rows.
        bool IsNarrowDetour(int from, int to)
        {
            var accesses = false;
            for (int? b = from; b is { } block && b != to; b = best[block].Next)
            {
                var mix = blocks[block].Mix;
                accesses |= mix.GlobalLoadBytes + mix.GlobalStoreBytes > 0;
                if (mix.Macs + mix.LdsBytes + mix.GlobalBytes(widest) > 0)
                {
                    return false;
                }
            }

            return accesses;
        }
    }
}
