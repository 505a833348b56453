namespace Octet.Tests.Inference.Planning.Topology;

/// <summary>A made KFD tree in a temporary folder: CPU nodes first, then GPUs.</summary>
internal sealed class KfdTree : IDisposable
{
    private readonly Dictionary<int, int> _links = [];

    public KfdTree() => Directory.CreateDirectory(Path.Combine(Root, "nodes"));

    public string Root { get; } = Path.Combine(Path.GetTempPath(), "octet-kfd-" + Guid.NewGuid().ToString("N"));

    /// <summary>GPUs of one socket, all joined by xGMI, of these targets and memory sizes.</summary>
    public static KfdTree Mixed(params (int Version, ulong Memory)[] gpus)
    {
        var tree = new KfdTree();
        tree.AddCpus(1);
        for (int gpu = 0; gpu < gpus.Length; gpu++)
        {
            tree.AddGpu(1 + gpu, 0, gpus[gpu].Version, memory: gpus[gpu].Memory);
        }
        tree.LinkAll(Enumerable.Range(1, gpus.Length));
        return tree;
    }

    /// <summary>Two sockets, eight GPUs of which <paramref name="socket"/> says where each sits, all joined by xGMI.</summary>
    public static KfdTree EightMi300x(params int[] socket)
    {
        var tree = new KfdTree();
        tree.AddCpus(2);
        for (int gpu = 0; gpu < socket.Length; gpu++)
        {
            tree.AddGpu(2 + gpu, socket[gpu], 90402);
        }
        tree.LinkAll(Enumerable.Range(2, socket.Length));
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

    public void AddGpu(int node, int socket, int version, ulong uniqueId = 0, ulong memory = 206141652992)
    {
        AddGpuAlone(node, version, $"unique_id {(uniqueId == 0 ? (ulong)(1000 + node) : uniqueId)}\n", memory);
        AddLink(node, socket, type: 2, weight: 20);
    }

    /// <summary>A GPU without links.</summary>
    public void AddGpuAlone(int node, int version, string properties = "", ulong memory = 206141652992)
    {
        Write(Path.Combine(Node(node), "properties"), $"cpu_cores_count 0\nsimd_count 1216\ngfx_target_version {version}\n{properties}");
        Write(Path.Combine(Node(node), "mem_banks/0/properties"), $"heap_type 1\nsize_in_bytes {memory}\n");
    }

    /// <summary>Joins every two of these nodes by one hop of xGMI.</summary>
    public void LinkAll(IEnumerable<int> nodes)
    {
        foreach (int a in nodes)
        {
            foreach (int b in nodes.Where(b => b != a))
            {
                AddLink(a, b, type: 11, weight: 15);
            }
        }
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
