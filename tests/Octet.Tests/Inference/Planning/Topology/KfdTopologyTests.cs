using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;

namespace Octet.Tests.Inference.Planning.Topology;

public class KfdTopologyTests
{
    [Fact]
    public void A_whole_tree_is_read_without_warnings()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 0, 0, 1, 1, 1, 1);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Empty(topology.Warnings);
        Assert.Equal(8, topology.Gpus.Count);
        Assert.Equal(new GpuNode(5, 7, "gfx942", 206141652992, 1, "3ef"), topology.Gpus[5]);
        Assert.Equal(GpuLink.Xgmi, topology.Link(topology.Gpus[0], topology.Gpus[7]));
    }

    [Theory]
    [InlineData(90402, "gfx942")]
    [InlineData(90500, "gfx950")]
    [InlineData(90010, "gfx90a")]
    [InlineData(110001, "gfx1101")]
    [InlineData(0, "unknown")]
    public void A_target_version_is_named_as_the_compiler_names_it(ulong version, string name) => Assert.Equal(name, KfdTopology.TargetName(version));

    [Theory]
    [InlineData("")]
    [InlineData("\0\0\0")]
    [InlineData("simd_count many\n")]
    [InlineData("simd_count -1\n")]
    [InlineData("simd_count 99999999999999999999999\n")]
    [InlineData("gfx_target_version 90402\nsimd_count 0\n")]
    public void A_gpu_with_broken_properties_is_left_out_with_a_warning(string properties)
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 0, 0, 1, 1, 1, 1);
        KfdTree.Write(Path.Combine(tree.Node(4), "properties"), properties);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal(7, topology.Gpus.Count);
        Assert.DoesNotContain(topology.Gpus, gpu => gpu.Node == 4);
        Assert.Contains(topology.Warnings, warning => warning.Contains("node 4", StringComparison.Ordinal));
        // A process counts what it can open: ordinals close up over the gap.
        Assert.Equal(Enumerable.Range(0, 7), topology.Gpus.Select(gpu => gpu.Ordinal));
    }

    [Fact]
    public void Missing_links_memory_and_sockets_are_warned_of()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 1, 1);
        Directory.Delete(Path.Combine(tree.Node(3), "io_links"), recursive: true);
        Directory.Delete(Path.Combine(tree.Node(3), "mem_banks"), recursive: true);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        GpuNode broken = topology.Gpus[1];
        Assert.Equal((-1, 0UL), (broken.NumaNode, broken.MemoryBytes));
        Assert.Equal(3, topology.Warnings.Count(warning => warning.Contains("node 3", StringComparison.Ordinal)));
        // The other end still lists the link.
        Assert.Equal(GpuLink.Xgmi, topology.Link(broken, topology.Gpus[0]));
    }

    [Fact]
    public void A_link_file_of_rubbish_is_left_out()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0);
        KfdTree.Write(Path.Combine(tree.Node(2), "io_links/9/properties"), "weight 15\n");
        KfdTree.Write(Path.Combine(tree.Node(2), "io_links/10/properties"), new string('x', 100_000));
        _ = Directory.CreateDirectory(Path.Combine(tree.Node(2), "io_links/11/properties"));
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal(3, topology.Warnings.Count);
        Assert.Equal(2, topology.Gpus.Count);
    }

    [Fact]
    public void The_nodes_folder_and_a_copy_of_sys_are_found_too()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0);
        Assert.Equal(2, KfdTopology.Read(Path.Combine(tree.Root, "nodes")).Gpus.Count);
        string sys = Path.Combine(tree.Root, "copy/class/kfd/kfd/topology");
        _ = Directory.CreateDirectory(sys);
        Directory.Move(Path.Combine(tree.Root, "nodes"), Path.Combine(sys, "nodes"));
        Assert.Equal(2, KfdTopology.Read(Path.Combine(tree.Root, "copy")).Gpus.Count);
    }

    [Fact]
    public void A_tree_without_gpus_is_refused()
    {
        using var tree = new KfdTree();
        tree.AddCpus(2);
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Empty(topology.Gpus);
        Placement placement = Placement.Place(topology, 1, 1);
        Assert.Empty(placement.Groups);
        Assert.Contains("no GPU", Assert.Single(placement.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_without_a_tree_or_with_no_readable_node_is_refused()
    {
        using var tree = new KfdTree();
        Assert.Contains("none of its nodes", Assert.Throws<PlanException>(() => KfdTopology.Read(tree.Root)).Message, StringComparison.Ordinal);
        KfdTree.Write(Path.Combine(tree.Node(0), "properties"), "");
        Assert.Contains("node 0: properties", Assert.Throws<PlanException>(() => KfdTopology.Read(tree.Root)).Message, StringComparison.Ordinal);
        Assert.Throws<PlanException>(() => KfdTopology.Read(Path.Combine(tree.Root, "nothing")));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void An_integrated_gpu_keeps_its_ordinal_and_is_named_wherever_it_stands(int integrated)
    {
        using var tree = new KfdTree();
        tree.AddCpus(1);
        foreach (int node in new[] { 1, 2, 3 })
        {
            // One without links or memory banks worth a warning of their own.
            if (node == integrated)
            {
                tree.AddGpuAlone(node, 100306, memory: 0);
            }
            else
            {
                tree.AddGpu(node, 0, 90402);
            }
        }
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal($"gpu {integrated - 1} (gfx1036, integrated) in no group: Octet runs on gfx942 and gfx950", Assert.Single(topology.Warnings));
        Assert.Equal(Enumerable.Range(0, 3).Where(ordinal => ordinal != integrated - 1), Assert.Single(topology.Kinds).Select(gpu => gpu.Ordinal));
    }

    [Fact]
    public void Unsupported_gpus_of_one_kind_share_a_line()
    {
        using KfdTree tree = KfdTree.Mixed((90010, 1UL << 36), (90402, 1UL << 37), (90010, 1UL << 36), (110000, 1UL << 34), (0, 1UL << 34));
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal(
            [
                "gpus 0, 2 (gfx90a) in no group: Octet runs on gfx942 and gfx950",
                "gpu 3 (gfx1100) in no group: Octet runs on gfx942 and gfx950",
                "gpu 4 (of a target that the kernel does not state) in no group: Octet runs on gfx942 and gfx950",
            ],
            topology.Warnings);
    }

    [Fact]
    public void Xgmi_links_to_processors_give_the_numa_nodes_of_mi300a()
    {
        using var tree = new KfdTree();
        tree.AddCpus(4);
        for (int gpu = 0; gpu < 4; gpu++)
        {
            tree.AddGpuAlone(4 + gpu, 90402, $"unique_id {1000 + gpu}\n");
            for (int cpu = 3; cpu >= 0; cpu--)
            {
                tree.AddLink(4 + gpu, cpu, type: 11, weight: cpu == gpu ? 13 : 32);
            }
        }
        tree.LinkAll(Enumerable.Range(4, 4));
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal([0, 1, 2, 3], topology.Gpus.Select(gpu => gpu.NumaNode));
        Assert.Empty(topology.Warnings);
    }

    [Fact]
    public void Many_gpus_with_one_problem_share_a_line()
    {
        using var tree = new KfdTree();
        tree.AddCpus(2);
        for (int gpu = 0; gpu < 8; gpu++)
        {
            tree.AddGpuAlone(2 + gpu, 90402, $"unique_id {1000 + gpu}\n", memory: 0);
        }
        Assert.Equal(
            ["nodes 2-9: no io_links: links not known", "nodes 2-9: NUMA node not known: no link to a CPU", "nodes 2-9: memory not known: its banks are missing or unreadable"],
            KfdTopology.Read(tree.Root).Warnings);
    }

    [Fact]
    public void Gpus_hidden_from_a_container_share_a_line_and_take_no_ordinal()
    {
        using KfdTree tree = KfdTree.EightMi300x(0, 0, 0, 0, 1, 1, 1, 1);
        foreach (int node in new[] { 2, 3, 4, 7, 8, 9 })
        {
            File.Delete(Path.Combine(tree.Node(node), "properties"));
        }
        KfdTopology topology = KfdTopology.Read(tree.Root);
        Assert.Equal("nodes 2-4, 7-9: properties that cannot be read (missing); left out", Assert.Single(topology.Warnings));
        Assert.Equal([(0, 5), (1, 6)], topology.Gpus.Select(gpu => (gpu.Ordinal, gpu.Node)));
    }

    [Theory]
    [InlineData("unique_id 5\nlocation_id {0}\n", true)]
    [InlineData("unique_id 0\nlocation_id {1}\n", true)]
    [InlineData("unique_id {2}\nlocation_id {1}\n", true)]
    [InlineData("unique_id 0\nlocation_id {0}\n", false)]
    [InlineData("unique_id 0\nlocation_id 0\n", false)]
    [InlineData("", false)]
    public void Partitions_of_a_device_are_known_by_its_id_or_its_place_on_the_bus(string properties, bool same)
    {
        using var tree = new KfdTree();
        tree.AddCpus(1);
        for (int gpu = 0; gpu < 4; gpu++)
        {
            // {0}: another bus each; {1}: one bus and device, the partition in the function or, of the last two, above bit 27; {2}: another id each.
            int partition = gpu < 2 ? 0x300 + gpu : 0x300 + (gpu << 28);
            tree.AddGpuAlone(1 + gpu, 90402, string.Format(System.Globalization.CultureInfo.InvariantCulture, properties, 0x300 + 0x100 * gpu, (uint)partition, 70 + gpu));
        }
        Assert.Equal(same ? 1 : 4, KfdTopology.Read(tree.Root).Gpus.Select(gpu => gpu.Device).Distinct().Count());
    }
}
