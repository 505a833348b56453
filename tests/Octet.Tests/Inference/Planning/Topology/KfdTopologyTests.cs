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
        Assert.Contains("no usable GPU among 2", Assert.Throws<PlanException>(() => KfdTopology.Read(tree.Root)).Message, StringComparison.Ordinal);
        Assert.Throws<PlanException>(() => KfdTopology.Read(Path.Combine(tree.Root, "nothing")));
    }
}
