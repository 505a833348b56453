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
    public void Numbers_below_one_are_refused()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Throws<PlanException>(() => Placement.Place(topology, 0, 4));
        Assert.Throws<PlanException>(() => Placement.Place(topology, 2, 0));
    }
}
