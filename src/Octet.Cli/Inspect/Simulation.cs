
namespace Octet.Cli.Inspect;

/// <summary>Runs small shapes in the simulator, the model's case list, and reads its counters.</summary>
internal static class Simulation
{
    /// <summary>What each kernel that ran needs of memory and LDS, against the ideal.</summary>
    public static Dictionary<string, Counted> Count(string target, string? op, IReadOnlyDictionary<string, KernelCost> kernels) => [];
}
