using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>Everything octet inspect knows: the kernels, the modelled shapes, and what the simulator counted.</summary>
/// <param name="Costs">Of the kernels of the shapes' chip.</param>
/// <param name="Kernels">Of the targets asked for.</param>
/// <param name="Shapes">On the chip.</param>
/// <param name="LdsBytes">The largest LDS a kernel was launched with, by kernel.</param>
/// <param name="BuildInfo">The library's line about itself.</param>
internal sealed record Inspection(
    KernelCosts Costs, IReadOnlyList<KernelCost> Kernels, IReadOnlyList<ModelledShape> Shapes, IReadOnlyDictionary<string, long> LdsBytes,
    string BuildInfo)
{
    public static readonly string[] Targets = ["gfx942", "gfx950"];

    /// <summary>The chip of the shapes.</summary>
    public Gpu Gpu => Costs.Gpu;

    /// <summary>LDS of a block: what the launches asked for and what the compiler fixed.</summary>
    public long LdsOf(KernelCost kernel) => kernel.Resources.StaticLdsBytes + LdsBytes.GetValueOrDefault(kernel.Name);

    /// <summary>Reads the library's kernels and models the shapes.</summary>
    /// <param name="target">The only target; null: the kernels of both, the shapes on gfx942.</param>
    /// <param name="op">The only op; null: all.</param>
    /// <param name="simulate">Whether the simulator counts small shapes first.</param>
    /// <param name="progress">Told how much is done, of how much.</param>
    /// <exception cref="ArgumentException">The LLVM tools are missing, or no shape and no kernel is of that op.</exception>
    public static Inspection Run(string? target, string? op, bool simulate, IProgress<(long Done, long Total)>? progress)
    {
        var gpu = Gpu.Of(target ?? Targets[0]);
        using var plan = new OpSession($"plan:{gpu.Target}"); // loads the library
        var tools = LlvmTools.Find(NativeBackend.BuildInfo());
        var shapes = ShapeTable.All().Where(s => op is null || s.Op == op).ToList();
        var used = op is null ? null : shapes.SelectMany(s => s.Steps).SelectMany(s => plan.Plan(s).Launches).Select(l => l.Kernel).ToHashSet();
        var images = (target is null ? Targets : [target]).SelectMany(t => NativeBackend.Images(t).Select(i => (Target: t, i.Family, i.Code)))
            .Where(i => used is null || i.Family == op || CodeObject.Read(i.Code).Any(k => used.Contains(k.Name))).ToList();
        if (images.Count == 0)
        {
            var known = NativeBackend.Images(gpu.Target).Select(i => i.Family).Concat(ShapeTable.All().Select(s => s.Op)).Distinct().Order();
            throw new ArgumentException($"--op: no op or kernel family is called '{op}'; there are {string.Join(", ", known)}");
        }

        var (done, total) = (0, images.Count + shapes.Count + (simulate ? ShapeTable.Small.Length : 0));
        var kernels = new List<KernelCost>();
        foreach (var (name, family, code) in images)
        {
            kernels.AddRange(KernelCost.Read(family, name, code, tools));
            progress?.Report((++done, total));
        }

        var byName = kernels.Where(k => k.Target == gpu.Target).ToDictionary(k => k.Name);
        var counted = simulate ? Simulation.Count(gpu.Target, op, byName, () => progress?.Report((++done, total))) : [];
        var costs = new KernelCosts(gpu, byName, counted);
        var lds = new Dictionary<string, long>();
        void Launched(PlannedLaunch launch) => lds[launch.Kernel] = Math.Max(lds.GetValueOrDefault(launch.Kernel), launch.LdsBytes);
        ColdSteps.All.SelectMany(s => plan.Plan(s).Launches).ToList().ForEach(Launched);
        var modelled = new List<ModelledShape>();
        foreach (var shape in shapes)
        {
            modelled.Add(ModelledShape.Model(costs, shape, plan, Launched));
            progress?.Report((++done, total));
        }

        var told = kernels.Where(k => used is null || k.Op == op || used.Contains(k.Name));
        return new(costs, [.. told], modelled, lds, NativeBackend.BuildInfo());
    }
}
