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
/// <param name="Groups">The groups, each of GPUs of one kind; none where no GPU is of use to Octet.</param>
/// <param name="Idle">The GPUs of use to Octet that are in no group, by ordinal.</param>
/// <param name="Exact">Whether every split was weighed; false where there were too many.</param>
/// <param name="Warnings">What could not be done as asked.</param>
public sealed record Placement(IReadOnlyList<PlacedGroup> Groups, IReadOnlyList<GpuNode> Idle, bool Exact, IReadOnlyList<string> Warnings)
{
    // 16 GPUs in four groups have 2.6 million splits, of which bounding leaves far fewer.
    private const int MostVisits = 4_000_000;
    private const int UsualGroup = 4;

    // Scores of pairs weigh this much against the distance of their sockets: more than all distances of a group of eight together.
    private const int TieBreak = 8192;

    /// <summary>Sum of the groups' scores.</summary>
    public int Score => Groups.Sum(group => group.Score);

    /// <summary>How far apart two GPUs are, as AMD's device plugin counts: (same device 10, other 20) + (xGMI 10, PCIe 40, other 50) + (same NUMA node 10, other 20); a second hop of xGMI adds 10, a third 10 more.</summary>
    public static int PairScore(KfdTopology topology, GpuNode a, GpuNode b)
    {
        ArgumentNullException.ThrowIfNull(topology);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        int device = a.Device == b.Device ? 10 : 20;
        int link = topology.Link(a, b) switch { GpuLink.Xgmi => 10 * Math.Min(topology.XgmiHops(a, b), 3), GpuLink.Pcie => 40, _ => 50 };
        int numa = a.NumaNode >= 0 && a.NumaNode == b.NumaNode ? 10 : 20;
        return device + link + numa;
    }

    /// <summary>What is placed where nothing else is asked: groups of four or, where no kind has four GPUs, of the largest power of two; as many as there are GPUs for.</summary>
    public static (int Groups, int Size) Usual(KfdTopology topology)
    {
        ArgumentNullException.ThrowIfNull(topology);
        int largest = topology.Kinds.Select(kind => kind.Count).DefaultIfEmpty(1).Max();
        int size = Math.Min(UsualGroup, 1 << int.Log2(largest));
        return (Math.Max(1, topology.Kinds.Sum(kind => kind.Count / size)), size);
    }

    /// <summary>
    /// Places <paramref name="groups"/> groups of <paramref name="size"/> GPUs, each of one kind, so that the sum of all pair scores
    /// within groups is least; of equals, the one whose sockets are closest, then the one with the lowest ordinals. Groups are of as few kinds as can be. Places fewer where
    /// there are not enough GPUs.
    /// </summary>
    /// <exception cref="PlanException">A number is below 1.</exception>
    public static Placement Place(KfdTopology topology, int groups, int size)
    {
        ArgumentNullException.ThrowIfNull(topology);
        if (groups < 1 || size < 1)
        {
            throw new PlanException($"groups {groups}x{size}: both numbers must be at least 1");
        }
        if (topology.Kinds.Count == 0)
        {
            return new Placement([], [], true, [topology.Gpus.Count == 0 ? "no GPU, so no group can be placed" : "no GPU that Octet runs on, so no group can be placed"]);
        }
        var warnings = new List<string>();
        int largest = topology.Kinds.Max(kind => kind.Count);
        int present = topology.Kinds.Sum(kind => kind.Count);
        if (size > largest)
        {
            int fits = 1 << int.Log2(largest);
            warnings.Add($"a group of {size} does not fit on {largest} GPUs{(largest < present ? " of one kind" : "")}; placed one of {fits}");
            (groups, size) = (1, fits);
        }
        int room = topology.Kinds.Sum(kind => kind.Count / size);
        if (groups > room)
        {
            warnings.Add($"{groups} groups of {size} need {(long)groups * size} GPUs{(room * size < present && topology.Kinds.Count > 1 ? ", each group of one kind" : "")}; {present} are usable; placed {room}");
            groups = room;
        }
        (List<PlacedGroup> placed, bool exact) = PlaceKinds(topology, groups, size);
        if (!exact)
        {
            warnings.Add($"{present} GPUs have too many splits to weigh all: this is the best of those weighed, not proven best");
        }
        var used = placed.SelectMany(group => group.Gpus).ToHashSet();
        return new Placement(placed, [.. topology.Gpus.Where(gpu => gpu.IsSupported && !used.Contains(gpu))], exact, warnings);
    }

    private static (List<PlacedGroup> Groups, bool Exact) PlaceKinds(KfdTopology topology, int groups, int size)
    {
        // One kind that holds them all is best, and of several such the one where they lie closest.
        var whole = topology.Kinds.Where(kind => kind.Count / size >= groups).Select(kind => PlaceKind(topology, kind, groups, size)).ToList();
        if (whole.Count > 0)
        {
            return whole.MinBy(placement => placement.Groups.Sum(group => group.Score));
        }
        (List<PlacedGroup> Groups, bool Exact) all = ([], true);
        foreach (IReadOnlyList<GpuNode> kind in topology.Kinds.OrderByDescending(kind => kind.Count / size))
        {
            int count = Math.Min(groups - all.Groups.Count, kind.Count / size);
            if (count > 0)
            {
                (List<PlacedGroup> more, bool exact) = PlaceKind(topology, kind, count, size);
                all = ([.. all.Groups, .. more], all.Exact && exact);
            }
        }
        return ([.. all.Groups.OrderBy(group => group.Gpus[0].Ordinal)], all.Exact);
    }

    private static (List<PlacedGroup> Groups, bool Exact) PlaceKind(KfdTopology topology, IReadOnlyList<GpuNode> kind, int groups, int size)
    {
        int[,] pairs = new int[kind.Count, kind.Count];
        for (int i = 0; i < kind.Count; i++)
        {
            for (int j = 0; j < kind.Count; j++)
            {
                pairs[i, j] = PairScore(topology, kind[i], kind[j]) * TieBreak + topology.NumaDistance(kind[i], kind[j]);
            }
        }
        var search = new PlacementSearch(pairs, groups, size, MostVisits);
        int[][] best = search.Run();
        return ([.. best.Select(group => Describe(topology, [.. group.Select(index => kind[index])]))], search.Complete);
    }

    private static PlacedGroup Describe(KfdTopology topology, GpuNode[] gpus) =>
        new(gpus, gpus.SelectMany((gpu, i) => gpus.Take(i).Select(other => PairScore(topology, gpu, other))).Sum());
}
