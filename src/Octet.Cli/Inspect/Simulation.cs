using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>Runs small versions of the shapes in the simulator and reads its counters, of the loops alone where it can tell.</summary>
internal static class Simulation
{
    private const int TransactionBytes = 64, BankRowBytes = 128;

    /// <summary>What each kernel that ran needs of memory and LDS, against the ideal.</summary>
    /// <param name="target">The simulated target.</param>
    /// <param name="op">The only op; null: all.</param>
    /// <param name="kernels">By name: their mix says how many banks' rows one access of theirs takes.</param>
    /// <param name="progress">Told after each shape.</param>
    public static Dictionary<string, Counted> Count(
        string target, string? op, IReadOnlyDictionary<string, KernelCost> kernels, Action? progress)
    {
        using var session = new OpSession($"sim:{target}");
        var loops = new Dictionary<string, NativeKernelCounters>();  // of both runs of a pair: their difference
        var others = new Dictionary<string, NativeKernelCounters>(); // of one run
        foreach (var (first, second) in ShapeTable.Small.Where(s => op is null || s.Short.Op == op || IsPartOf(op, s.Short.Op)))
        {
            var less = Run(session, first);
            var more = second is null ? [] : Run(session, second);
            foreach (var kernel in less.Keys.Union(more.Keys).Where(kernels.ContainsKey))
            {
                var isPair = less.ContainsKey(kernel) && more.ContainsKey(kernel);
                var counters = isPair ? Difference(more[kernel], less[kernel]) : less.GetValueOrDefault(kernel, more.GetValueOrDefault(kernel));
                var sums = isPair ? loops : others;
                sums[kernel] = Combine(sums.GetValueOrDefault(kernel), counters, 1);
            }

            progress?.Invoke();
        }

        foreach (var (kernel, counters) in others)
        {
            loops.TryAdd(kernel, counters);
        }

        return loops.ToDictionary(c => c.Key, c => Ratios(c.Value, kernels[c.Key].Mix));
    }

    private static Dictionary<string, NativeKernelCounters> Run(OpSession session, Step step)
    {
        var backend = (NativeBackend)session.Device.Backend;
        backend.ResetSimCounters();
        step.Run(session);
        session.Forget();
        return backend.SimCounters().ToDictionary(c => c.KernelName);
    }

    /// <summary>What a longer run adds to a shorter one; the longer one itself where nothing shorter ran or nothing was added.</summary>
    internal static NativeKernelCounters Difference(in NativeKernelCounters more, in NativeKernelCounters less)
    {
        var difference = Combine(more, less, -1);
        return difference.GlobalTransactions > 0 && difference.LdsAccesses >= 0 && difference.LdsBankConflicts >= 0 ? difference : more;
    }

    private static NativeKernelCounters Combine(in NativeKernelCounters a, in NativeKernelCounters b, int sign) => a with
    {
        GlobalReadBytes = a.GlobalReadBytes + sign * b.GlobalReadBytes,
        GlobalWriteBytes = a.GlobalWriteBytes + sign * b.GlobalWriteBytes,
        GlobalTransactions = a.GlobalTransactions + sign * b.GlobalTransactions,
        LdsAccesses = a.LdsAccesses + sign * b.LdsAccesses,
        LdsBankConflicts = a.LdsBankConflicts + sign * b.LdsBankConflicts,
    };

    /// <summary>The counters as ratios.</summary>
    internal static Counted Ratios(in NativeKernelCounters counters, InstructionMix mix)
    {
        var bytes = counters.GlobalReadBytes + counters.GlobalWriteBytes;
        var accesses = mix.Counts.Where(c => c.Key.StartsWith("lds_", StringComparison.Ordinal)).Sum(c => c.Value);
        var passes = accesses == 0 ? 1 : Math.Max(1, (double)mix.LdsBytes / BankRowBytes / accesses);
        return new(
            bytes == 0 ? 1 : Math.Max(1, (double)TransactionBytes * counters.GlobalTransactions / bytes),
            counters.LdsAccesses == 0 ? 1 : 1 + counters.LdsBankConflicts / (counters.LdsAccesses * passes));
    }

    // The sequences are made of other ops.
    private static bool IsPartOf(string sequence, string op) =>
        sequence == "decode_layer" || (sequence == "moe_layer" && op.StartsWith("moe_", StringComparison.Ordinal));
}
