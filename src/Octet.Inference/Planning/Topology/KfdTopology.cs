using System.Globalization;

namespace Octet.Inference.Planning.Topology;

/// <summary>How two GPUs are joined.</summary>
public enum GpuLink
{
    /// <summary>No link is listed: nothing is known of the road, so it counts as the worst.</summary>
    None,

    /// <summary>Through PCIe.</summary>
    Pcie,

    /// <summary>A direct xGMI link.</summary>
    Xgmi,
}

/// <summary>One GPU, or one partition of one.</summary>
/// <param name="Ordinal">Its number among the GPUs a process sees, as <c>HIP_VISIBLE_DEVICES</c> counts them.</param>
/// <param name="Node">Its KFD node.</param>
/// <param name="Target">The compiler's target, such as gfx942.</param>
/// <param name="MemoryBytes">Memory, or zero if not readable.</param>
/// <param name="NumaNode">The NUMA node of its socket, or -1 if not known.</param>
/// <param name="Device">The physical device: partitions of one share it.</param>
public sealed record GpuNode(int Ordinal, int Node, string Target, ulong MemoryBytes, int NumaNode, string Device);

/// <summary>The GPUs of a machine and how they are joined, from the kernel's KFD tree. Whatever is missing or unreadable is left out and named in a warning.</summary>
public sealed class KfdTopology
{
    /// <summary>Where Linux keeps the tree.</summary>
    public const string DefaultPath = "/sys/class/kfd/kfd/topology";

    private const ulong PcieType = 2;
    private const ulong XgmiType = 11;
    private const ulong LocalCpuWeight = 20;
    private readonly Dictionary<(int, int), GpuLink> _links = [];
    private readonly List<string> _warnings = [];

    private KfdTopology(List<GpuNode> gpus) => Gpus = gpus;

    /// <summary>The usable GPUs, by ordinal.</summary>
    public IReadOnlyList<GpuNode> Gpus { get; private set; }

