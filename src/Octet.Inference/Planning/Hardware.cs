using Octet.Inference.Loading;

namespace Octet.Inference.Planning;

/// <summary>One kind of GPU and the fabric between its like, from Data/hardware.json, where each figure's source stands.</summary>
public sealed record Hardware
{
    /// <summary>The name the node option uses, such as <c>mi325x</c>.</summary>
    public required string Kind { get; init; }

    /// <summary>The product's name.</summary>
    public required string Name { get; init; }

    /// <summary>The resource a Kubernetes device plugin offers it as.</summary>
    public required string Resource { get; init; }

    /// <summary>Memory of one GPU, bytes.</summary>
    public required double MemoryBytes { get; init; }

    /// <summary>Peak memory bandwidth, GB/s.</summary>
    public required double MemoryGBPerSecond { get; init; }

    /// <summary>FP8 matrix throughput reachable by the best library, TFLOP/s.</summary>
    public required double Fp8Tflops { get; init; }

    /// <summary>BF16 attention throughput in prefill, TFLOP/s.</summary>
    public required double AttentionTflops { get; init; }

    /// <summary>Memory of one GPU that neither weights nor KV cache may use, bytes.</summary>
    public required double OverheadBytes { get; init; }

    /// <summary>Whether every pair has its own link (xGMI) rather than all sharing a switch (NVLink).</summary>
    public required bool IsMesh { get; init; }

    /// <summary>GB/s of one link of a mesh, or of one GPU into the switch.</summary>
    public required double LinkGBPerSecond { get; init; }

    /// <summary>Microseconds an all-reduce takes however small.</summary>
    public required double AllReduceFloorMicroseconds { get; init; }

    /// <summary>Measured all-reduce over 8 GPUs: (bytes, microseconds), ascending; empty if none was measured.</summary>
    public required IReadOnlyList<(double Bytes, double Microseconds)> AllReducePoints { get; init; }

    /// <summary>Where the figures come from.</summary>
    public required IReadOnlyList<string> Sources { get; init; }

    /// <summary>The kinds known.</summary>
    public static IReadOnlyList<string> Kinds { get; } = [.. PlanData.ReadJson("hardware.json").Members().Select(member => member.Name)];

    /// <summary>Finds a kind of GPU.</summary>
    /// <exception cref="PlanException">There is none of this name.</exception>
    public static Hardware Find(string kind)
    {
        ArgumentNullException.ThrowIfNull(kind);
        string name = kind.ToLowerInvariant();
        return PlanData.ReadJson("hardware.json").FindObject(name) is { } json
            ? Parse(name, json)
            : throw new PlanException($"GPU '{kind}' is not known; known are {string.Join(", ", Kinds)}");
    }

    /// <summary>Milliseconds of one all-reduce of <paramref name="bytes"/> over <paramref name="gpus"/>. On a mesh the 8-GPU measurement is a lower bound for a smaller group, whose fewer links bound it by <c>2 bytes / (gpus x link)</c>.</summary>
    public double AllReduceMs(int gpus, double bytes)
    {
        if (gpus == 1)
        {
            return 0;
        }
        double links = 2 * bytes / (gpus * LinkGBPerSecond * 1e3);
        if (!IsMesh)
        {
            return (AllReduceFloorMicroseconds + links * (gpus - 1)) / 1e3;
        }
        double measured = Measured(bytes);
        return (gpus == 8 ? measured : Math.Max(measured, AllReduceFloorMicroseconds + links)) / 1e3;
    }

    private double Measured(double bytes)
    {
        if (bytes <= AllReducePoints[0].Bytes)
        {
            return AllReducePoints[0].Microseconds;
        }
        for (int i = 1; i < AllReducePoints.Count; i++)
        {
            (double upper, double time) = AllReducePoints[i];
            if (bytes <= upper)
            {
                (double lower, double before) = AllReducePoints[i - 1];
                return before + (bytes - lower) / (upper - lower) * (time - before);
            }
        }
        return AllReducePoints[^1].Microseconds * bytes / AllReducePoints[^1].Bytes;
    }

    private static Hardware Parse(string kind, ModelJson json)
    {
        double Number(ModelJson from, string field) => from.Get(field).AsNumber(0, 1e15);
        ModelJson fabric = json.Object("fabric");
        return new Hardware
        {
            Kind = kind,
            Name = json.Text("name"),
            Resource = json.Text("resource"),
            MemoryBytes = Number(json, "memory_bytes"),
            MemoryGBPerSecond = Number(json, "memory_gb_per_s"),
            Fp8Tflops = Number(json, "fp8_tflops"),
            AttentionTflops = Number(json, "attention_tflops"),
            OverheadBytes = Number(json, "overhead_bytes"),
            IsMesh = fabric.Text("kind") == "mesh",
            LinkGBPerSecond = Number(fabric, "link_gb_per_s"),
            AllReduceFloorMicroseconds = Number(fabric, "floor_us"),
            AllReducePoints = [.. fabric.Get("all_reduce_us").Items().Select(point => point.Items().Select(value => value.AsNumber(0, 1e15)).ToArray()).Select(pair => (pair[0], pair[1]))],
            Sources = [.. json.Get("sources").Items().Select(source => source.AsText())],
        };
    }
}
