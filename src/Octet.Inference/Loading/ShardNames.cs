using System.Globalization;
using System.Text.RegularExpressions;

namespace Octet.Inference.Loading;

/// <summary>Tells from the names in a folder which of its files hold a model's weights, and what is wrong where none or too few do.</summary>
internal static partial class ShardNames
{
    private const int MostNamed = 5;

    private static readonly string[] PartialEndings = [".incomplete", ".part", ".partial", ".crdownload", ".aria2"];

    /// <summary>The files of a checkpoint without an index: a complete numbering, or else every .safetensors file.</summary>
    /// <param name="directory">Is named in messages.</param>
    /// <param name="names">The names of all files in it.</param>
    /// <exception cref="ModelFormatException">There are none, or numbered ones of which some are missing or which are of several numberings.</exception>
    public static IReadOnlyList<string> WithoutIndex(string directory, IReadOnlyCollection<string> names)
    {
        string[] files = [.. names.Where(name => name.EndsWith(".safetensors", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        if (files.Length == 0)
        {
            throw new ModelFormatException($"{directory}: has no .safetensors file{Instead(names)}");
        }

        var numbered = files.Select(file => Numbered().Match(file)).Where(match => match.Success).ToArray();
        if (numbered.Length == 0)
        {
            return files;
        }

        var series = numbered.GroupBy(match => (Stem: match.Groups[1].Value, Total: match.Groups[3].Value, End: match.Groups[4].Value)).ToArray();
        if (series.Length > 1)
        {
            throw new ModelFormatException(
                $"{directory}: has shards of {series.Length} numberings ({Listed([.. series.Select(s => s.First().Value)])}) and no {CheckpointFiles.IndexFileName} that says which are the model's; keep those of one");
        }

        var (stem, total, end) = series[0].Key;
        var count = Number(total);
        var present = numbered.Select(match => Number(match.Groups[2].Value)).ToHashSet();
        var first = present.Contains(0) ? 0 : 1;
        var width = numbered[0].Groups[2].Length;
        string[] missing =
        [
            .. Enumerable.Range(first, count).Where(number => !present.Contains(number))
                .Select(number => $"{stem}{number.ToString($"D{width}", CultureInfo.InvariantCulture)}-of-{total}{end}"),
        ];
        return missing.Length == 0
            ? [.. numbered.Select(match => match.Value)]
            : throw new ModelFormatException(
                $"{directory}: has {present.Count} of the {count} shards that their names count, and no {CheckpointFiles.IndexFileName}; missing: {Listed(missing)}{Unfinished(names)}");
    }

    /// <summary>What to say of shards the index lists and the folder lacks.</summary>
    public static ModelFormatException Missing(string directory, string index, int listed, IReadOnlyList<string> missing, IReadOnlyCollection<string> names) =>
        new($"{directory}: lacks {missing.Count} of the {listed} files that {index} lists: {Listed(missing)}; the download is incomplete, fetch them{Unfinished(names)}");

    /// <summary>Some of <paramref name="names"/>, and how many more there are.</summary>
    public static string Listed(IReadOnlyCollection<string> names) =>
        string.Join(", ", names.Take(MostNamed)) + (names.Count > MostNamed ? $" and {names.Count - MostNamed} more" : "");

    // What the folder holds in the place of the weights.
    private static string Instead(IReadOnlyCollection<string> names)
    {
        if (Unfinished(names) is { Length: > 0 } unfinished)
        {
            return unfinished;
        }

        string[] others = [.. names.Where(name => FileKind.OfName(name) is not null).Order(StringComparer.Ordinal)];
        if (others.Length > 0)
        {
            string[] kinds = [.. others.Select(name => FileKind.OfName(name)!).Distinct()];
            return $", but weights in {string.Join(" and ", kinds)} format ({Listed(others)}), which are not read; take the model's safetensors files or convert these";
        }

        return names.Count == 0
            ? "; it is empty"
            : $"; it holds {Listed([.. names.Order(StringComparer.Ordinal)])}; put the model's safetensors files beside them";
    }

    private static string Unfinished(IReadOnlyCollection<string> names)
    {
        string[] parts = [.. names.Where(name => PartialEndings.Any(ending => name.EndsWith(ending, StringComparison.OrdinalIgnoreCase))).Order(StringComparer.Ordinal)];
        return parts.Length == 0 ? "" : $"; unfinished downloads are there: {Listed(parts)}";
    }

    private static int Number(string digits) => int.Parse(digits, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^(.*?)([0-9]{1,6})-of-([0-9]{1,6})(.*\.safetensors)$", RegexOptions.CultureInvariant)]
    private static partial Regex Numbered();
}
