using System.Globalization;
using System.Text.Json;

namespace Octet.Cli.Inspect;

/// <summary>What changed between two outputs of octet inspect --json.</summary>
/// <param name="Lines">One for each change, for a person.</param>
/// <param name="Regressions">How many of them are worse by more than the threshold.</param>
internal sealed record Comparison(IReadOnlyList<string> Lines, int Regressions)
{
    // What is compared, whether less is better, and whether any worsening counts whatever the threshold.
    private static readonly (string Name, bool LessIsBetter, bool Strict)[] KernelFigures =
        [("spills", true, true), ("scratch_bytes", true, true), ("waves_per_simd", false, false), ("matrix_busy", false, false)];

    private static readonly (string Name, bool LessIsBetter, bool Strict)[] ShapeFigures = [("microseconds", true, false)];

    /// <param name="old">The object written before.</param>
    /// <param name="now">The object written now.</param>
    /// <param name="threshold">Share by which a figure may get worse: 0.02 for 2 %.</param>
    /// <remarks>Kernels are matched by target and name, shapes by op and name; what is only in one of them is told and is no regression. Waves per SIMD are told only: fewer may be the better choice, and the times show it.</remarks>
    public static Comparison Of(JsonElement old, JsonElement now, double threshold)
    {
        var lines = new List<string>();
        var regressions = Compare("kernels", ["target", "name"], KernelFigures) + Compare("shapes", ["op", "name"], ShapeFigures);
        return new(lines, regressions);

        int Compare(string list, string[] key, (string Name, bool LessIsBetter, bool Strict)[] figures)
        {
            var before = Index(old, list, key);
            var after = Index(now, list, key);
            lines.AddRange(before.Keys.Except(after.Keys).Select(k => $"gone    {k}"));
            lines.AddRange(after.Keys.Except(before.Keys).Select(k => $"new     {k}"));
            var worse = 0;
            foreach (var (name, entry) in after.Where(e => before.ContainsKey(e.Key)))
            {
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

    private static Dictionary<string, JsonElement> Index(JsonElement root, string list, string[] key) =>
        root.GetProperty(list).EnumerateArray().ToDictionary(e => string.Join(' ', key.Select(k => e.GetProperty(k).GetString())));

    private static double Figure(JsonElement entry, string name) =>
        (entry.TryGetProperty(name, out var value) ? value : entry.GetProperty("hot_loop").GetProperty(name)).GetDouble();
}
