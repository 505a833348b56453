using System.Text.Json;

namespace Octet.Cli.Inspect;

/// <summary>The form of octet inspect --step --json.</summary>
internal static class StepJson
{
    public static void Write(StepCost cost, Gpu gpu, string build, Utf8JsonWriter writer)
    {
        writer.WriteString("target", gpu.Target);
        writer.WriteString("build", build);
        writer.WriteStartObject("step");
        writer.WriteString("kind", cost.Load.Kind);
        writer.WriteNumber("tp", cost.TensorParallel);
        writer.WriteNumber("ep", cost.ExpertParallel);
        writer.WriteNumber("batch", cost.Load.DecodeRows + cost.Load.Prompts);
        writer.WriteNumber("context", Math.Max(cost.Load.Context, cost.Load.PromptTokens));
        writer.WriteEndObject();
        writer.WriteStartArray("launches");
        foreach (var line in cost.Lines)
        {
            WriteLine(line, cost.Microseconds, writer);
        }

        writer.WriteEndArray();
        var floors = cost.Floors;
        Write(writer, ("microseconds", cost.Microseconds), ("kernel_microseconds", cost.KernelMicroseconds), ("link_microseconds", cost.LinkMicroseconds));
        WriteObject(writer, "floors", ("weights", floors.Weights), ("kv", floors.Kv), ("matrices", floors.Matrices), ("links", floors.Links));
        WriteLayer(writer, "layer", cost.Layer);
        Write(writer, ("plain_microseconds", cost.PlainMicroseconds));
        WriteLayer(writer, "plain_layer", cost.PlainLayer);
        WriteObject(writer, "memory", ("held_bytes", cost.HeldBytes), ("device_bytes", gpu.MemoryBytes));
    }

    private static void WriteLine(StepLine line, double total, Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteString("op", line.Name);
        writer.WriteString("name", line.Shape);
        writer.WriteString("config", line.Kernels);
        writer.WriteNumber("count", line.Count);
        Write(writer, ("microseconds", line.Microseconds), ("link_microseconds", line.LinkMicroseconds), ("share", line.Count * line.Microseconds / total));
        writer.WriteString("binds", line.Binds);
        writer.WriteEndObject();
    }

    private static void WriteLayer(Utf8JsonWriter writer, string name, LayerCost layer) => WriteObject(
        writer, name, ("kernels", layer.Kernels), ("signals", layer.Signals), ("transfers", layer.Transfers), ("launches_that_wait", layer.Launches));

    private static void WriteObject(Utf8JsonWriter writer, string name, params ReadOnlySpan<(string Name, double Value)> values)
    {
        writer.WriteStartObject(name);
        Write(writer, values);
        writer.WriteEndObject();
    }

    // Three decimals: a model has no more.
    private static void Write(Utf8JsonWriter writer, params ReadOnlySpan<(string Name, double Value)> values)
    {
        foreach (var (name, value) in values)
        {
            writer.WriteNumber(name, Math.Round(value, 3));
        }
    }
}
