using System.Globalization;
using System.Text.RegularExpressions;

namespace Octet.Cli.Inspect;

/// <summary>
/// How long a wave's turn takes at given latencies of global memory. The turn's instructions are issued evenly over the clocks it
/// takes without memory; loads come back in order, the widest (weights, keys) after one latency, narrower ones and stores (scales,
/// indices) after that of the caches; s_waitcnt vmcnt(n) waits until n are outstanding.
/// </summary>
internal sealed partial class LoopTiming
{
    private const int Settling = 8, Counted = 8;

    private enum Kind { WideLoad, Other, Wait }

    private readonly List<(double At, Kind Kind, int Allowed)> _events = []; // Allowed: outstanding after a wait
    private readonly double _clocks;

    /// <param name="turn">The instructions.</param>
    /// <param name="clocks">What they take when memory answers at once.</param>
    public LoopTiming(IReadOnlyList<Instruction> turn, double clocks)
    {
        _clocks = clocks;
        var widest = turn.Where(IsLoad).Select(i => InstructionMix.Bytes(i.Mnemonic)).DefaultIfEmpty().Max();
        for (var i = 0; i < turn.Count; i++)
        {
            var at = clocks * i / turn.Count;
            if (InstructionMix.IsVectorMemory(turn[i].Mnemonic))
            {
                _events.Add((at, IsLoad(turn[i]) && InstructionMix.Bytes(turn[i].Mnemonic) == widest ? Kind.WideLoad : Kind.Other, 0));
            }
            else if (Allowed(turn[i]) is { } allowed)
            {
                _events.Add((at, Kind.Wait, allowed));
            }
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
        var outstanding = new Queue<double>();
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
    public double Once(double latency, double cacheLatency) => Turn(0, new(), latency, cacheLatency);

    private double Turn(double time, Queue<double> outstanding, double latency, double cacheLatency)
    {
        double done = 0;
        foreach (var (at, kind, allowed) in _events)
        {
            (time, done) = (time + at - done, at);
            if (kind != Kind.Wait)
            {
                outstanding.Enqueue(time + (kind == Kind.WideLoad ? latency : cacheLatency));
                continue;
            }

            while (outstanding.Count > allowed)
            {
                time = Math.Max(time, outstanding.Dequeue());
            }
        }

        return time + _clocks - done;
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

    private static bool IsLoad(Instruction instruction) => InstructionMix.Kind(instruction.Mnemonic).StartsWith("global_load", StringComparison.Ordinal);

    private static int? Allowed(Instruction instruction) =>
        instruction.Mnemonic == "s_waitcnt" && VectorCounter().Match(instruction.Operands) is { Success: true } match
            ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : null;

    [GeneratedRegex(@"vmcnt\((\d+)\)")]
    private static partial Regex VectorCounter();
}
