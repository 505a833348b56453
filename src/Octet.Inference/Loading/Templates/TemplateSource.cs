namespace Octet.Inference.Loading.Templates;

/// <summary>A Jinja template and where it came from.</summary>
internal sealed class TemplateSource
{
    private const int LongestTemplate = 1 << 18;

    public TemplateSource(string file, string text)
    {
        File = file;
        // As Jinja does: line ends are \n, and one at the very end does not count.
        text = text.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        Text = text.EndsWith('\n') ? text[..^1] : text;
        if (Text.Length > LongestTemplate)
        {
            throw new ModelFormatException($"{file}: the template has {Text.Length} characters, more than {LongestTemplate}");
        }
    }

    public string File { get; }

    public string Text { get; }

    /// <summary>The complaint about what stands at <paramref name="position"/>.</summary>
    public ModelFormatException Bad(int position, string problem)
    {
        const int Shown = 40;
        const int LongestProblem = 400;
        position = Math.Min(position, Text.Length);
        ReadOnlySpan<char> before = Text.AsSpan(0, position);
        int line = before.Count('\n') + 1;
        int column = position - before.LastIndexOf('\n');
        string near = OneLine(Text.Substring(position, Math.Min(Shown, Text.Length - position)));
        problem = OneLine(problem.Length > LongestProblem ? problem[..LongestProblem] + "..." : problem);
        return new ModelFormatException($"{File}: line {line}, column {column}: {problem}, at '{near}'");
    }

    private static string OneLine(string text) => text.Contains('\n') ? text.Replace("\n", "\\n", StringComparison.Ordinal) : text;
}
