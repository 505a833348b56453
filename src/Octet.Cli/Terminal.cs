using System.Text;

namespace Octet.Cli;

/// <summary>
/// Results as lines that fit the terminal, or 80 columns where stdout is none: what is longer goes on below, indented, at the end of a
/// word. Nothing is cut: a word longer than a line stays whole.
/// </summary>
internal static class Terminal
{
    private const int UsualColumns = 80;
    private const int FewestColumns = 20;

    /// <summary>Columns of a line of stdout.</summary>
    public static int Columns => Console.IsOutputRedirected ? UsualColumns : Width();

    /// <summary>Columns of the terminal this process runs in; 80 where it does not say.</summary>
    public static int Width()
    {
        try
        {
            return Console.WindowWidth is var width and > 0 ? Math.Max(width, FewestColumns) : UsualColumns;
        }
        catch (Exception error) when (error is IOException or PlatformNotSupportedException)
        {
            return UsualColumns;
        }
    }

    /// <summary>One line, or as many as it takes, on stdout.</summary>
    /// <param name="line">The line.</param>
    /// <param name="indent">Columns before what goes on below, beyond the line's own indentation.</param>
    public static void WriteLine(string line, int indent = 4) => Console.Out.WriteLine(Fold(line, Columns, indent));

    /// <summary>Lines as <see cref="WriteLine"/> writes them.</summary>
    public static void Write(string lines)
    {
        foreach (var line in lines.TrimEnd('\n').Split('\n'))
        {
            WriteLine(line);
        }
    }

    /// <summary>Two parts of a row: on one line where both fit, else the second below the first.</summary>
    public static void WriteRow(string left, string right, int indent = 2) => Console.Out.WriteLine(Row(left, right, Columns, indent));

    /// <summary>A row as <see cref="WriteRow"/> writes it.</summary>
    public static string Row(string left, string right, int columns, int indent = 2) =>
        left.Length + 1 + right.Length <= columns
            ? $"{left} {right}"
            : $"{Fold(left.TrimEnd(), columns, 2 * indent)}{Environment.NewLine}{Fold(new string(' ', indent) + right, columns, indent)}";

    /// <summary>A line broken at ends of words so that no part is longer than so many columns, where the words allow it.</summary>
    public static string Fold(string line, int columns, int indent = 4)
    {
        if (line.Length <= columns)
        {
            return line;
        }

        var text = new StringBuilder();
        var own = line.Length - line.TrimStart(' ').Length;
        var margin = new string(' ', Math.Min(own + indent, columns / 2));
        var (rest, taken) = (line, own);
        while (rest.Length > columns)
        {
            // The last gap that leaves a line short enough, or the first one behind a word that is too long.
            var gap = taken < columns ? rest.LastIndexOf(' ', columns, columns - taken + 1) : -1;
            gap = gap > taken ? gap : rest.IndexOf(' ', Math.Max(taken, columns));
            if (gap < 0 || rest[gap..].Trim(' ').Length == 0)
            {
                break;
            }

            text.AppendLine(rest[..gap].TrimEnd(' '));
            rest = margin + rest[gap..].TrimStart(' ');
            taken = margin.Length;
        }

        return text.Append(rest.TrimEnd(' ')).ToString();
    }
}
