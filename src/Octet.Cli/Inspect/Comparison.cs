using System.Globalization;
using System.Text.Json;

namespace Octet.Cli.Inspect;

/// <summary>What changed between two outputs of octet inspect --json.</summary>
/// <param name="Lines">One for each change, for a person.</param>
/// <param name="Regressions">How many of them are worse by more than the threshold.</param>
/// <param name="Matched">How many kernels and shapes are in both.</param>
internal sealed record Comparison(IReadOnlyList<string> Lines, int Regressions, int Matched)
{
    // What is compared, whether less is better, and whether any worsening counts whatever the threshold.
    private static readonly (string Name, bool LessIsBetter, bool Strict)[] KernelFigures =
        [("spills", true, true), ("scratch_bytes", true, true), ("waves_per_simd", false, false), ("matrix_busy", false, false)];

    private static readonly (string Name, bool LessIsBetter, bool Strict)[] ShapeFigures = [("microseconds", true, false)];

    private static readonly string[] KernelKey = ["target", "name"];

    private static readonly string[] ShapeKey = ["op", "name"];

    /// <summary>Refuses what <see cref="Of"/> could not compare with shapes of this target.</summary>
    /// <exception cref="FormatException">It is no output of octet inspect --json, or one of another target.</exception>
    public static void Require(JsonElement old, string target)
    {
        if (old.ValueKind != JsonValueKind.Object || !IsList(old, "kernels") || !IsList(old, "shapes"))
        {
            throw new FormatException("it is no output of octet inspect --json: it has no kernels and shapes");
        }

        RequireEntries(old, "kernels", KernelKey, KernelFigures);
        RequireEntries(old, "shapes", ShapeKey, ShapeFigures);
        var targets = old.TryGetProperty("target", out var own) && own.ValueKind == JsonValueKind.String
            ? [own.GetString()!] : old.GetProperty("kernels").EnumerateArray().Select(k => k.GetProperty("target").GetString()!).Distinct().ToArray();
        if (targets.Length > 0 && !targets.Contains(target))
        {
            throw new FormatException($"it is of {string.Join(" and ", targets)}, this run is of {target}: the same --target is needed");
        }
    }

    /// <param name="old">The object written before.</param>
    /// <param name="now">The object written now.</param>
    /// <param name="threshold">Share by which a figure may get worse: 0.02 for 2 %.</param>
    /// <remarks>Kernels are matched by target and name, shapes by op and name; what is only in one of them is told and is no regression. Waves per SIMD are told only: fewer may be the better choice, and the times show it.</remarks>
    public static Comparison Of(JsonElement old, JsonElement now, double threshold)
    {
        var lines = new List<string>();
        var matched = 0;
        var regressions = Compare("kernels", KernelKey, KernelFigures) + Compare("shapes", ShapeKey, ShapeFigures);
        return new(lines, regressions, matched);

        int Compare(string list, string[] key, (string Name, bool LessIsBetter, bool Strict)[] figures)
        {
            var before = Index(old, list, key);
            var after = Index(now, list, key);
            lines.AddRange(before.Keys.Except(after.Keys).Select(k => $"gone    {k}"));
            lines.AddRange(after.Keys.Except(before.Keys).Select(k => $"new     {k}"));
            var worse = 0;
            foreach (var (name, entry) in after.Where(e => before.ContainsKey(e.Key)))
            {
                matched++;
                foreach (var (figure, lessIsBetter, strict) in figures)
                {
                    var (from, to) = (Figure(before[name], figure), Figure(entry, figure));
                    if (from == to)
                    {
                        continue;
                    }

                    var isWorse = to > from == lessIsBetter;
                    var change = from == 0 ? double.PositiveInfinity : Math.Abs(to - from) / from;
                    var counts = isWorse && figure != "waves_per_simd" && (strict || change > threshold);
                    worse += counts ? 1 : 0;
                    if (counts || change > threshold)
                    {
                        var sign = to > from ? "+" : "-";
                        var share = from == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $" ({sign}{100 * change:f1} %)");
                        lines.Add(string.Create(CultureInfo.InvariantCulture, $"{(isWorse ? "worse " : "better")}  {name}: {figure} {from} -> {to}{share}"));
                    }
                }
            }

            return worse;
        }
    }

    private static bool IsList(JsonElement root, string name) => root.TryGetProperty(name, out var list) && list.ValueKind == JsonValueKind.Array;

    private static void RequireEntries(JsonElement root, string list, string[] key, (string Name, bool LessIsBetter, bool Strict)[] figures)
    {
        var seen = new HashSet<string>();
        foreach (var entry in root.GetProperty(list).EnumerateArray())
        {
            var isWhole = entry.ValueKind == JsonValueKind.Object
                && key.All(k => entry.TryGetProperty(k, out var text) && text.ValueKind == JsonValueKind.String)
                && figures.All(f => FindFigure(entry, f.Name) is { ValueKind: JsonValueKind.Number } number && double.IsFinite(number.GetDouble()));
            if (!isWhole)
            {
                throw new FormatException(
                    $"it is damaged: one of its {list} lacks a name or a figure ({string.Join(", ", key.Concat(figures.Select(f => f.Name)))})");
            }

            var name = string.Join(' ', key.Select(k => entry.GetProperty(k).GetString()));
            if (!seen.Add(name))
            {
                throw new FormatException($"it is damaged: '{name}' is twice among its {list}");
            }
        }
    }

    private static Dictionary<string, JsonElement> Index(JsonElement root, string list, string[] key) =>
        root.GetProperty(list).EnumerateArray().ToDictionary(e => string.Join(' ', key.Select(k => e.GetProperty(k).GetString())));

    private static double Figure(JsonElement entry, string name) =>
        FindFigure(entry, name)!.Value.GetDouble();

    private static JsonElement? FindFigure(JsonElement entry, string name) =>
        entry.TryGetProperty(name, out var value) ? value
        : entry.TryGetProperty("hot_loop", out var loop) && loop.ValueKind == JsonValueKind.Object && loop.TryGetProperty(name, out value) ? value
        : null;
}
