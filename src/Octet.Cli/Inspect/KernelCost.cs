using System.Text.RegularExpressions;

namespace Octet.Cli.Inspect;

/// <summary>What one kernel costs, from its compiled code: its claims on a CU and one turn of its hot loop by one wave.</summary>
/// <param name="Op">The kernel family: the file it is written in.</param>
/// <param name="Target">"gfx942" or "gfx950".</param>
/// <param name="Resources">Registers, scratch, spills.</param>
/// <param name="Mix">The instructions of a turn.</param>
/// <param name="IsLoop">False: there is no loop, a turn is the whole kernel.</param>
/// <param name="Clocks">Of a turn, by llvm-mca: one wave that waits for its own loads as llvm-mca does.</param>
/// <param name="MatrixClocks">Of a turn, of the matrix unit.</param>
/// <param name="Timing">The turn without waits for global memory, and where the waits are.</param>
internal sealed partial record KernelCost(
    string Op, string Target, KernelResources Resources, InstructionMix Mix, bool IsLoop, double Clocks, double MatrixClocks, LoopTiming Timing)
{
    private const int LdsBytesPerClock = 128, SimdsPerCu = 4;

    public string Name => Resources.Name;

    /// <summary>The kernel's cost where a launch of it is laid out as a whole, by the turns of its loops (<see cref="WholeRun"/>).</summary>
    public Func<IReadOnlyList<int>, KernelCost>? LaidOut { get; init; }

    /// <summary>Clocks LDS needs for a turn of four waves, one on each SIMD: their bytes / 128.</summary>
    public double LdsClocks => (double)SimdsPerCu * Mix.LdsBytes / LdsBytesPerClock;

    /// <summary>Share of the hot loop in which the matrix unit works: matrix clocks / max(llvm-mca, LDS, vector unit).</summary>
    public double MatrixBusy => MatrixClocks == 0 ? 0 : MatrixClocks / Math.Max(Math.Max(Clocks, MatrixClocks), Math.Max(LdsClocks, Mix.VectorClocks));

    /// <summary>The tile in the kernel's name, "gemm_fp8_m64n128": rows of tokens and of weights; 0: not named.</summary>
    public (int M, int N) Tile => TileName().Match(Name) is { Success: true } match
        ? (int.Parse(match.Groups[1].Value), match.Groups[2].Success ? int.Parse(match.Groups[2].Value) : 0) : (0, 0);

    [GeneratedRegex(@"_m(\d+)(?:n(\d+))?")]
    private static partial Regex TileName();

    /// <summary>The kernels of one code object.</summary>
    public static List<KernelCost> Read(string op, string target, byte[] code, LlvmTools tools)
    {
        var functions = tools.Disassemble(code);
        var kernels = CodeObject.Read(code);
        var loops = kernels.ConvertAll(k => HotLoop.Find(functions[k.Name]));
        var mca = tools.Analyze(target, [.. loops.SelectMany(l => new[] { Lines(l.Instructions, LoopTiming.Keep), Lines(l.Instructions, LoopTiming.WithoutMemoryWaits) })]);
        var costs = new List<KernelCost>();
        for (var k = 0; k < kernels.Count; k++)
        {
            var turn = loops[k].Instructions;
            costs.Add(new(
                op, target, kernels[k], InstructionMix.Count(turn), loops[k].IsLoop, mca[2 * k].Clocks, mca[2 * k].MatrixClocks,
                new(turn, mca[2 * k + 1].Clocks)));
            costs[k] = costs[k] with { LaidOut = Layouts(costs[k], functions[kernels[k].Name], tools) };
        }

        return costs;
    }

    // Each layout once: many shapes share one.
    private static Func<IReadOnlyList<int>, KernelCost> Layouts(KernelCost kernel, List<Instruction> code, LlvmTools tools)
    {
        var known = new Dictionary<string, KernelCost>();
        return turns =>
        {
            var key = string.Join(' ', turns);
            if (!known.TryGetValue(key, out var cost))
            {
                known[key] = cost = LayOut(kernel, code, turns, tools);
            }

            return cost;
        };
    }

    private static KernelCost LayOut(KernelCost kernel, List<Instruction> code, IReadOnlyList<int> turns, LlvmTools tools)
    {
        try
        {
            var run = WholeRun.Of(code, turns);
            var clocks = tools.Analyze(kernel.Target, [.. run.Pieces.Select(p => Lines(p, LoopTiming.WithoutWaits))]).Select(m => m.Clocks).ToList();
            return kernel with
            {
                Mix = InstructionMix.Count(run.Order.SelectMany(p => run.Pieces[p])),
                IsLoop = false,
                Clocks = run.Order.Sum(p => clocks[p]),
                Timing = new(run, clocks),
            };
        }
        catch (ArgumentException error)
        {
            throw new ArgumentException($"inspect: {kernel.Name} of {kernel.Target}: {error.Message}");
        }
    }

    private static List<string> Lines(IEnumerable<Instruction> run, Func<Instruction, string?> text) => [.. run.Select(text).OfType<string>()];
}
