using System.Text.RegularExpressions;

namespace Octet.Inference.Loading.Templates;

/// <summary>The filter <c>wordwrap</c>: Python's <c>textwrap</c>, line by line.</summary>
internal static partial class TemplateWrapping
{
    public static object? WordWrap(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "wordwrap", 1, "s", "width", "break_long_words", "wrapstring", "break_on_hyphens");
        int width = bound.Integer(1, 79);
        TemplateText end = bound.OptionalText(3) ?? TemplateText.Of("\n");
        bool breaksLong = bound.Truth(2, absent: true);
        bool breaksHyphens = bound.Truth(4, absent: true);
        List<TemplateText> lines = PythonStrings.Lines(run, bound.Text(0), keepsEnds: false);
        if (width <= 0 && lines.Count > 0)
        {
            throw run.Error($"'wordwrap' to a width of {width}");
        }
        return PythonStrings.Join(run, end, lines.Select(line => PythonStrings.Join(run, end, Wrap(run, line, width, breaksLong, breaksHyphens))));
    }

    private static List<TemplateText> Wrap(TemplateRun run, TemplateText line, int width, bool breaksLong, bool breaksHyphens)
    {
        // A run of hyphens is looked through from each of them.
        run.Charge(line.Units * (16L + LongestDash(line.Value)));
        var chunks = new Stack<TemplateText>(Chunks(line, breaksHyphens).AsEnumerable().Reverse());
        var wrapped = new List<TemplateText>();
        while (chunks.Count > 0)
        {
            if (wrapped.Count > 0 && IsSpace(chunks.Peek()))
            {
                _ = chunks.Pop();
            }
            var current = new List<TemplateText>();
            int length = 0;
            while (chunks.Count > 0 && length + chunks.Peek().Length <= width)
            {
                current.Add(chunks.Pop());
                length += current[^1].Length;
            }
            if (chunks.Count > 0 && chunks.Peek().Length > width)
            {
                TakeLongWord(run, chunks, current, width - length, breaksLong, breaksHyphens);
            }
            if (current.Count > 0 && IsSpace(current[^1]))
            {
                current.RemoveAt(current.Count - 1);
            }
            if (current.Count > 0)
            {
                wrapped.Add(PythonStrings.Join(run, TemplateText.Empty, current));
            }
        }
        return wrapped;
    }

    private static void TakeLongWord(TemplateRun run, Stack<TemplateText> chunks, List<TemplateText> current, int space, bool breaksLong, bool breaksHyphens)
    {
        if (!breaksLong)
        {
            if (current.Count == 0)
            {
                current.Add(chunks.Pop());
            }
            return;
        }
        TemplateText chunk = chunks.Pop();
        run.Charge(chunk.Units);
        int end = chunk.UnitOf(Math.Min(space, chunk.Length));
        if (breaksHyphens && end > 0 && chunk.Value.LastIndexOf('-', end - 1) is var hyphen && hyphen > 0 && chunk.Value.AsSpan(0, hyphen).ContainsAnyExcept('-'))
        {
            end = hyphen + 1;
        }
        current.Add(chunk.Slice(0, end));
        chunks.Push(chunk.Slice(end));
    }

    private static int LongestDash(string line)
    {
        int longest = 0;
        for (int i = 0, length = 0; i < line.Length; i++)
        {
            length = line[i] == '-' ? length + 1 : 0;
            longest = Math.Max(longest, length);
        }
        return longest;
    }

    private static bool IsSpace(TemplateText chunk) => chunk.Value.All(PythonCharacters.IsSpace);

    private static List<TemplateText> Chunks(TemplateText line, bool breaksHyphens)
    {
        var chunks = new List<TemplateText>();
        int at = 0;
        foreach (Match match in (breaksHyphens ? HyphenatedWords() : Spaces()).Matches(line.Value))
        {
            if (match.Index > at)
            {
                chunks.Add(line.Slice(at, match.Index));
            }
            at = match.Index + match.Length;
            if (match.Length > 0)
            {
                chunks.Add(line.Slice(match.Index, at));
            }
        }
        if (at < line.Units)
        {
            chunks.Add(line.Slice(at));
        }
        return chunks;
    }

    [GeneratedRegex(@"[\t\n\v\f\r ]+")]
    private static partial Regex Spaces();

    // White space; a dash of two or more between words; or a word up to its end, to a hyphen between letters, or to such a dash.
    [GeneratedRegex(
        """[\t\n\v\f\r ]+|(?<=[\w!"'&.,?])-{2,}(?=\w)|[^\t\n\v\f\r ]+?(?:-(?:(?<=[^\d\W]{2}-)|(?<=[^\d\W]-[\w!"'&.,?]-))(?=[^\d\W]-?[^\d\W])|(?=[\t\n\v\f\r ]|\z)|(?<=[\w!"'&.,?])(?=-{2,}\w))""")]
    private static partial Regex HyphenatedWords();
}
