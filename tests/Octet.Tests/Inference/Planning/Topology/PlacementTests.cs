using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;

namespace Octet.Tests.Inference.Planning.Topology;

public class PlacementTests
{
    private static int GroupScore(KfdTopology topology, params int[] ordinals) =>
        ordinals.SelectMany((a, i) => ordinals.Take(i).Select(b => Placement.PairScore(topology, topology.Gpus[a], topology.Gpus[b]))).Sum();

    [Fact]
    public void Groups_of_four_mi300x_score_as_the_device_plugin_does()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 0, 0, 1, 1, 1, 1);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal(240, GroupScore(topology, 0, 1, 2, 3));
        Assert.Equal(270, GroupScore(topology, 0, 1, 2, 4));
        Assert.Equal(280, GroupScore(topology, 0, 1, 4, 5));
    }

    [Fact]
    public void Two_hives_of_four_mi210_score_as_the_device_plugin_does()
    {
        using var tree = new KfdTree();
        tree.AddCpus(2);
        for (int gpu = 0; gpu < 8; gpu++)
        {
            tree.AddGpu(2 + gpu, gpu / 4, 90010);
        }
        for (int a = 0; a < 8; a++)
        {
            for (int b = 0; b < 8; b++)
            {
                if (a != b)
                {
                    bool hive = a / 4 == b / 4;
                    tree.AddLink(2 + a, 2 + b, hive ? 11 : 2, hive ? 15 : 72);
                }
            }
        }
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal("gfx90a", topology.Gpus[0].Target);
        Assert.Equal(240, GroupScore(topology, 0, 1, 2, 3));
        Assert.Equal(360, GroupScore(topology, 0, 1, 2, 4));
        Assert.Equal(400, GroupScore(topology, 0, 1, 4, 5));
    }

    [Fact]
    public void Groups_keep_to_their_sockets_however_ordinals_interleave()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 1, 0, 1, 1, 0, 1, 0);
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 2, 4);
        Assert.Equal(["0,2,5,7", "1,3,4,6"], placement.Groups.Select(group => group.VisibleDevices));
        Assert.Equal(["numactl --cpunodebind=0 --membind=0", "numactl --cpunodebind=1 --membind=1"], placement.Groups.Select(group => group.Numactl));
        Assert.Equal(480, placement.Score);
        Assert.True(placement.Exact);
    }

    [Fact]
    public void The_placement_is_the_least_of_all_splits()
    {
        // Links are taken away at random; every split of eight into two fours is weighed by hand.
        var random = new Random(7);
        for (int round = 0; round < 20; round++)
        {
            using var tree = new KfdTree();
            tree.AddCpus(2);
            for (int gpu = 0; gpu < 8; gpu++)
            {
                tree.AddGpu(2 + gpu, random.Next(2), 90402);
            }
            for (int a = 0; a < 8; a++)
            {
                for (int b = 0; b < a; b++)
                {
                    if (random.Next(3) > 0)
                    {
                        tree.AddLink(2 + a, 2 + b, random.Next(2) == 0 ? 11 : 2, 15);
                    }
                }
            }
            KfdTopology topology = KfdTopology.Read(tree.Root);
            int least = Enumerable.Range(0, 256).Where(mask => int.PopCount(mask) == 4 && (mask & 1) == 1)
                .Min(mask => GroupScore(topology, [.. Enumerable.Range(0, 8).Where(i => (mask >> i & 1) == 1)]) + GroupScore(topology, [.. Enumerable.Range(0, 8).Where(i => (mask >> i & 1) == 0)]));
            Assert.Equal(least, Placement.Place(topology, 2, 4).Score);
        }
    }

    [Fact]
    public void A_missing_link_counts_as_the_worst()
    {
        using var tree = new KfdTree();
        tree.AddCpus(1);
        tree.AddGpu(1, 0, 90402);
        tree.AddGpu(2, 0, 90402);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal(20 + 50 + 10, GroupScore(topology, 0, 1));
    }

    [Fact]
    public void Too_few_gpus_get_fewer_groups_and_a_warning()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 0, 0, 1, 1, 1);
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 2, 4);
        Assert.Equal("0,1,2,3", Assert.Single(placement.Groups).VisibleDevices);
        Assert.Contains("7 are usable", Assert.Single(placement.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void A_group_larger_than_the_machine_shrinks_to_a_power_of_two()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 1);
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 1, 8);
        Assert.Equal(2, Assert.Single(placement.Groups).Gpus.Count);
        Assert.Single(placement.Warnings);
    }

    [Fact]
    public void Sixty_three_partitions_are_placed_by_device_with_a_warning()
    {
        using var tree = new KfdTree();
        tree.AddCpus(2);
        for (int partition = 0; partition < 64; partition++)
        {
            if (partition != 37)
            {
                tree.AddGpu(2 + partition, partition / 32, 90402, uniqueId: (ulong)(1 + partition / 8));
            }
        }
        for (int a = 0; a < 64; a++)
        {
            for (int b = 0; b < 64; b++)
            {
                if (a != b && a != 37 && b != 37)
                {
                    tree.AddLink(2 + a, 2 + b, 11, a / 8 == b / 8 ? 13 : 15);
                }
            }
        }
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal(63, topology.Gpus.Count);
        Assert.Contains(topology.Warnings, warning => warning.Contains("7 partitions where others have 8", StringComparison.Ordinal));
        Placement placement = Placement.Place(topology, 7, 8);
        Assert.All(placement.Groups, group => Assert.Single(group.NumaNodes));
        Assert.Equal(7 * 28 * 30, placement.Score);
    }

    [Fact]
    public void A_group_is_of_one_target_however_they_alternate()
    {
        using KfdTree tree = KfdTree.Mixed([.. Enumerable.Range(0, 8).Select(i => (i % 2 == 0 ? 90402 : 90500, 206141652992UL))]);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal((2, 4), Placement.Usual(topology));
        Assert.Equal(["0,2,4,6", "1,3,5,7"], Placement.Place(topology, 2, 4).Groups.Select(group => group.VisibleDevices));
        Assert.Equal("GPUs of 2 kinds, each group of one: gfx942 of 206.1 GB: gpus 0, 2, 4, 6; gfx950 of 206.1 GB: gpus 1, 3, 5, 7", Assert.Single(topology.Warnings));
    }

    [Fact]
    public void A_group_is_of_one_memory_size_however_they_alternate()
    {
        using KfdTree tree = KfdTree.Mixed([.. Enumerable.Range(0, 8).Select(i => (90402, i % 3 == 0 ? 206141652992UL : 274810798080UL))]);
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 2, 2);
        // One kind holds both groups: no need to mix kinds among them.
        Assert.Equal(["1,2", "4,5"], placement.Groups.Select(group => group.VisibleDevices));
        Assert.Equal([0, 3, 6, 7], placement.Idle.Select(gpu => gpu.Ordinal));
    }

    [Fact]
    public void Memory_that_differs_by_a_reserve_is_of_one_size()
    {
        using KfdTree tree = KfdTree.Mixed((90402, 206141652992UL), (90402, 205000000000UL), (90402, 206141652992UL), (90402, 204000000000UL));
        Assert.Equal("0,1,2,3", Assert.Single(Placement.Place(KfdTopology.Read(tree.Root), 1, 4).Groups).VisibleDevices);
    }

    [Theory]
    [InlineData(7, 1, 4, "4-6")]
    [InlineData(6, 1, 4, "4, 5")]
    [InlineData(5, 1, 4, "4")]
    [InlineData(3, 1, 2, "2")]
    [InlineData(2, 1, 2, "")]
    [InlineData(1, 1, 1, "")]
    public void What_is_placed_unasked_is_a_group_size_that_plan_allows_and_the_rest_is_idle(int gpus, int groups, int size, string idle)
    {
        using KfdTree tree = KfdTree.Mixed([.. Enumerable.Repeat((90402, 206141652992UL), gpus)]);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal((groups, size), Placement.Usual(topology));
        string report = TopologyReport.Write(topology, Placement.Place(topology, groups, size));
        Assert.Equal(idle.Length > 0, report.Contains("idle", StringComparison.Ordinal));
        Assert.Contains(idle, report, StringComparison.Ordinal);
    }

    [Fact]
    public void Unsupported_gpus_are_in_no_group_and_not_idle_either()
    {
        using KfdTree tree = KfdTree.Mixed((100306, 536870912UL), (90402, 206141652992UL), (90010, 68702699520UL), (90402, 206141652992UL));
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 1, 4);
        Assert.Equal("1,3", Assert.Single(placement.Groups).VisibleDevices);
        Assert.Empty(placement.Idle);
    }

    [Fact]
    public void A_group_stays_where_every_link_is_one_hop()
    {
        // All of one hive, but odd and even GPUs reach each other in two hops.
        using var tree = new KfdTree();
        tree.AddCpus(2);
        for (int gpu = 0; gpu < 8; gpu++)
        {
            tree.AddGpu(2 + gpu, 0, 90402);
            for (int other = 0; other < gpu; other++)
            {
                tree.AddLink(2 + gpu, 2 + other, type: 11, weight: gpu % 2 == other % 2 ? 15 : 30);
            }
        }
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 2, 4);
        Assert.Equal(["0,2,4,6", "1,3,5,7"], placement.Groups.Select(group => group.VisibleDevices));
    }

    [Fact]
    public void Groups_keep_to_a_socket_of_several_numa_nodes()
    {
        // Four NUMA nodes to a socket; GPUs of even number on the first socket.
        using var tree = new KfdTree();
        tree.AddCpus(8);
        for (int gpu = 0; gpu < 8; gpu++)
        {
            tree.AddGpuAlone(8 + gpu, 90402, $"unique_id {1000 + gpu}\n");
            int home = gpu / 2 + gpu % 2 * 4;
            for (int cpu = 0; cpu < 8; cpu++)
            {
                tree.AddLink(8 + gpu, cpu, type: 2, weight: cpu == home ? 20 : cpu / 4 == home / 4 ? 32 : 52);
            }
        }
        tree.LinkAll(Enumerable.Range(8, 8));
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), 2, 4);
        Assert.Equal(["0,2,4,6", "1,3,5,7"], placement.Groups.Select(group => group.VisibleDevices));
        Assert.Equal([0, 1, 2, 3], placement.Groups[0].NumaNodes);
        // Distances of sockets order what scores alike; they are no part of the score.
        Assert.Equal(600, placement.Score);
    }

    [Fact]
    public void Numbers_below_one_are_refused()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Throws<PlanException>(() => Placement.Place(topology, 0, 4));
        Assert.Throws<PlanException>(() => Placement.Place(topology, 2, 0));
    }
}
