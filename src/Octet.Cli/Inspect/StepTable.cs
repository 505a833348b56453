using System.Globalization;
using System.Text;
using System.Text.Json;
using Octet.Inference.Planning;

namespace Octet.Cli.Inspect;

/// <summary>A step as a person reads it, as JSON, and many of them as a table of the report.</summary>
internal static class StepTable
{
    private const int DecodeContext = 5670, PromptTokens = 5600;

    private static readonly int[] s_ranks = [1, 2, 4, 8];

    private static readonly int[] s_rows = [1, 16, 64, 256];

    private static readonly string[] s_header = ["op", "shape", "count", "us", "of these links", "sum us", "share", "binds", "kernels"];

    /// <summary>Launch by launch, and what it comes to.</summary>
    /// <param name="cost">The step.</param>
    /// <param name="gpu">The chip.</param>
    /// <param name="columns">Of the terminal.</param>
    public static string Plain(StepCost cost, Gpu gpu, int columns)
    {
        var text = new StringBuilder();
        void Line(FormattableString line) => text.AppendLine(Terminal.Fold(FormattableString.Invariant(line), columns));
        Line($"{NameOf(cost)} on {gpu.Target}. Modelled from the compiled code, not measured.");
        text.AppendLine().AppendLine(InspectTable.Plain(s_header, [.. cost.Lines.Select(l => Row(l, cost.Microseconds))], 2, columns));
        Line($"total {InspectTable.Text(cost.Microseconds)} us: kernels and launches {InspectTable.Text(cost.KernelMicroseconds)}, links and waits {InspectTable.Text(cost.LinkMicroseconds)}");
        Line($"floors: weights {InspectTable.Text(cost.Floors.Weights)} us, KV {InspectTable.Text(cost.Floors.Kv)}, matrices {InspectTable.Text(cost.Floors.Matrices)}, links {InspectTable.Text(cost.Floors.Links)}");
        Line($"a layer: kernels and launches {InspectTable.Text(cost.Layer.Kernels)} us, {Links(cost.Layer)}");
        if (cost.TensorParallel > 1)
        {
            Line($"with a plain BF16 all-reduce and tokens not divided: total {InspectTable.Text(cost.PlainMicroseconds)} us; a layer: kernels and launches {InspectTable.Text(cost.PlainLayer.Kernels)}, links and waits {InspectTable.Text(cost.PlainLayer.Links)}");
        }

        Line($"weights and KV cache of a rank: {cost.HeldBytes * 1e-9:f1} GB of {gpu.MemoryBytes * 1e-9:f1}{(cost.HeldBytes > gpu.MemoryBytes ? ", more than it has" : "")}");
        return text.ToString();
    }

