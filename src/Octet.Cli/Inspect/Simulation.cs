using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>Runs small versions of the shapes in the simulator and reads its counters.</summary>
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
        var backend = (NativeBackend)session.Device.Backend;
        backend.ResetSimCounters();
        foreach (var step in ShapeTable.Small.Where(s => op is null || s.Op == op || IsPartOf(op, s.Op)))
        {
            step.Run(session);
            session.Forget();
            progress?.Invoke();
        }

        return backend.SimCounters().Where(c => kernels.ContainsKey(c.KernelName)).ToDictionary(c => c.KernelName, c => Ratios(c, kernels[c.KernelName].Mix));
    }

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
