using System.Globalization;
using System.Text;

namespace Octet.Cli.Inspect;

/// <summary>The tables a person reads, in a terminal and in Markdown.</summary>
internal static class InspectTable
{
    public static readonly string[] KernelHeader =
        ["kernel", "target", "VGPRs", "AGPRs", "SGPRs", "LDS", "spills", "scratch", "waves/SIMD", "turn: clocks", "matrix busy", "mfma", "valu", "trans", "LDS reads", "LDS writes", "loads", "stores", "waits", "barriers", "transactions", "LDS passes"];

    public static readonly string[] ShapeHeader =
        ["op", "shape", "config", "blocks", "us", "TFLOP/s", "GB/s", "binds", "matrix", "vector", "lds", "cache", "hbm", "wait", "launch", "tail"];

    public static string[] Row(Inspection inspection, KernelCost kernel) =>
    [
        kernel.Name, kernel.Target, Text(kernel.Resources.ArchVgprs), Text(kernel.Resources.AccVgprs), Text(kernel.Resources.Sgprs),
        Text(inspection.LdsOf(kernel)), Text(kernel.Resources.Spills), Text(kernel.Resources.ScratchBytes), Text(kernel.Resources.WavesPerSimd),
        Text(kernel.Clocks), kernel.MatrixClocks == 0 ? "-" : $"{100 * kernel.MatrixBusy:f0} %", Text(kernel.Mix["mfma"]), Text(kernel.Mix["valu"]),
        Text(kernel.Mix["transcendental"]), Widths(kernel.Mix, "lds_read_"), Widths(kernel.Mix, "lds_write_"), Widths(kernel.Mix, "global_load_"),
        Widths(kernel.Mix, "global_store_"), Text(kernel.Mix["wait"]), Text(kernel.Mix["barrier"]),
        .. inspection.Costs.Counted.TryGetValue(kernel.Name, out var counted) && kernel.Target == inspection.Gpu.Target
            ? [Text(counted.Transactions), Text(counted.LdsPasses)] : new[] { "-", "-" },
    ];

    public static string[] Row(ModelledShape shape) =>
    [
        shape.Op, shape.Name, Config(shape), Text(shape.Blocks), Text(shape.Microseconds), shape.Flops == 0 ? "-" : Text(shape.Teraflops),
        Text(shape.GigabytesPerSecond), shape.Terms.Binds, .. shape.Terms.Named.Select(t => Text(t.Microseconds)),
    ];

    /// <summary>
    /// Columns padded to the widest entry; all but names to the right. Where they do not fit beside each other the table goes on in
    /// another below it, with the columns that say what a row is in front again.
    /// </summary>
    /// <param name="header">A name for each column.</param>
    /// <param name="rows">The cells.</param>
    /// <param name="keys">How many columns say what a row is.</param>
    /// <param name="columns">Of the terminal.</param>
    public static string Plain(string[] header, IReadOnlyList<string[]> rows, int keys, int columns)
    {
        var widths = header.Select((h, i) => rows.Select(r => r[i].Length).Append(h.Length).Max()).ToArray();
        var names = header.Select((_, i) => IsName(rows, i)).ToArray();
        var text = new StringBuilder();
        foreach (var panel in Panels(widths, keys, columns))
        {
            text.Append(text.Length == 0 ? "" : Environment.NewLine);
            foreach (var row in rows.Prepend(header))
            {
                var line = string.Join("  ", panel.Select(i => names[i] ? row[i].PadRight(widths[i]) : row[i].PadLeft(widths[i]))).TrimEnd();
                text.AppendLine(Terminal.Fold(line, columns));
            }
        }

        return text.ToString();
    }

    // Which columns each part of a table has: the keys, and as many of the others as fit; at least one.
    private static IEnumerable<int[]> Panels(int[] widths, int keys, int columns)
    {
        var front = Enumerable.Range(0, keys).ToArray();
        for (var first = keys; first < widths.Length;)
        {
            var last = first + 1;
            while (last < widths.Length && front.Concat(Enumerable.Range(first, last + 1 - first)).Sum(i => widths[i] + 2) - 2 <= columns)
            {
                last++;
            }

            yield return [.. front, .. Enumerable.Range(first, last - first)];
            first = last;
        }
    }

    public static string Markdown(string[] header, IReadOnlyList<string[]> rows)
    {
        var text = new StringBuilder();
        text.Append("| ").AppendJoin(" | ", header).AppendLine(" |");
        text.Append('|').AppendJoin('|', header.Select((_, i) => IsName(rows, i) ? "---" : "---:")).AppendLine("|");
        foreach (var row in rows)
        {
            text.Append("| ").AppendJoin(" | ", row).AppendLine(" |");
        }

        return text.ToString();
    }

    /// <summary>Whole numbers as they are, others with three digits that count.</summary>
    public static string Text(double value)
    {
        var digits = value == Math.Round(value) || value >= 100 ? 0 : value >= 10 ? 1 : 2;
        return value.ToString($"f{digits}", CultureInfo.InvariantCulture);
    }

    // A layer's kernels fill no table cell: their number does.
    private static string Config(ModelledShape shape) => shape.Launches <= 2 ? shape.Config : $"{shape.Launches} launches";

    private static bool IsName(IReadOnlyList<string[]> rows, int column) => rows.Any(r => r[column].Length > 0 && char.IsAsciiLetter(r[column][0]));

    // "8 b128 + 2 b32"
    private static string Widths(InstructionMix mix, string prefix)
    {
        var parts = mix.Counts.Where(c => c.Key.StartsWith(prefix, StringComparison.Ordinal)).OrderByDescending(c => c.Value)
            .Select(c => $"{c.Value} {c.Key[prefix.Length..]}").ToList();
        return parts.Count == 0 ? "-" : string.Join(" + ", parts);
    }
}
