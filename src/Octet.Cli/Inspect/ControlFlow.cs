namespace Octet.Cli.Inspect;

/// <summary>A kernel's basic blocks, its loops, and the way it most likely takes through them.</summary>
/// <remarks>
/// Of a branch the side is taken that has more matrix instructions, then the one that moves more bytes by the widest
/// loads and stores of the loop, then the shorter one: so a turn loads what the next one needs, and the narrow loads of unaligned
/// rows are left out. Lanes are taken to be active: s_cbranch_execz falls through, unless to nothing but such loads.
/// </remarks>
internal sealed class ControlFlow
{
    /// <param name="function">The kernel.</param>
    /// <param name="followFlags">Whether a block that branches on a flag goes on as those before it have set the flag: of two sides the compiler
    /// lays one after the other, no way then takes both.</param>
    public ControlFlow(IReadOnlyList<Instruction> function, bool followFlags = false)
    {
        var blocks = FindBlocks(function);
        if (followFlags)
        {
            FollowFlags(blocks);
        }

        (Blocks, Loops) = (blocks, FindLoops(blocks));
    }

    /// <summary>In the order of the code.</summary>
    public IReadOnlyList<Block> Blocks { get; }

    /// <summary>In the order in which their headers lie in the code.</summary>
    public IReadOnlyList<Loop> Loops { get; }

    /// <summary>The whole kernel, as if it were the body of a loop.</summary>
    public Loop Whole => new(0, [.. Enumerable.Range(0, Blocks.Count)], [.. Enumerable.Range(0, Blocks.Count).Where(b => Blocks[b].Next.Count == 0)]);

    /// <summary>Compared in this order; more is better, of instructions fewer.</summary>
    public readonly record struct Score(int Wanted, long Macs, long Bytes, int Instructions) : IComparable<Score>
    {
        public static Score operator +(Score a, Score b) => new(a.Wanted + b.Wanted, a.Macs + b.Macs, a.Bytes + b.Bytes, a.Instructions + b.Instructions);

        public int CompareTo(Score other) =>
            (Wanted, Macs, Bytes, -Instructions).CompareTo((other.Wanted, other.Macs, other.Bytes, -other.Instructions));
    }

    public sealed record Block(List<Instruction> Instructions, List<int> Next, InstructionMix Mix)
    {
        public Score Score => new(0, Mix.Macs, Mix.LdsBytes + Mix.GlobalLoadBytes + Mix.GlobalStoreBytes, Instructions.Count);
    }

    /// <param name="Header">The block every turn begins with.</param>
    /// <param name="Body">The blocks of a turn.</param>
    /// <param name="Latches">Those a turn may end with.</param>
    public sealed record Loop(int Header, HashSet<int> Body, List<int> Latches);

    private static List<Block> FindBlocks(IReadOnlyList<Instruction> function)
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

    // Where a block sets a flag to a constant and the next one asks for it, the next one is copied, with the one side that is then taken.
    private static void FollowFlags(List<Block> blocks)
    {
        var copies = new Dictionary<(int Block, int Next), int>();
        for (var b = 0; b < blocks.Count; b++)
        {
            for (var n = 0; n < blocks[b].Next.Count; n++)
            {
                var next = blocks[b].Next[n];
                if (blocks[next].Next.Count == 2 && AskedFlag(blocks[next].Instructions) is { } asked && ConstantOf(blocks[b].Instructions, asked.Flag) is { } isSet)
                {
                    // Next: the following block, then the branch's target.
                    var side = blocks[next].Next[isSet == asked.BranchesIfSet ? 1 : 0];
                    if (!copies.TryGetValue((next, side), out var copy))
                    {
                        copies[(next, side)] = copy = blocks.Count;
                        blocks.Add(blocks[next] with { Next = [side] });
                    }

                    blocks[b].Next[n] = copy;
                }
            }
        }
    }

    // "s_and_b64 vcc, exec, s[2:3]" or "s_andn2_b64 vcc, exec, s[2:3]" before a branch on vcc, the flag being set before the block.
    private static (string Flag, bool BranchesIfSet)? AskedFlag(List<Instruction> block)
    {
        var at = block.FindLastIndex(i => i.Operands.StartsWith("vcc, exec, ", StringComparison.Ordinal));
        if (at < 0 || block[at].Mnemonic is not ("s_and_b64" or "s_andn2_b64") || block[^1].Mnemonic is not ("s_cbranch_vccz" or "s_cbranch_vccnz"))
        {
            return null;
        }

        var flag = block[at].Operands["vcc, exec, ".Length..];
        return block.Take(at).Any(i => i.Operands.StartsWith($"{flag},", StringComparison.Ordinal))
            ? null : (flag, (block[at].Mnemonic == "s_and_b64") == (block[^1].Mnemonic == "s_cbranch_vccnz"));
    }

    private static bool? ConstantOf(List<Instruction> block, string flag) =>
        block.FindLast(i => i.Operands.StartsWith($"{flag},", StringComparison.Ordinal)) is { Mnemonic: "s_mov_b64" } set
            ? set.Operands[(flag.Length + 1)..].Trim() switch { "0" => false, "-1" => true, _ => null } : null;

    // Natural loops: an edge back to a block that dominates its origin, and all that reaches the origin without that block.
    private static List<Loop> FindLoops(List<Block> blocks)
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

        return [.. loops.Values.OrderBy(l => l.Header)];
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

    /// <summary>The best way from a loop's header to one of its ends inside its body, never along an edge that goes back.</summary>
    /// <param name="loop">The loop, or a part of it: blocks that are not in its body are not gone through.</param>
    /// <param name="wanted">Blocks that a way should lead through before all else; null: none.</param>
    public List<int> LikelyPath(Loop loop, HashSet<int>? wanted = null)
    {
        var (header, body, ends) = loop;
        var order = new List<int>();
        var state = new Dictionary<int, bool>(); // true: done, false: on the way
        Visit(header);
        var isEnd = ends.ToHashSet();
        var widest = body.Select(b => Blocks[b].Mix.WidestGlobal).DefaultIfEmpty().Max();
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
                var mix = Blocks[b].Mix;
                best[b] = (chosen.Score + new Score(wanted?.Contains(b) == true ? 1 : 0, mix.Macs, mix.LdsBytes + mix.GlobalBytes(widest), mix.Total), chosen.Next);
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
            foreach (var next in Blocks[b].Next.Where(n => body.Contains(n) && !state.ContainsKey(n)))
            {
                Visit(next);
            }

            state[b] = true;
            order.Add(b);
        }

        // Successors that do not go back and lead to an end; with lanes active where a branch asks for that.
        List<int> Likely(int b)
        {
            var forward = Blocks[b].Next.Where(n => n != header && best.ContainsKey(n)).ToList();
            var active = Blocks[b].Instructions[^1].Mnemonic switch { "s_cbranch_execz" => 0, "s_cbranch_execnz" => 1, _ => -1 };
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
            if (wanted is not null)
            {
                // Of a whole run the results count, which are narrower than what is loaded: detours store less than 4 bytes at once.
                var between = Enumerable.Range(from, Math.Max(0, to - from)).Select(b => Blocks[b].Mix).ToList();
                return between.Exists(m => m.GlobalLoadBytes + m.GlobalStoreBytes > 0) && between.TrueForAll(
                    m => m.Macs + m.LdsBytes + m.GlobalBytes(widest) + m["global_store_b32"] + m["global_store_b64"] + m["global_store_b128"] == 0);
            }

            var accesses = false;
            for (int? b = from; b is { } block && b != to; b = best[block].Next)
            {
                var mix = Blocks[block].Mix;
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
