using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Octet.Inference.Planning.Topology;

/// <summary>Writes a machine's GPUs and a placement on them.</summary>
public static class TopologyReport
{
    /// <summary>Text for a terminal.</summary>
    public static string Write(KfdTopology topology, Placement placement)
    {
        ArgumentNullException.ThrowIfNull(topology);
        ArgumentNullException.ThrowIfNull(placement);
        var text = new StringBuilder();
        foreach (GpuNode gpu in topology.Gpus)
        {
            string numa = gpu.NumaNode < 0 ? "NUMA node not known" : string.Create(CultureInfo.InvariantCulture, $"NUMA {gpu.NumaNode}");
            string use = gpu.IsSupported ? "" : gpu.Integrated ? ", integrated, not used" : ", not used";
            text.Append(CultureInfo.InvariantCulture, $"gpu {gpu.Ordinal}: node {gpu.Node}, {gpu.Target}, {gpu.Memory}, {numa}{use}\n");
        }
        int devices = topology.Gpus.DistinctBy(gpu => gpu.Device).Count();
        if (devices < topology.Gpus.Count)
        {
            text.Append(CultureInfo.InvariantCulture, $"{topology.Gpus.Count} GPUs are on {devices} devices: they are partitions\n");
        }
        if (placement.Groups.Count == 0)
        {
            return text.Append("no placement\n").ToString();
        }
        text.Append(CultureInfo.InvariantCulture, $"placement, score {placement.Score}{(placement.Exact ? "" : ", not proven best")}:\n");
        return text.Append(PlanManifests.Environment(placement)).ToString();
    }

    /// <summary>The members <c>gpus, groups, idle, score, exact, warnings</c> into the open object; a group has <c>devices, numa_nodes, score, environment, numactl</c>, and GPUs are named by ordinal.</summary>
    public static void Write(KfdTopology topology, Placement placement, Utf8JsonWriter json)
    {
        ArgumentNullException.ThrowIfNull(topology);
        ArgumentNullException.ThrowIfNull(placement);
        ArgumentNullException.ThrowIfNull(json);
        json.WriteStartArray("gpus");
        foreach (GpuNode gpu in topology.Gpus)
        {
            json.WriteStartObject();
            json.WriteNumber("ordinal", gpu.Ordinal);
            json.WriteNumber("node", gpu.Node);
            json.WriteString("target", gpu.Target);
            json.WriteNumber("memory_bytes", gpu.MemoryBytes);
            json.WriteNumber("numa_node", gpu.NumaNode);
            json.WriteString("device", gpu.Device);
            json.WriteBoolean("supported", gpu.IsSupported);
            json.WriteBoolean("integrated", gpu.Integrated);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("groups");
        foreach (PlacedGroup group in placement.Groups)
        {
            json.WriteStartObject();
            WriteNumbers(json, "devices", group.Gpus.Select(gpu => gpu.Ordinal));
            WriteNumbers(json, "numa_nodes", group.NumaNodes);
            json.WriteNumber("score", group.Score);
            json.WriteStartObject("environment");
            json.WriteString("HIP_VISIBLE_DEVICES", group.VisibleDevices);
            json.WriteEndObject();
            json.WriteString("numactl", group.Numactl);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        WriteNumbers(json, "idle", placement.Idle.Select(gpu => gpu.Ordinal));
        json.WriteNumber("score", placement.Score);
        json.WriteBoolean("exact", placement.Exact);
        json.WriteStartArray("warnings");
        foreach (string warning in topology.Warnings.Concat(placement.Warnings))
        {
            json.WriteStringValue(warning);
        }
        json.WriteEndArray();
    }

    private static void WriteNumbers(Utf8JsonWriter json, string name, IEnumerable<int> numbers)
    {
        json.WriteStartArray(name);
        foreach (int number in numbers)
        {
            json.WriteNumberValue(number);
        }
        json.WriteEndArray();
    }
}
