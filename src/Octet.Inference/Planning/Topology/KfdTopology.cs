using System.Globalization;

namespace Octet.Inference.Planning.Topology;

/// <summary>The GPUs of a machine and how they are joined, from the kernel's KFD tree. Whatever is missing, unreadable or of no use to Octet is named in a warning.</summary>
public sealed class KfdTopology
{
    /// <summary>Where Linux keeps the tree.</summary>
    public const string DefaultPath = "/sys/class/kfd/kfd/topology";

    private readonly Dictionary<(int From, int To), (GpuLink Link, int Hops)> _links;
    private readonly Dictionary<(int Gpu, int Cpu), ulong> _cpuWeights;

    private KfdTopology(KfdTreeReader reader)
    {
        Gpus = reader.Gpus;
        _links = reader.Links;
        _cpuWeights = reader.CpuWeights;
        Kinds = FindKinds(Gpus);
        AddWarnings(reader.Warnings);
        Warnings = [.. reader.Warnings.Lines];
    }

    /// <summary>The GPUs a process sees, by ordinal, also those that Octet does not run on.</summary>
    public IReadOnlyList<GpuNode> Gpus { get; }

    /// <summary>The GPUs that Octet runs on, those of one target and memory size together, in order of their first ordinal: a group is of one kind.</summary>
    public IReadOnlyList<IReadOnlyList<GpuNode>> Kinds { get; }

    /// <summary>What was missing, unreadable, odd, or left out.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>How two GPUs are joined.</summary>
    public GpuLink Link(GpuNode a, GpuNode b) => Best(a, b).Link;

    /// <summary>xGMI hops between two GPUs, or zero if they are not joined by xGMI.</summary>
    public int XgmiHops(GpuNode a, GpuNode b) => Best(a, b) is (GpuLink.Xgmi, var hops) ? hops : 0;

    /// <summary>How much heavier the road from one GPU to the other's NUMA node is than to its own, or zero if that is not known; below 256. It tells NUMA nodes of one socket (NPS4) from those of another.</summary>
    internal int NumaDistance(GpuNode a, GpuNode b) => Math.Max(Extra(a, b), Extra(b, a));

