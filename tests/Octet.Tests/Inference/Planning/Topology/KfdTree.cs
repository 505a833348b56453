namespace Octet.Tests.Inference.Planning.Topology;

/// <summary>A made KFD tree in a temporary folder: CPU nodes first, then GPUs.</summary>
internal sealed class KfdTree : IDisposable
{
    private readonly Dictionary<int, int> _links = [];

    public KfdTree() => Directory.CreateDirectory(Path.Combine(Root, "nodes"));

    public string Root { get; } = Path.Combine(Path.GetTempPath(), "octet-kfd-" + Guid.NewGuid().ToString("N"));

    /// <summary>Two sockets, eight GPUs of which <paramref name="socket"/> says where each sits, all joined by xGMI.</summary>
    public static KfdTree EightMi300x(params int[] socket)
    {
        var tree = new KfdTree();
        tree.AddCpus(2);
        for (int gpu = 0; gpu < socket.Length; gpu++)
        {
            tree.AddGpu(2 + gpu, socket[gpu], 90402);
        }
        for (int a = 0; a < socket.Length; a++)
        {
            for (int b = 0; b < socket.Length; b++)
            {
                if (a != b)
                {
                    tree.AddLink(2 + a, 2 + b, type: 11, weight: 15);
                }
            }
        }
        return tree;
    }

    public string Node(int node) => Path.Combine(Root, "nodes", node.ToString(System.Globalization.CultureInfo.InvariantCulture));

    public void AddCpus(int count)
    {
        for (int cpu = 0; cpu < count; cpu++)
        {
            Write(Path.Combine(Node(cpu), "properties"), "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\n");
        }
    }

    public void AddGpu(int node, int socket, int version, ulong uniqueId = 0)
    {
        Write(Path.Combine(Node(node), "properties"), $"cpu_cores_count 0\nsimd_count 1216\ngfx_target_version {version}\nunique_id {(uniqueId == 0 ? (ulong)(1000 + node) : uniqueId)}\n");
        Write(Path.Combine(Node(node), "mem_banks/0/properties"), "heap_type 1\nsize_in_bytes 206141652992\n");
        AddLink(node, socket, type: 2, weight: 20);
    }

    public void AddLink(int from, int to, int type, int weight)
    {
        int link = _links[from] = _links.GetValueOrDefault(from, -1) + 1;
        Write(Path.Combine(Node(from), $"io_links/{link}/properties"), $"type {type}\nnode_from {from}\nnode_to {to}\nweight {weight}\n");
    }

    public static void Write(string path, string text)
    {
        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