    /// <summary>The fields of octet inspect --step --json.</summary>
    public static void Write(StepCost cost, Gpu gpu, string build, Utf8JsonWriter writer)
    {
        writer.WriteString("target", gpu.Target);
        writer.WriteString("build", build);
        writer.WriteStartObject("step");
        writer.WriteString("kind", KindOf(cost.Load));
        writer.WriteNumber("tp", cost.TensorParallel);
        writer.WriteNumber("ep", cost.ExpertParallel);
        writer.WriteNumber("batch", cost.Load.DecodeRows + cost.Load.Prompts);
        writer.WriteNumber("context", Math.Max(cost.Load.Context, cost.Load.PromptTokens));
        writer.WriteEndObject();
        writer.WriteStartArray("launches");
        foreach (var line in cost.Lines)
        {
            writer.WriteStartObject();
            writer.WriteString("op", line.Name);
            writer.WriteString("name", line.Shape);
            writer.WriteString("config", line.Kernels);
            writer.WriteNumber("count", line.Count);
            Number("microseconds", line.Microseconds);
            Number("link_microseconds", line.LinkMicroseconds);
            Number("share", line.Count * line.Microseconds / cost.Microseconds);
            writer.WriteString("binds", line.Binds);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        Number("microseconds", cost.Microseconds);
        Number("kernel_microseconds", cost.KernelMicroseconds);
        Number("link_microseconds", cost.LinkMicroseconds);
        Object("floors", ("weights", cost.Floors.Weights), ("kv", cost.Floors.Kv), ("matrices", cost.Floors.Matrices), ("links", cost.Floors.Links));
        Layer("layer", cost.Layer);
        Number("plain_microseconds", cost.PlainMicroseconds);
        Layer("plain_layer", cost.PlainLayer);
        Object("memory", ("held_bytes", cost.HeldBytes), ("device_bytes", gpu.MemoryBytes));

        void Layer(string name, LayerCost layer) => Object(
            name, ("kernels", layer.Kernels), ("signals", layer.Signals), ("transfers", layer.Transfers), ("launches_that_wait", layer.Launches));

        void Object(string name, params ReadOnlySpan<(string Name, double Value)> values)
        {
            writer.WriteStartObject(name);
            foreach (var (field, value) in values)
            {
                Number(field, value);
            }

            writer.WriteEndObject();
        }

        // Three decimals: a model has no more.
        void Number(string name, double value) => writer.WriteNumber(name, Math.Round(value, 3));
    }

    /// <summary>The report's tables of whole steps.</summary>
    public static string Markdown(StepCosts costs, Gpu gpu)
    {
        var model = ModelShape.Find(ModelShape.Target);
        var text = new StringBuilder();
        void Table(string heading, IEnumerable<StepLoad> loads, double unit)
        {
            string[] Cells(StepCost cost) =>
            [
                $"TP{cost.TensorParallel}/EP{cost.ExpertParallel}", InspectTable.Text(cost.Load.DecodeRows + cost.Load.Prompts),
                .. new[] { cost.KernelMicroseconds, cost.LinkMicroseconds, cost.Microseconds, cost.Floors.Weights, cost.Floors.Kv, cost.Floors.Matrices, cost.Floors.Links, cost.PlainMicroseconds }
                    .Select(us => InspectTable.Text(us / unit)),
                InspectTable.Text(cost.Layer.Kernels), InspectTable.Text(cost.Layer.Signals), InspectTable.Text(cost.Layer.Transfers), InspectTable.Text(cost.PlainLayer.Links),
                cost.HeldBytes > gpu.MemoryBytes ? "no" : "yes",
            ];
            text.AppendLine(heading).AppendLine().AppendLine(InspectTable.Markdown(
                [
                    "ranks", "batch", "kernels", "links and waits", "total", "floor: weights", "KV", "matrices", "links", "total with plain all-reduce",
                    "layer, us: kernels", "signals", "transfers", "plain all-reduce", "fits",
                ],
                [.. loads.SelectMany(load => s_ranks.Select(ranks => Cells(costs.Of(model, ranks, ranks, load))))]));
        }

        text.AppendLine(string.Create(CultureInfo.InvariantCulture, $"""
            ## Whole steps on {gpu.Target}

            Steps of {model.Name} as the engine enqueues them: its own layers, run on a planned device. A sync is {CollectiveModel.SignalMicroseconds} us, a gather {CollectiveModel.RequestMicroseconds} us
            and the bytes of one peer at {gpu.LinkGigabytes} GB/s; a norm that reads its peers' nodes, and the head, whose columns go to the rank that draws, take the longer of their own
            time and of those bytes. Nothing is sent while something else is computed, so all of it counts. *Kernels* has the launches of syncs and gathers, too.
            The floors are each by itself; *matrices* is useful operations at the FP8 ceiling, *links* bytes without signals. With a *plain all-reduce* each sum
            is a BF16 all-reduce (reduction of each rank's part and gather, or all rows where that is shorter), and every rank norms and routes all tokens.
            *Fits*: weights and KV cache in {gpu.MemoryBytes * 1e-9:f0} GB. Not in it: the host, and the copies of a step's input and of the drawn tokens.
            """)).AppendLine();
        Table($"Decode of sequences of {DecodeContext.ToString("n0", CultureInfo.InvariantCulture)} tokens, milliseconds:", s_rows.Select(rows => new StepLoad(rows, DecodeContext, 0, 0)), 1e3);
        Table($"Prefill of a prompt of {PromptTokens.ToString("n0", CultureInfo.InvariantCulture)} tokens, milliseconds:", [new StepLoad(0, 0, 1, PromptTokens)], 1e3);
        return text.ToString();
    }

    private static string NameOf(StepCost cost)
    {
        var (rows, tokens) = (cost.Load.DecodeRows + cost.Load.Prompts, Math.Max(cost.Load.Context, cost.Load.PromptTokens));
        return string.Create(CultureInfo.InvariantCulture, $"{KindOf(cost.Load)} of {rows} x {tokens}, TP{cost.TensorParallel}/EP{cost.ExpertParallel}");
    }

    private static string KindOf(StepLoad load) => load.Prompts == 0 ? "decode" : "prefill";

    private static string Links(LayerCost layer) =>
        $"links and waits {InspectTable.Text(layer.Links)} (signals {InspectTable.Text(layer.Signals)}, transfers {InspectTable.Text(layer.Transfers)}); launches that wait or gather, of the kernels: {InspectTable.Text(layer.Launches)}";

    private static string[] Row(StepLine line, double total) =>
    [
        line.Name, line.Shape, InspectTable.Text(line.Count), InspectTable.Text(line.Microseconds), InspectTable.Text(line.LinkMicroseconds),
        InspectTable.Text(line.Count * line.Microseconds), string.Create(CultureInfo.InvariantCulture, $"{100 * line.Count * line.Microseconds / total:f1} %"), line.Binds, line.Kernels,
    ];
}
