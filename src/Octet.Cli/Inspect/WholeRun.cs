using System.Globalization;

namespace Octet.Cli.Inspect;

/// <summary>
/// A kernel from its first instruction to its last, for kernels that wait more than they work: what a wave runs one after the
/// other, each loop as often as the shape asks for. A turn of one loop would leave out the code between the loops, its waits and
/// its exchanges through LDS.
/// </summary>
/// <param name="Pieces">The straight pieces of the way, each once.</param>
/// <param name="Order">Which of them runs when.</param>
internal sealed record WholeRun(IReadOnlyList<IReadOnlyList<Instruction>> Pieces, IReadOnlyList<int> Order)
{
    /// <param name="function">The kernel.</param>
    /// <param name="turns">Of each loop inside those around it, in the order in which the loops begin in the code. Of a branch the side is taken that leads to loops which turn, none that leads into one of 0 turns.</param>
    /// <exception cref="ArgumentException">The kernel has another number of loops.</exception>
    public static WholeRun Of(IReadOnlyList<Instruction> function, IReadOnlyList<int> turns)
    {
        var flow = new ControlFlow(function, followFlags: true);
        if (flow.Loops.Count != turns.Count)
        {
            var loops = flow.Loops.Select(l => string.Create(CultureInfo.InvariantCulture, $"+0x{flow.Blocks[l.Header].Instructions[0].Address - function[0].Address:x}"));
            throw new ArgumentException($"the turns of {turns.Count} loops are given, of {flow.Loops.Count} in the code: {string.Join(", ", loops)}");
        }

        var turning = flow.Loops.Where((_, l) => turns[l] > 0).Select(l => l.Header).ToHashSet();
        var idle = flow.Loops.Where((_, l) => turns[l] == 0).SelectMany(l => l.Body).ToHashSet();
        var pieces = new List<IReadOnlyList<Instruction>>();
        return new(pieces, Walk(flow.Whole));

        // One turn, in pieces.
        List<int> Walk(ControlFlow.Loop loop)
        {
            var inner = flow.Loops.Where(l => l.Body.IsProperSubsetOf(loop.Body)).OrderByDescending(l => l.Body.Count).ToList();
            var order = new List<int>();
            var straight = new List<Instruction>();
            ControlFlow.Loop? inside = null;
            foreach (var block in flow.LikelyPath(loop with { Body = [.. loop.Body.Except(idle)] }, turning))
            {
                var around = inner.Find(l => l.Body.Contains(block));
                if (around != inside)
                {
                    End();
                    inside = around;
                    var turn = around is null ? [] : Walk(around);
                    order.AddRange(Enumerable.Repeat(turn, around is null ? 0 : turns[IndexOf(around)]).SelectMany(t => t));
                }

                if (around is null)
                {
                    straight.AddRange(flow.Blocks[block].Instructions);
                }
            }

            End();
            return order;

            void End()
            {
                if (straight.Count > 0)
                {
                    order.Add(pieces.Count);
                    pieces.Add([.. straight]);
                    straight.Clear();
                }
            }
        }

        int IndexOf(ControlFlow.Loop loop) => flow.Loops.TakeWhile(l => l != loop).Count();
    }
}
