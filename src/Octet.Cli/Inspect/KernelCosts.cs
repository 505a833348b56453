using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>What the kernels of a target cost.</summary>
/// <param name="Gpu">The chip.</param>
/// <param name="ByName">Its kernels.</param>
/// <param name="Counted">What the simulator counted of them, where it did.</param>
internal sealed record KernelCosts(Gpu Gpu, IReadOnlyDictionary<string, KernelCost> ByName, IReadOnlyDictionary<string, Counted> Counted)
{
    /// <summary>Reads all kernels of a target in the library.</summary>
    /// <param name="gpu">The chip.</param>
    /// <param name="simulate">Whether the simulator counts small shapes.</param>
    /// <param name="progress">Told how much is done, of how much.</param>
    /// <exception cref="ArgumentException">The LLVM tools are missing.</exception>
    public static KernelCosts Read(Gpu gpu, bool simulate, IProgress<(long Done, long Total)>? progress)
    {
        using var loads = new OpSession($"plan:{gpu.Target}"); // the library
        var tools = LlvmTools.Find(NativeBackend.BuildInfo());
        var images = NativeBackend.Images(gpu.Target);
        var (done, total) = (0, images.Count + (simulate ? ShapeTable.Small.Length : 0));
        var kernels = new Dictionary<string, KernelCost>();
        foreach (var (family, code) in images)
        {
            KernelCost.Read(family, gpu.Target, code, tools).ForEach(k => kernels.Add(k.Name, k));
            progress?.Report((++done, total));
        }

        return new(gpu, kernels, simulate ? Simulation.Count(gpu.Target, null, kernels, () => progress?.Report((++done, total))) : []);
    }

    /// <summary>The modelled time of an op: of its launches, or, where it is none of the library's, of the bytes it moves.</summary>
    public Terms TimeOf(OpWork work, IReadOnlyList<PlannedLaunch> launches, long workspace) => launches.Count == 0
        ? Stream(work.HbmBytes)
        : ModelledShape.Divide(work, launches, workspace, ByName).Aggregate(default(Terms), (sum, launch) => sum + TimeOf(launch));

    /// <summary>The modelled time of a launch.</summary>
    public Terms TimeOf(LaunchWork launch) =>
        CostModel.Time(Gpu, launch, Counted.GetValueOrDefault(launch.Kernel.Name, Inspect.Counted.Ideal));

    private Terms Stream(double bytes)
    {
        var hbm = bytes / Gpu.HbmTerabytes * 1e-6;
        return new(0, 0, 0, 0, hbm, 0, Gpu.LaunchMicroseconds, 0, hbm + Gpu.LaunchMicroseconds);
    }
}
