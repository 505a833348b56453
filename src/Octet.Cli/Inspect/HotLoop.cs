namespace Octet.Cli.Inspect;

/// <summary>
/// The loop of a kernel that does its work: the innermost one with the most matrix instructions (of two that move
/// nearly as much the shorter: the other is for a special case, as shards that begin inside a scale block), or the most bytes moved where there are none, laid out as the
/// straight line one turn of it most likely runs (<see cref="ControlFlow"/>).
/// </summary>
/// <param name="Instructions">One turn; the whole kernel where it has no loop.</param>
/// <param name="IsLoop">False where the kernel has no loop.</param>
/// <remarks>A loop inside the body runs once, and its instructions count for itself when loops are compared.</remarks>
internal sealed record HotLoop(IReadOnlyList<Instruction> Instructions, bool IsLoop)
{
    public static HotLoop Find(IReadOnlyList<Instruction> function)
    {
        var flow = new ControlFlow(function);
        var best = default((ControlFlow.Score Score, ControlFlow.Loop Loop)?);
        foreach (var loop in flow.Loops)
        {
            var inner = flow.Loops.Where(l => l != loop && l.Body.IsProperSubsetOf(loop.Body)).SelectMany(l => l.Body).ToHashSet();
            var own = loop.Body.Where(b => !inner.Contains(b)).Aggregate(default(ControlFlow.Score), (sum, b) => sum + flow.Blocks[b].Score);
            if (best is null || IsHotter(own, best.Value.Score))
            {
                best = (own, loop);
            }
        }

        var path = flow.LikelyPath(best is { Loop: var hot } ? hot : flow.Whole);
        return new([.. path.SelectMany(b => flow.Blocks[b].Instructions)], best is not null);
    }

    private static bool IsHotter(ControlFlow.Score loop, ControlFlow.Score other)
    {
        var (less, more) = (Math.Min(loop.Bytes, other.Bytes), Math.Max(loop.Bytes, other.Bytes));
        return loop.Macs == other.Macs && loop.Macs > 0 && less >= 0.9 * more
            ? loop.Instructions < other.Instructions
            : loop.CompareTo(other) > 0;
    }
}