    /// <summary>What was missing, unreadable or odd.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>How two GPUs are joined.</summary>
    public GpuLink Link(GpuNode a, GpuNode b)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        GpuLink there = _links.GetValueOrDefault((a.Node, b.Node));
        GpuLink back = _links.GetValueOrDefault((b.Node, a.Node));
        return there > back ? there : back;
    }

    /// <summary>Reads a tree: <paramref name="path"/> is the topology folder, the nodes folder in it, or a copy of /sys that holds it.</summary>
    /// <exception cref="PlanException">There is no such tree, or no GPU in it.</exception>
    public static KfdTopology Read(string path = DefaultPath)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string nodes = FindNodes(path);
        var topology = new KfdTopology([]);
        var read = new SortedDictionary<int, Dictionary<string, ulong>>();
        foreach (string folder in Entries(nodes, topology._warnings))
        {
            string name = Path.GetFileName(folder);
            if (!int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int node))
            {
                topology._warnings.Add($"{folder}: its name is not a node's number; left out");
                continue;
            }
            if (KfdProperties.Read(Path.Combine(folder, "properties"), topology._warnings) is { } properties)
            {
                read[node] = properties;
            }
        }
        var cpus = read.Where(entry => entry.Value.GetValueOrDefault("cpu_cores_count") > 0).Select(entry => entry.Key).ToHashSet();
        var gpus = new List<GpuNode>();
        foreach ((int node, Dictionary<string, ulong> properties) in read)
        {
            if (topology.ReadGpu(nodes, node, properties, cpus, gpus.Count) is { } gpu)
            {
                gpus.Add(gpu);
            }
        }
        if (gpus.Count == 0)
        {
            throw new PlanException($"{nodes}: has no usable GPU among {read.Count} readable nodes{(topology._warnings.Count > 0 ? "; first problem: " + topology._warnings[0] : "")}");
        }
        topology.Gpus = gpus;
        topology.WarnOfMissing();
        return topology;
    }

    private static string FindNodes(string path)
    {
        string[] places = [Path.Combine(path, "nodes"), Path.Combine(path, "class/kfd/kfd/topology/nodes"), Path.Combine(path, "sys/class/kfd/kfd/topology/nodes"), Path.Combine(path, "topology/nodes"), path];
        // The folder itself counts only if it looks like the nodes folder.
        return places.FirstOrDefault(place => Directory.Exists(place) && (place != path || Path.GetFileName(Path.TrimEndingDirectorySeparator(path)) == "nodes"))
            ?? throw new PlanException($"{path}: has no KFD topology (no folder 'nodes'); is the amdgpu driver loaded, or --sysfs wrong?");
    }

    private GpuNode? ReadGpu(string nodes, int node, Dictionary<string, ulong> properties, HashSet<int> cpus, int ordinal)
    {
        ulong version = properties.GetValueOrDefault("gfx_target_version");
        if (properties.GetValueOrDefault("simd_count") == 0)
        {
            if (version > 0)
            {
                _warnings.Add($"node {node}: a GPU of target version {version} without compute units; left out as unhealthy");
            }
            return null;
        }
        string folder = Path.Combine(nodes, node.ToString(CultureInfo.InvariantCulture));
        int numa = ReadLinks(folder, node, cpus);
        return new GpuNode(ordinal, node, TargetName(version), ReadMemory(folder, node), numa, Device(node, properties));
    }

    // The version counts major * 10000 + minor * 100 + stepping; the name writes the last two in hexadecimal.
    internal static string TargetName(ulong version) =>
        version == 0 ? "unknown" : string.Create(CultureInfo.InvariantCulture, $"gfx{version / 10000}{version / 100 % 100:x}{version % 100:x}");

    private static string Device(int node, Dictionary<string, ulong> properties)
    {
        if (properties.GetValueOrDefault("unique_id") is > 0 and ulong id)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{id:x}");
        }
        // The last three bits of a location are the PCI function: partitions of one device differ in it alone.
        return properties.TryGetValue("location_id", out ulong location)
            ? string.Create(CultureInfo.InvariantCulture, $"pci-{properties.GetValueOrDefault("domain"):x4}:{location >> 3:x}")
            : string.Create(CultureInfo.InvariantCulture, $"node-{node}");
    }

    private int ReadLinks(string folder, int node, HashSet<int> cpus)
    {
        (int Node, ulong Weight)? cpu = null;
        foreach (string list in new[] { "io_links", "p2p_links" })
        {
            string path = Path.Combine(folder, list);
            if (!Directory.Exists(path))
            {
                if (list == "io_links")
                {
                    _warnings.Add($"{path}: is missing; the links of node {node} are not known");
                }
                continue;
            }
            foreach (string link in Entries(path, _warnings))
            {
                if (KfdProperties.Read(Path.Combine(link, "properties"), _warnings) is not { } properties)
                {
                    continue;
                }
                if (!properties.TryGetValue("type", out ulong type) || !properties.TryGetValue("node_to", out ulong to) || to > int.MaxValue)
                {
                    _warnings.Add($"{link}: has no type or node_to; left out");
                    continue;
                }
                ulong weight = properties.GetValueOrDefault("weight", ulong.MaxValue);
                if (cpus.Contains((int)to))
                {
                    cpu = type == PcieType && (cpu is null || weight < cpu.Value.Weight) ? ((int)to, weight) : cpu;
                }
                else
                {
                    AddLink(node, (int)to, type);
                }
            }
        }
        if (cpu is not { Weight: LocalCpuWeight })
        {
            _warnings.Add(cpu is { } nearest
                ? $"node {node}: no PCIe link of weight {LocalCpuWeight} to a CPU; the nearest, NUMA node {nearest.Node}, is taken"
                : $"node {node}: no PCIe link to a CPU; its NUMA node is not known");
        }
        return cpu?.Node ?? -1;
    }

    private void AddLink(int from, int to, ulong type)
    {
        GpuLink link = type switch { XgmiType => GpuLink.Xgmi, PcieType => GpuLink.Pcie, _ => GpuLink.None };
        if (link > _links.GetValueOrDefault((from, to)))
        {
            _links[(from, to)] = link;
        }
    }

    private ulong ReadMemory(string folder, int node)
    {
        string path = Path.Combine(folder, "mem_banks");
        ulong bytes = 0;
        if (Directory.Exists(path))
        {
            foreach (string bank in Entries(path, _warnings))
            {
                bytes = unchecked(bytes + (KfdProperties.Read(Path.Combine(bank, "properties"), _warnings)?.GetValueOrDefault("size_in_bytes") ?? 0));
            }
        }
        if (bytes == 0)
        {
            _warnings.Add($"node {node}: its memory banks are missing or unreadable; its memory is not known");
        }
        return bytes;
    }

    private void WarnOfMissing()
    {
        // Nodes of links that nobody described: a GPU that fell off the bus, or one hidden from this container.
        var known = Gpus.Select(gpu => gpu.Node).ToHashSet();
        foreach (int missing in _links.Keys.Select(pair => pair.Item2).Where(node => !known.Contains(node)).Distinct().Order())
        {
            _warnings.Add($"node {missing}: other GPUs have links to it, but it is not usable here");
        }
        var sizes = Gpus.GroupBy(gpu => gpu.Device).Select(group => group.Count()).ToList();
        foreach (var device in Gpus.GroupBy(gpu => gpu.Device).Where(group => group.Count() < sizes.Max()))
        {
            _warnings.Add($"device {device.Key}: has {device.Count()} partitions where others have {sizes.Max()}");
        }
        if (sizes.Max() == 1 && Gpus.Count > 1 && !int.IsPow2(Gpus.Count))
        {
            _warnings.Add($"{Gpus.Count} GPUs are usable, an unusual number: one may be missing");
        }
    }

    private static string[] Entries(string path, List<string> warnings)
    {
        try
        {
            return [.. Directory.GetDirectories(path).OrderBy(entry => entry.Length).ThenBy(entry => entry, StringComparer.Ordinal)];
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            warnings.Add($"{path}: cannot be read: {cause.Message}");
            return [];
        }
    }
}
