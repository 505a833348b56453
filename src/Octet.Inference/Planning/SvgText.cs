namespace Octet.Inference.Planning;

/// <summary>
/// How much room text takes in a drawing, on the safe side: the reader's sans-serif font is not known, so each kind of character counts
/// as in the widest of the usual ones (Verdana, DejaVu Sans), and narrow letters as all others.
/// </summary>
internal static class SvgText
{
    /// <summary>Space between two lines, in sizes of the font.</summary>
    public const double LineHeight = 1.3;

    /// <summary>Width of one line in the units of <paramref name="size"/>.</summary>
    public static double Width(string text, double size) => size * text.Sum(Ems);

    /// <summary>The widest of some lines; 0 of none.</summary>
    public static double Widest(IEnumerable<string> lines, double size) => lines.Select(line => Width(line, size)).DefaultIfEmpty(0).Max();

    /// <summary>A text in lines no wider than that, broken between words, and within a word that alone is wider.</summary>
    public static IReadOnlyList<string> Wrap(string text, double size, double width)
    {
        var lines = new List<string>();
        var line = "";
        foreach (var word in text.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var longer = line.Length == 0 ? word : $"{line} {word}";
            if (Width(longer, size) <= width)
            {
                line = longer;
                continue;
            }

            if (line.Length > 0)
            {
                lines.Add(line);
            }

            line = word;
            while (Width(line, size) > width)
            {
                var fits = Enumerable.Range(1, line.Length - 1).TakeWhile(length => Width(line[..length], size) <= width).LastOrDefault(1);
                // Both halves of a character outside the basic plane stay together.
                fits += fits < line.Length - 1 && char.IsHighSurrogate(line[fits - 1]) ? 1 : 0;
                lines.Add(line[..fits]);
                line = line[fits..];
                if (line.Length <= 1)
                {
                    break;
                }
            }
        }

        return line.Length > 0 || lines.Count == 0 ? [.. lines, line] : lines;
    }

    private static double Ems(char character) => character switch
    {
        '%' => 1.08,
        'm' or 'w' or 'M' or 'W' or '@' or '+' or '=' or '<' or '>' or '~' or '&' or '#' => 1,
        >= 'A' and <= 'Z' => 0.79,
        <= '~' => 0.66,
        _ => 1,
    };
}
