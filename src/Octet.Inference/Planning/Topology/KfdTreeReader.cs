using System.Globalization;

namespace Octet.Inference.Planning.Topology;

/// <summary>Walks the nodes folder of a KFD tree and keeps what can be read of its GPUs and links.</summary>
internal sealed class KfdTreeReader
{
    private const ulong PcieType = 2;
    private const ulong XgmiType = 11;
    private const ulong XgmiHopWeight = 15;

    // The graphics of processors (APUs); all other targets are cards or modules.
    private static readonly HashSet<string> s_integrated =
    [
        "gfx801", "gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153",
    ];

    private readonly string _nodes;
    private readonly SortedDictionary<int, Dictionary<string, ulong>> _read = [];
    private readonly Dictionary<string, string> _devices = [];

    public KfdTreeReader(string nodes)
    {
        _nodes = nodes;
        foreach (string folder in Entries(nodes, why => Warnings.Add($"{nodes}: cannot be read ({why})")))
        {
            ReadNode(folder);
        }
        foreach ((int node, Dictionary<string, ulong> properties) in _read)
        {
            ReadGpu(node, properties);
        }
    }

    /// <summary>Nodes whose properties could be read.</summary>
    public int NodeCount => _read.Count;

    /// <summary>The GPUs, in the order of their nodes.</summary>
    public List<GpuNode> Gpus { get; } = [];

    /// <summary>The best link listed from one node to another that is not a CPU's.</summary>
    public Dictionary<(int From, int To), (GpuLink Link, int Hops)> Links { get; } = [];

    /// <summary>The least weight listed from a GPU's node to a CPU's.</summary>
    public Dictionary<(int Gpu, int Cpu), ulong> CpuWeights { get; } = [];

    /// <summary>What could not be read, or is odd.</summary>
    public NodeWarnings Warnings { get; } = new();

    /// <summary>Whether one link is better than another: xGMI before PCIe before none, fewer hops before more.</summary>
    public static bool IsBetter((GpuLink Link, int Hops) one, (GpuLink Link, int Hops) other) =>
        one.Link != other.Link ? one.Link > other.Link : one.Hops < other.Hops;

