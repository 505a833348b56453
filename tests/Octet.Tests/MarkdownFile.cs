using System.Text.RegularExpressions;

namespace Octet.Tests;

/// <summary>The code in README.md or one of docs/*.md.</summary>
/// <param name="Name">Relative to the repository.</param>
/// <param name="Lines">Lines of indented blocks, and of fenced ones that are neither C# nor a transcript, without comments.</param>
/// <param name="CSharp">Fenced blocks of C#.</param>
/// <param name="Transcripts">Fenced blocks of what was typed and printed.</param>
/// <param name="Spans">Code within sentences and tables, with the first one of the same table row.</param>
internal sealed partial record MarkdownFile(
    string Name, IReadOnlyList<string> Lines, IReadOnlyList<string> CSharp, IReadOnlyList<string> Transcripts, IReadOnlyList<(string Code, string? Row)> Spans)
{
    public static IReadOnlyList<MarkdownFile> All { get; } =
    [
        .. Directory.GetFiles(Path.Combine(TinyModel.Root, "docs"), "*.md").Order(StringComparer.Ordinal)
            .Prepend(Path.Combine(TinyModel.Root, "README.md"))
            .Select(path => Parse(Path.GetRelativePath(TinyModel.Root, path), File.ReadAllText(path).ReplaceLineEndings("\n"))),
    ];

    public static MarkdownFile Parse(string name, string text)
    {
        var (lines, snippets, transcripts, spans) = (new List<string>(), new List<string>(), new List<string>(), new List<(string, string?)>());
        var prose = Fence().Replace(text, match =>
        {
            var body = match.Groups["body"].Value;
            switch (match.Groups["language"].Value)
            {
                case "csharp" or "cs" or "c#":
                    snippets.Add(body);
                    break;
                case "console":
                    transcripts.Add(body);
                    break;
                default:
                    lines.AddRange(Commands(body));
                    break;
            }

            return "\n";
        });
        prose = Indented().Replace(prose, match =>
        {
            lines.AddRange(Commands(match.Value));
            return "\n";
        });
        foreach (var paragraph in prose.Split("\n\n"))
        {
            var isTable = paragraph.TrimStart().StartsWith('|');
            foreach (var part in isTable ? paragraph.Split('\n') : [paragraph])
            {
                string[] codes = [.. Span().Matches(part).Select(m => m.Groups[1].Value.Replace('\n', ' ').Replace("\\|", "|", StringComparison.Ordinal))];
                spans.AddRange(codes.Select(code => (code, isTable ? codes[0] : null)));
            }
        }

        return new MarkdownFile(name, lines, snippets, transcripts, spans);
    }

    // A line that ends in a backslash goes on in the next one.
    private static IEnumerable<string> Commands(string block) =>
        block.Replace("\\\n", " ", StringComparison.Ordinal).Split('\n').Select(line => Comment().Replace(line, "").Trim()).Where(line => line.Length > 0);

    [GeneratedRegex(@"^```(?<language>\S*)[^\n]*\n(?<body>.*?)^```[^\n]*$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fence();

    [GeneratedRegex(@"(?<=\n\n)(?: {4}[^\n]*\n)+")]
    private static partial Regex Indented();

    [GeneratedRegex(@"(?<!`)`([^`]+)`(?!`)")]
    private static partial Regex Span();

    [GeneratedRegex(@"\s+# .*$")]
    private static partial Regex Comment();
}
