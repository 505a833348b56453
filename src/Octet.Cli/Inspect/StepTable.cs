using System.Text;
using Octet.Inference.Planning;

namespace Octet.Cli.Inspect;

/// <summary>A step as a person reads it, and many of them as tables of the report.</summary>
internal static class StepTable
{
    private const int DecodeContext = 5670, PromptTokens = 5600;

    private static readonly int[] s_ranks = [1, 2, 4, 8];

    private static readonly int[] s_rows = [1, 16, 64, 256];

    private static readonly string[] s_header = ["op", "shape", "count", "us", "of these links", "sum us", "share", "binds", "kernels"];

    private static readonly string[] s_reportHeader =
    [
        "ranks", "batch", "kernels", "links and waits", "total", "floor: weights", "KV", "matrices", "links", "total with plain all-reduce",
        "layer, us: kernels", "signals", "transfers", "plain all-reduce", "fits",
    ];

    /// <summary>Launch by launch, and what it comes to.</summary>
    /// <param name="cost">The step.</param>
    /// <param name="gpu">The chip.</param>
    /// <param name="columns">Of the terminal.</param>
    public static string Plain(StepCost cost, Gpu gpu, int columns)
    {
        var text = new StringBuilder();
        void Line(string line) => text.AppendLine(Terminal.Fold(line, columns));
        var (floors, layer, plain) = (cost.Floors, cost.Layer, cost.PlainLayer);
        Line($"{NameOf(cost)} on {gpu.Target}. Modelled from the compiled code, not measured.");
        text.AppendLine().AppendLine(InspectTable.Plain(s_header, [.. cost.Lines.Select(l => Row(l, cost.Microseconds))], 2, columns));
        Line(
            $"total {Us(cost.Microseconds)} us: kernels and launches {Us(cost.KernelMicroseconds)}, "
            + $"links and waits {Us(cost.LinkMicroseconds)}");
        Line($"floors: weights {Us(floors.Weights)} us, KV {Us(floors.Kv)}, matrices {Us(floors.Matrices)}, links {Us(floors.Links)}");
        Line(
            $"a layer: kernels and launches {Us(layer.Kernels)} us, links and waits {Us(layer.Links)} (signals {Us(layer.Signals)}, "
            + $"transfers {Us(layer.Transfers)}); launches that wait or gather, of the kernels: {Us(layer.Launches)}");
        if (cost.TensorParallel > 1)
        {
            Line(
                $"with a plain BF16 all-reduce and tokens not divided: total {Us(cost.PlainMicroseconds)} us; "
                + $"a layer: kernels and launches {Us(plain.Kernels)}, links and waits {Us(plain.Links)}");
        }

        var fits = Fits(cost, gpu) ? "" : ", more than it has";
        Line($"weights and KV cache of a rank: {Gigabytes(cost.HeldBytes)} GB of {Gigabytes(gpu.MemoryBytes)}{fits}");
        return text.ToString();
    }

    /// <summary>The report's tables of whole steps.</summary>
    public static string Markdown(StepCosts costs, Gpu gpu)
    {
        var model = ModelShape.Find(ModelShape.Target);
        var text = new StringBuilder();
        text.AppendLine($"## Whole steps on {gpu.Target}").AppendLine().AppendLine(Explanation(model, gpu)).AppendLine();
        var decode = s_rows.Select(rows => new StepLoad(rows, DecodeContext, 0, 0));
        Table($"Decode of sequences of {DecodeContext} tokens, milliseconds:", decode);
        Table($"Prefill of a prompt of {PromptTokens} tokens, milliseconds:", [new StepLoad(0, 0, 1, PromptTokens)]);
        return text.ToString();

        void Table(string heading, IEnumerable<StepLoad> loads)
        {
            var steps = loads.SelectMany(load => s_ranks.Select(ranks => costs.Of(model, ranks, ranks, load)));
            var rows = steps.Select(cost => ReportRow(cost, gpu));
            text.AppendLine(heading).AppendLine().AppendLine(InspectTable.Markdown(s_reportHeader, [.. rows]));
        }
    }

    private static string Explanation(ModelShape model, Gpu gpu) => FormattableString.Invariant($"""
        Steps of {model.Name} as the engine enqueues them: its own layers, run on a planned device.
        A sync is {CollectiveModel.SignalMicroseconds} us, a gather the bytes of one peer at {gpu.LinkGigabytes} GB/s, {CollectiveModel.RequestMicroseconds} us after it was launched; a norm that reads
        its peers' nodes, and the head, whose columns go to the rank that draws, take the longer of their own time and of those bytes.
        Nothing is sent while something else is computed, so all of it counts. *Kernels* has the launches of syncs and gathers, too, and the
        wait for a gather's first load, as for any kernel's.
        The floors are each by itself; *matrices* is useful operations at the FP8 ceiling, *links* bytes without signals. With a *plain
        all-reduce* each sum is a BF16 all-reduce (reduction of each rank's part and gather, or all rows where that is shorter), and
        every rank norms and routes all tokens. *Fits*: weights and KV cache in {Gigabytes(gpu.MemoryBytes)} GB. Not in it: the host, and the copies of a
        step's input and of the drawn tokens.
        """);

    private static string[] ReportRow(StepCost cost, Gpu gpu)
    {
        string Ms(double microseconds) => InspectTable.Text(microseconds * 1e-3);
        var (floors, layer) = (cost.Floors, cost.Layer);
        return
        [
            $"TP{cost.TensorParallel}/EP{cost.ExpertParallel}", Us(cost.Load.DecodeRows + cost.Load.Prompts),
            Ms(cost.KernelMicroseconds), Ms(cost.LinkMicroseconds), Ms(cost.Microseconds),
            Ms(floors.Weights), Ms(floors.Kv), Ms(floors.Matrices), Ms(floors.Links), Ms(cost.PlainMicroseconds),
            Us(layer.Kernels), Us(layer.Signals), Us(layer.Transfers), Us(cost.PlainLayer.Links), Fits(cost, gpu) ? "yes" : "no",
        ];
    }

    private static string[] Row(StepLine line, double total)
    {
        var sum = line.Count * line.Microseconds;
        return
        [
            line.Name, line.Shape, Us(line.Count), Us(line.Microseconds), Us(line.LinkMicroseconds), Us(sum),
            FormattableString.Invariant($"{100 * sum / total:f1} %"), line.Binds, line.Kernels,
        ];
    }

    private static string NameOf(StepCost cost)
    {
        var (rows, tokens) = (cost.Load.DecodeRows + cost.Load.Prompts, Math.Max(cost.Load.Context, cost.Load.PromptTokens));
        return $"{cost.Load.Kind} of {rows} x {tokens}, TP{cost.TensorParallel}/EP{cost.ExpertParallel}";
    }

    private static bool Fits(StepCost cost, Gpu gpu) => cost.HeldBytes <= gpu.MemoryBytes;

    private static string Gigabytes(double bytes) => FormattableString.Invariant($"{bytes * 1e-9:f1}");

    private static string Us(double value) => InspectTable.Text(value);
}