    private void ReadNode(string folder)
    {
        if (!int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int node))
        {
            Warnings.Add($"{folder}: its name is not a node's number; left out");
        }
        else if (KfdProperties.Read(Path.Combine(folder, "properties"), problem => Warnings.Add(node, problem)) is { } properties)
        {
            _read[node] = properties;
        }
    }

    private void ReadGpu(int node, Dictionary<string, ulong> properties)
    {
        string target = KfdTopology.TargetName(properties.GetValueOrDefault("gfx_target_version"));
        if (properties.GetValueOrDefault("simd_count") == 0)
        {
            if (target != GpuNode.UnknownTarget)
            {
                Warnings.Add(node, $"{target} without compute units; left out as unhealthy");
            }
            return;
        }
        var gpu = new GpuNode(Gpus.Count, node, target, 0, -1, Device(node, properties));
        gpu = gpu with { Integrated = !gpu.IsSupported && (IsCpu(node) || s_integrated.Contains(target)) };
        // What a GPU that is left out lacks is of no interest.
        NodeWarnings warnings = gpu.IsSupported ? Warnings : new();
        string folder = Path.Combine(_nodes, node.ToString(CultureInfo.InvariantCulture));
        int numa = ReadLinks(folder, node, warnings);
        Gpus.Add(gpu with { NumaNode = numa, MemoryBytes = ReadMemory(folder, node, warnings) });
    }

    private bool IsCpu(int node) => _read.TryGetValue(node, out var properties) && properties.GetValueOrDefault("cpu_cores_count") > 0;

    private bool IsGpu(int node) => _read.TryGetValue(node, out var properties) && properties.GetValueOrDefault("simd_count") > 0;

    // Partitions of one device share its unique id or, where that is zero or numbers the partitions, its place on the bus.
    private string Device(int node, Dictionary<string, ulong> properties)
    {
        var names = new List<string>();
        if (properties.GetValueOrDefault("unique_id") is > 0 and ulong id)
        {
            names.Add(string.Create(CultureInfo.InvariantCulture, $"{id:x}"));
        }
        if (properties.GetValueOrDefault("location_id") is > 0 and ulong location)
        {
            // Bus and device: the three bits below are the PCI function, the four above bit 27 the partition.
            names.Add(string.Create(CultureInfo.InvariantCulture, $"pci-{properties.GetValueOrDefault("domain"):x4}:{(location & 0x0fff_ffff) >> 3:x}"));
        }
        string device = names.Select(_devices.GetValueOrDefault).FirstOrDefault(known => known is not null)
            ?? names.FirstOrDefault() ?? string.Create(CultureInfo.InvariantCulture, $"node-{node}");
        names.ForEach(name => _devices.TryAdd(name, device));
        return device;
    }

    // Gives the NUMA node: the CPU of the lightest link, PCIe's 20 where the CPU is the socket's, xGMI's 13 in one package.
    private int ReadLinks(string folder, int node, NodeWarnings warnings)
    {
        var weights = new SortedDictionary<int, ulong>();
        if (IsCpu(node))
        {
            weights[node] = 0;
        }
        foreach (string list in new[] { "io_links", "p2p_links" })
        {
            string path = Path.Combine(folder, list);
            if (!Directory.Exists(path))
            {
                if (list == "io_links")
                {
                    warnings.Add(node, "no io_links: links not known");
                }
                continue;
            }
            foreach (string link in Entries(path, why => warnings.Add(node, $"{list} that cannot be read ({why})")))
            {
                string name = $"{list}/{Path.GetFileName(link)}";
                if (KfdProperties.Read(Path.Combine(link, "properties"), problem => warnings.Add(node, "a link's " + problem, name)) is not { } properties)
                {
                    continue;
                }
                if (!properties.TryGetValue("type", out ulong type) || !properties.TryGetValue("node_to", out ulong to) || to > int.MaxValue)
                {
                    warnings.Add(node, "a link without type or node_to; left out", name);
                    continue;
                }
                ulong weight = properties.GetValueOrDefault("weight", ulong.MaxValue);
                if (IsCpu((int)to))
                {
                    weights[(int)to] = Math.Min(weight, weights.GetValueOrDefault((int)to, ulong.MaxValue));
                }
                if (IsGpu((int)to) || !IsCpu((int)to))
                {
                    AddLink(node, (int)to, type, weight);
                }
            }
        }
        foreach ((int cpu, ulong weight) in weights)
        {
            CpuWeights[(node, cpu)] = weight;
        }
        int[] cpus = [.. weights.Where(entry => entry.Value == weights.Values.Min()).Select(entry => entry.Key)];
        if (cpus.Length != 1)
        {
            warnings.Add(node, cpus.Length == 0
                ? "NUMA node not known: no link to a CPU"
                : $"links of one weight to the CPUs of NUMA nodes {NumberList.Write(cpus)}; {cpus[0]} is taken");
        }
        return cpus.Length == 0 ? -1 : cpus[0];
    }

    private void AddLink(int from, int to, ulong type, ulong weight)
    {
        // The kernel weighs an xGMI link 15 for each hop, and 13 within a package.
        int hops = weight is 0 or ulong.MaxValue ? 1 : (int)Math.Clamp((weight + XgmiHopWeight / 2) / XgmiHopWeight, 1, 255);
        (GpuLink Link, int Hops) link = type switch { XgmiType => (GpuLink.Xgmi, hops), PcieType => (GpuLink.Pcie, 0), _ => (GpuLink.None, 0) };
        Links[(from, to)] = Links.TryGetValue((from, to), out var known) && !IsBetter(link, known) ? known : link;
    }

    private static ulong ReadMemory(string folder, int node, NodeWarnings warnings)
    {
        string path = Path.Combine(folder, "mem_banks");
        ulong bytes = 0;
        if (Directory.Exists(path))
        {
            foreach (string bank in Entries(path, why => warnings.Add(node, $"mem_banks that cannot be read ({why})")))
            {
                var properties = KfdProperties.Read(Path.Combine(bank, "properties"), problem => warnings.Add(node, "a memory bank's " + problem, $"mem_banks/{Path.GetFileName(bank)}"));
                bytes = unchecked(bytes + (properties?.GetValueOrDefault("size_in_bytes") ?? 0));
            }
        }
        if (bytes == 0)
        {
            warnings.Add(node, "memory not known: its banks are missing or unreadable");
        }
        return bytes;
    }

    private static string[] Entries(string path, Action<string> warn)
    {
        try
        {
            return [.. Directory.GetDirectories(path).OrderBy(entry => entry.Length).ThenBy(entry => entry, StringComparer.Ordinal)];
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            warn(KfdProperties.Why(cause));
            return [];
        }
    }
}
