using System.Text;
using System.Text.Json;
using Octet.Cli;
using Octet.Inference.Planning.Topology;
using Octet.Tests.Inference.Planning.Topology;

namespace Octet.Tests.Cli;

public sealed class PeerLinksTests
{
    [Fact]
    public void Every_gpu_has_the_others_with_their_links()
    {
        using var tree = KfdTree.EightMi300x(0, 0, 1);
        var peers = PeerLinks.Of(["hip:0", "hip:1", "hip:2"], (from, to) => from + to != 3, KfdTopology.Read(tree.Root));
        Assert.Equal(["hip:0", "hip:1", "hip:2"], peers.Keys.Order(StringComparer.Ordinal));
        Assert.Equal([new PeerLink("hip:1", true, "xgmi", 1), new PeerLink("hip:2", true, "xgmi", 1)], peers["hip:0"]);
        Assert.Equal("reaches hip:1 (xGMI), hip:2 (xGMI)", PeerLinks.Describe(peers["hip:0"]));
        Assert.Equal("reaches hip:0 (xGMI); not hip:2 (xGMI)", PeerLinks.Describe(peers["hip:1"]));
    }

    [Fact]
    public void Where_the_kernel_tells_nothing_the_driver_does_alone()
    {
        var peers = PeerLinks.Of(["cuda:0", "cuda:1"], (from, _) => from == 0, null);
        Assert.Equal("reaches cuda:1", PeerLinks.Describe(peers["cuda:0"]));
        Assert.Equal("reaches no peer: cuda:0", PeerLinks.Describe(peers["cuda:1"]));
        Assert.Equal("reaches hip:1 (PCIe), hip:2 (xGMI, 2 hops)", PeerLinks.Describe([new("hip:1", true, "pcie", 0), new("hip:2", true, "xgmi", 2)]));
    }

    [Fact]
    public void One_gpu_has_no_peers() => Assert.Empty(PeerLinks.Of(["hip:0"], (_, _) => true, null));

    [Fact]
    public void The_json_has_every_peer_with_what_is_known_of_it()
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            PeerLinks.Write(writer, [new("hip:1", true, "xgmi", 1), new("hip:2", false, null, 0)]);
            writer.WriteEndObject();
        }

        Assert.Equal(
            """{"peers":[{"name":"hip:1","reached":true,"link":"xgmi","hops":1},{"name":"hip:2","reached":false,"link":null,"hops":0}]}""",
            Encoding.UTF8.GetString(stream.ToArray()));
    }
}
