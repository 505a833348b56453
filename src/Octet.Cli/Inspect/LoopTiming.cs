using System.Globalization;
using System.Text.RegularExpressions;

namespace Octet.Cli.Inspect;

/// <summary>
/// How long a wave's turn takes at given latencies of global memory. The turn's instructions are issued evenly over the clocks it
/// takes without memory; loads come back in order, the widest (weights, keys) after one latency, narrower ones and stores (scales,
/// indices) after that of the caches; s_waitcnt vmcnt(n) waits until n are outstanding. Of a kernel's whole run the accesses to LDS
/// and the scalar loads are waited for likewise, by lgkmcnt, a scalar load as long as one from the caches; in a turn of a hot loop
/// llvm-mca has done that.
/// </summary>
internal sealed partial class LoopTiming
{
    private const int Settling = 8, Counted = 8;

    private enum Kind { WideLoad, Other, Wait, Lds, ScalarLoad, LdsWait }

    private readonly List<(double At, Kind Kind, int Allowed)> _events = []; // Allowed: outstanding after a wait
    private double _clocks;

    /// <param name="turn">The instructions.</param>
    /// <param name="clocks">What they take when memory answers at once.</param>
    public LoopTiming(IReadOnlyList<Instruction> turn, double clocks)
    {
        AddEvents(turn, clocks, WidestLoad(turn), lds: false);
    }

    /// <summary>A kernel's whole run.</summary>
    /// <param name="run">The pieces and their order.</param>
    /// <param name="clocks">What each piece takes when memory and LDS answer at once.</param>
    public LoopTiming(WholeRun run, IReadOnlyList<double> clocks)
    {
        var widest = run.Pieces.Max(WidestLoad);
        foreach (var piece in run.Order)
        {
            AddEvents(run.Pieces[piece], clocks[piece], widest, lds: true);
        }
    }

    /// <summary>A turn by hand: the loads of the next one are issued at its start and waited for at its end, if at all.</summary>
    public LoopTiming(double clocks, bool waits)
    {
        _clocks = clocks;
        if (waits)
        {
            _events.AddRange([(0, Kind.WideLoad, 0), (clocks, Kind.Wait, 0)]);
        }
    }

    /// <summary>Clocks from turn to turn.</summary>
    /// <param name="latency">Clocks of the widest loads.</param>
    /// <param name="cacheLatency">Clocks of all others.</param>
    public double Period(double latency, double cacheLatency)
    {
        var outstanding = (Memory: new Queue<double>(), Lds: new Queue<double>());
        double time = 0, start = 0;
        for (var turn = 0; turn < Settling + Counted; turn++)
        {
            start = turn == Settling ? time : start;
            time = Turn(time, outstanding, latency, cacheLatency);
        }

        return (time - start) / Counted;
    }

    /// <summary>Clocks of a single turn that starts with nothing on its way.</summary>
    /// <param name="latency">Clocks of the widest loads.</param>
    /// <param name="cacheLatency">Clocks of all others.</param>
    public double Once(double latency, double cacheLatency) => Turn(0, (new(), new()), latency, cacheLatency);

    private double Turn(double time, (Queue<double> Memory, Queue<double> Lds) outstanding, double latency, double cacheLatency)
    {
        double done = 0;
        foreach (var (at, kind, allowed) in _events)
        {
            (time, done) = (time + at - done, at);
            var queue = kind is Kind.Lds or Kind.ScalarLoad or Kind.LdsWait ? outstanding.Lds : outstanding.Memory;
            if (kind is Kind.Wait or Kind.LdsWait)
            {
                while (queue.Count > allowed)
                {
                    time = Math.Max(time, queue.Dequeue());
                }
            }
            else
            {
                queue.Enqueue(time + kind switch { Kind.WideLoad => latency, Kind.Lds => Gpu.LdsClocks, _ => cacheLatency });
            }
        }

        return time + _clocks - done;
    }

    // Of a run of instructions that follows those there are.
    private void AddEvents(IReadOnlyList<Instruction> run, double clocks, int widestLoad, bool lds)
    {
        for (var i = 0; i < run.Count; i++)
        {
            var at = _clocks + clocks * i / run.Count;
            var mnemonic = run[i].Mnemonic;
            if (InstructionMix.IsVectorMemory(mnemonic))
            {
                _events.Add((at, IsLoad(run[i]) && InstructionMix.Bytes(mnemonic) == widestLoad ? Kind.WideLoad : Kind.Other, 0));
            }
            else if (lds && mnemonic.StartsWith("ds_", StringComparison.Ordinal))
            {
                _events.Add((at, Kind.Lds, 0));
            }
            else if (lds && InstructionMix.Kind(mnemonic) == "scalar_load")
            {
                // Arguments, whose address a kernel begins with, lie in the scalar cache: their first load is part of the launch.
                _events.Add((at, run[i].Operands.Contains(", s[0:1], ", StringComparison.Ordinal) ? Kind.Lds : Kind.ScalarLoad, 0));
            }

            if (Allowed(run[i], VectorCounter()) is { } allowed)
            {
                _events.Add((at, Kind.Wait, allowed));
            }

            if (lds && Allowed(run[i], LdsCounter()) is { } allowedOfLds)
            {
                _events.Add((at, Kind.LdsWait, allowedOfLds));
            }
        }

        _clocks += clocks;
    }

    /// <summary>The instruction as it is.</summary>
    public static string? Keep(Instruction instruction) => instruction.Text;

    /// <summary>The instruction without its wait for global memory; null where nothing is left.</summary>
    public static string? WithoutMemoryWaits(Instruction instruction)
    {
        if (instruction.Mnemonic != "s_waitcnt")
        {
            return instruction.Text;
        }

        var rest = VectorCounter().Replace(instruction.Operands, "").Trim();
        return rest.Length == 0 ? null : $"s_waitcnt {rest}";
    }

    /// <summary>The instruction if it is no wait.</summary>
    public static string? WithoutWaits(Instruction instruction) => instruction.Mnemonic == "s_waitcnt" ? null : instruction.Text;

    private static int WidestLoad(IReadOnlyList<Instruction> run) => run.Where(IsLoad).Select(i => InstructionMix.Bytes(i.Mnemonic)).DefaultIfEmpty().Max();

    private static bool IsLoad(Instruction instruction) => InstructionMix.Kind(instruction.Mnemonic).StartsWith("global_load", StringComparison.Ordinal);

    private static int? Allowed(Instruction instruction, Regex counter) =>
        instruction.Mnemonic == "s_waitcnt" && counter.Match(instruction.Operands) is { Success: true } match
            ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : null;

    [GeneratedRegex(@"vmcnt\((\d+)\)")]
    private static partial Regex VectorCounter();

    [GeneratedRegex(@"lgkmcnt\((\d+)\)")]
    private static partial Regex LdsCounter();
}