    /// <summary>Reads a tree: <paramref name="path"/> is the topology folder, the nodes folder in it, or a copy of /sys that holds it.</summary>
    /// <exception cref="PlanException">There is no such tree, or none of its nodes can be read.</exception>
    public static KfdTopology Read(string path = DefaultPath)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string nodes = FindNodes(path);
        var reader = new KfdTreeReader(nodes);
        if (reader.NodeCount > 0)
        {
            return new KfdTopology(reader);
        }
        string? first = reader.Warnings.Lines.FirstOrDefault();
        throw new PlanException($"{nodes}: none of its nodes can be read{(first is null ? "" : "; first problem: " + first)}");
    }

    /// <summary>The compiler's name of a <c>gfx_target_version</c>, which counts major * 10000 + minor * 100 + stepping; the name writes the last two in hexadecimal.</summary>
    internal static string TargetName(ulong version) =>
        version == 0 ? GpuNode.UnknownTarget : string.Create(CultureInfo.InvariantCulture, $"gfx{version / 10000}{version / 100 % 100:x}{version % 100:x}");

    private static string FindNodes(string path)
    {
        string[] places = [Path.Combine(path, "nodes"), Path.Combine(path, "class/kfd/kfd/topology/nodes"), Path.Combine(path, "sys/class/kfd/kfd/topology/nodes"), Path.Combine(path, "topology/nodes"), path];
        // The folder itself counts only if it looks like the nodes folder.
        return places.FirstOrDefault(place => Directory.Exists(place) && (place != path || Path.GetFileName(Path.TrimEndingDirectorySeparator(path)) == "nodes"))
            ?? throw new PlanException($"{path}: has no KFD topology (no folder 'nodes'); is the amdgpu driver loaded, or --sysfs wrong?");
    }

    private static List<IReadOnlyList<GpuNode>> FindKinds(IReadOnlyList<GpuNode> gpus)
    {
        var kinds = new List<IReadOnlyList<GpuNode>>();
        foreach (var target in gpus.Where(gpu => gpu.IsSupported).GroupBy(gpu => gpu.Target))
        {
            // Each kind begins at its smallest memory, so that no two of its GPUs differ by more than IsLike allows.
            var kind = new List<GpuNode>();
            foreach (GpuNode gpu in target.OrderBy(gpu => gpu.MemoryBytes))
            {
                if (kind.Count == 0 || !gpu.IsLike(kind[0]))
                {
                    kinds.Add(kind = []);
                }
                kind.Add(gpu);
            }
        }
        return [.. kinds.Select(kind => (IReadOnlyList<GpuNode>)[.. kind.OrderBy(gpu => gpu.Ordinal)]).OrderBy(kind => kind[0].Ordinal)];
    }

    private int Extra(GpuNode from, GpuNode to) =>
        _cpuWeights.TryGetValue((from.Node, from.NumaNode), out ulong own) && _cpuWeights.TryGetValue((from.Node, to.NumaNode), out ulong other) && other > own
            ? (int)Math.Min(other - own, 255)
            : 0;

    private (GpuLink Link, int Hops) Best(GpuNode a, GpuNode b)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        var (there, back) = (_links.GetValueOrDefault((a.Node, b.Node)), _links.GetValueOrDefault((b.Node, a.Node)));
        return KfdTreeReader.IsBetter(back, there) ? back : there;
    }

    private void AddWarnings(NodeWarnings warnings)
    {
        foreach (var kind in Gpus.Where(gpu => !gpu.IsSupported).GroupBy(gpu => (gpu.Target, gpu.Integrated)))
        {
            string what = kind.Key.Target == GpuNode.UnknownTarget ? "of a target that the kernel does not state" : kind.Key.Integrated ? $"{kind.Key.Target}, integrated" : kind.Key.Target;
            warnings.Add($"{Name(kind)} ({what}) in no group: Octet runs on gfx942 and gfx950");
        }
        // Nodes of links that nobody described: a GPU that fell off the bus, or one hidden from this container.
        var known = Gpus.Select(gpu => gpu.Node).ToHashSet();
        foreach (int missing in _links.Keys.Select(pair => pair.To).Where(node => !known.Contains(node) && !warnings.Names(node)).Distinct())
        {
            warnings.Add(missing, "linked to by GPUs, but not usable here");
        }
        if (Kinds.Count > 1)
        {
            warnings.Add($"GPUs of {Kinds.Count} kinds, each group of one: {string.Join("; ", Kinds.Select(kind => $"{kind[0].Target} of {kind[0].Memory}: {Name(kind)}"))}");
        }
        foreach (IReadOnlyList<GpuNode> kind in Kinds)
        {
            WarnOfPartitions(kind, warnings);
        }
        int placeable = Kinds.Sum(kind => kind.Count);
        if (placeable > 1 && !int.IsPow2(placeable) && Kinds.All(kind => kind.DistinctBy(gpu => gpu.Device).Count() == kind.Count))
        {
            warnings.Add($"{placeable} GPUs are usable, an unusual number: one may be missing");
        }
    }

    private static void WarnOfPartitions(IReadOnlyList<GpuNode> kind, NodeWarnings warnings)
    {
        var devices = kind.GroupBy(gpu => gpu.Device).ToList();
        int most = devices.Max(device => device.Count());
        foreach (var few in devices.Where(device => device.Count() < most).GroupBy(device => device.Count()))
        {
            warnings.Add($"{(few.Count() == 1 ? "device" : "devices")} {string.Join(", ", few.Select(device => device.Key))}: {few.Key} partitions where others have {most}");
        }
    }

    internal static string Name(IEnumerable<GpuNode> gpus)
    {
        int[] ordinals = [.. gpus.Select(gpu => gpu.Ordinal)];
        return $"{(ordinals.Length == 1 ? "gpu" : "gpus")} {NumberList.Write(ordinals)}";
    }
}
