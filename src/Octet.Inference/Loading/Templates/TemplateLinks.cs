using System.Text;
using System.Text.RegularExpressions;

namespace Octet.Inference.Loading.Templates;

/// <summary>The filter <c>urlize</c>: addresses in a text become links.</summary>
internal static partial class TemplateLinks
{
    private static readonly (string Open, string Close)[] Brackets = [("(", ")"), ("<", ">"), ("&lt;", "&gt;")];

    public static object? Urlize(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "urlize", 1, "value", "trim_url_limit", "nofollow", "target", "rel", "extra_schemes");
        string text = TemplateHtml.Escape(run, bound[0]).Value;
        run.Charge(text.Length * 16L);
        SortedSet<string> relations = new(StringComparer.Ordinal) { "noopener" };
        relations.UnionWith((bound.OptionalText(4)?.Value ?? "").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        if (bound.Truth(2, absent: false))
        {
            relations.Add("nofollow");
        }
        List<string> schemes = bound[5] is null ? [] : [.. run.Iterate(bound[5]).Select(scheme =>
            scheme is TemplateText name && Scheme().IsMatch(name.Value) ? name.Value : throw run.Error("a scheme of 'urlize' is not valid"))];
        string attributes = $" rel=\"{Escaped(run, string.Join(' ', relations))}\"";
        attributes += bound.OptionalText(3) is { Units: > 0 } target ? $" target=\"{Escaped(run, target.Value)}\"" : "";
        var linked = new StringBuilder();
        int at = 0;
        foreach (Match space in Space().Matches(text))
        {
            linked.Append(Word(run, text[at..space.Index], bound.OptionalInteger(1), attributes, schemes)).Append(space.Value);
            at = space.Index + space.Length;
        }
        linked.Append(Word(run, text[at..], bound.OptionalInteger(1), attributes, schemes));
        return new TemplateText(linked.ToString(), TextOrigin.Data);
    }

    private static string Word(TemplateRun run, string word, int? limit, string attributes, List<string> schemes)
    {
        const int LongestWord = 4096;
        if (word.Length > LongestWord)
        {
            throw run.Error($"'urlize' of a word of more than {LongestWord} characters is not supported");
        }
        string head = Leading().Match(word).Value;
        string middle = word[head.Length..];
        string tail = Trailing().Match(middle).Value;
        middle = middle[..^tail.Length];
        // Brackets that are opened in the address are closed in it.
        foreach (var (open, close) in Brackets)
        {
            int opened = Count(middle, open);
            int moved = opened <= Count(middle, close) ? 0 : Math.Min(opened, Count(tail, close));
            for (; moved > 0; moved--)
            {
                int end = tail.IndexOf(close, StringComparison.Ordinal) + close.Length;
                middle += tail[..end];
                tail = tail[end..];
            }
        }
        run.Charge(middle.Length);
        string shown = limit is { } most && middle.Length > most ? middle[..(most < 0 ? Math.Max(0, middle.Length + most) : most)] + "..." : middle;
        if (Address().IsMatch(middle))
        {
            bool hasScheme = middle.StartsWith("https://", StringComparison.Ordinal) || middle.StartsWith("http://", StringComparison.Ordinal);
            middle = $"<a href=\"{(hasScheme ? "" : "https://")}{middle}\"{attributes}>{shown}</a>";
        }
        else if (middle.StartsWith("mailto:", StringComparison.Ordinal) && Mail().IsMatch(middle[7..]))
        {
            middle = $"<a href=\"{middle}\">{middle[7..]}</a>";
        }
        else if (middle.Contains('@') && !middle.StartsWith("www.", StringComparison.Ordinal) && !middle.Contains(':') && Mail().IsMatch(middle))
        {
            middle = $"<a href=\"mailto:{middle}\">{middle}</a>";
        }
        else
        {
            foreach (string scheme in schemes)
            {
                if (middle != scheme && middle.StartsWith(scheme, StringComparison.Ordinal))
                {
                    middle = $"<a href=\"{middle}\"{attributes}>{middle}</a>";
                }
            }
        }
        return head + middle + tail;
    }

    private static int Count(string text, string sought) => text.AsSpan().Count(sought);

    private static string Escaped(TemplateRun run, string text) => TemplateHtml.Escape(run, TemplateText.Of(text)).Value;

    [GeneratedRegex(@"[\s\x1c-\x1f]+")]
    private static partial Regex Space();

    [GeneratedRegex(@"^([(<]|&lt;)+")]
    private static partial Regex Leading();

    [GeneratedRegex(@"([)>.,\n]|&gt;)+\z", RegexOptions.RightToLeft)]
    private static partial Regex Trailing();

    [GeneratedRegex(@"^[\w.+-]{2,}:(/){0,2}\z")]
    private static partial Regex Scheme();

    [GeneratedRegex(@"^\S+@\w[\w.-]*\.\w+$")]
    private static partial Regex Mail();

    // http://, https:// or www. and a domain, or a domain under a well-known one, or a scheme and an address of numbers; then port and path.
    [GeneratedRegex(
        @"^((https?://|www\.)(([\w%-]+\.)+)?([a-z]{2,63}|xn--[\w%]{2,59})|([\w%-]{2,63}\.)+(com|net|int|edu|gov|org|info|mil)|(https?://)((\d{1,3}(\.\d{1,3}){3})|(\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}])))(?::\d{1,5})?(?:[/?#]\S*)?$",
        RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Address();
}
