using System.Globalization;

namespace Octet.Inference.Planning.Topology;

/// <summary>One DP group on its GPUs.</summary>
/// <param name="Gpus">Its GPUs, by ordinal.</param>
/// <param name="Score">Sum of the pair scores; lower is closer.</param>
public sealed record PlacedGroup(IReadOnlyList<GpuNode> Gpus, int Score)
{
    /// <summary>What <c>HIP_VISIBLE_DEVICES</c> must be.</summary>
    public string VisibleDevices => string.Join(',', Gpus.Select(gpu => gpu.Ordinal.ToString(CultureInfo.InvariantCulture)));

    /// <summary>The NUMA nodes of its GPUs, ascending; those not known are left out.</summary>
    public IReadOnlyList<int> NumaNodes => [.. Gpus.Select(gpu => gpu.NumaNode).Where(node => node >= 0).Distinct().Order()];

    /// <summary>The command prefix that binds a process to the sockets of its GPUs, or empty if they are not known.</summary>
    public string Numactl => NumaNodes.Count == 0 ? "" : $"numactl --cpunodebind={string.Join(',', NumaNodes)} --membind={string.Join(',', NumaNodes)}";
}

/// <summary>Groups placed together.</summary>
/// <param name="Groups">The groups.</param>
/// <param name="Exact">Whether every split was weighed; false where there were too many.</param>
/// <param name="Warnings">What could not be done as asked.</param>
public sealed record Placement(IReadOnlyList<PlacedGroup> Groups, bool Exact, IReadOnlyList<string> Warnings)
{
    // 16 GPUs in four groups have 2.6 million splits, of which bounding leaves far fewer.
    private const int MostVisits = 4_000_000;

    /// <summary>Sum of the groups' scores.</summary>
    public int Score => Groups.Sum(group => group.Score);

    /// <summary>How far apart two GPUs are, as AMD's device plugin counts: (same device 10, other 20) + (xGMI 10, PCIe 40, other 50) + (same NUMA node 10, other 20).</summary>
    public static int PairScore(KfdTopology topology, GpuNode a, GpuNode b)
    {
        ArgumentNullException.ThrowIfNull(topology);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        int device = a.Device == b.Device ? 10 : 20;
        int link = topology.Link(a, b) switch { GpuLink.Xgmi => 10, GpuLink.Pcie => 40, _ => 50 };
        int numa = a.NumaNode >= 0 && a.NumaNode == b.NumaNode ? 10 : 20;
        return device + link + numa;
    }

    /// <summary>Places <paramref name="groups"/> groups of <paramref name="size"/> GPUs so that the sum of all pair scores within groups is least; of equals, the one with the lowest ordinals. Places fewer where there are not enough GPUs.</summary>
    /// <exception cref="PlanException">A number is below 1.</exception>
    public static Placement Place(KfdTopology topology, int groups, int size)
    {
        ArgumentNullException.ThrowIfNull(topology);
        if (groups < 1 || size < 1)
        {
            throw new PlanException($"groups {groups}x{size}: both numbers must be at least 1");
        }
        var warnings = new List<string>();
        int present = topology.Gpus.Count;
        if (size > present)
        {
            int fits = 1 << int.Log2(present);
            warnings.Add($"a group of {size} does not fit on {present} GPUs; placed one of {fits}");
            (groups, size) = (1, fits);
        }
        else if ((long)groups * size > present)
        {
            warnings.Add($"{groups} groups of {size} need {(long)groups * size} GPUs, {present} are usable; placed {present / size}");
            groups = present / size;
        }
        var search = new PlacementSearch(Pairs(topology), groups, size, MostVisits);
        int[][] best = search.Run();
        if (!search.Complete)
        {
            warnings.Add($"{present} GPUs have too many splits to weigh all: this is the best of those weighed, not proven best");
        }
        return new Placement([.. best.Select(group => Describe(topology, group))], search.Complete, warnings);
    }

    private static PlacedGroup Describe(KfdTopology topology, int[] group)
    {
        int score = 0;
        for (int i = 0; i < group.Length; i++)
        {
            for (int j = 0; j < i; j++)
            {
                score += PairScore(topology, topology.Gpus[group[i]], topology.Gpus[group[j]]);
            }
        }
        return new PlacedGroup([.. group.Select(index => topology.Gpus[index])], score);
    }

    private static int[,] Pairs(KfdTopology topology)
    {
        int n = topology.Gpus.Count;
        int[,] pairs = new int[n, n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                pairs[i, j] = PairScore(topology, topology.Gpus[i], topology.Gpus[j]);
            }
        }
        return pairs;
    }
}
