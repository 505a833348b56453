using System.Globalization;
using System.Net;
using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>HTML: escaping, and taking tags and escapes away.</summary>
internal static class TemplateHtml
{
    /// <summary>A value as HTML; what is HTML already stays.</summary>
    public static TemplateText Escape(TemplateRun run, object? value)
    {
        if (value is TemplateText { IsMarkup: true } markup)
        {
            return markup;
        }
        TemplateText text = run.Text(value);
        run.Charge(text.Units);
        var escaped = new TemplateTextBuilder();
        int plain = 0;
        for (int i = 0; i < text.Units; i++)
        {
            string? escape = text.Value[i] switch
            {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '\'' => "&#39;",
                '"' => "&#34;",
                _ => null,
            };
            if (escape is not null)
            {
                escaped.Append(text, plain, i).Append(escape, text.OriginAt(i));
                plain = i + 1;
            }
        }
        return escaped.Append(text, plain, text.Units).Build(isMarkup: true);
    }

    /// <summary>Without comments and tags, with single spaces, and without escapes.</summary>
    public static TemplateText StripTags(TemplateRun run, TemplateText text)
    {
        run.Charge(text.Units * 4L);
        text = Cut(Cut(text, "<!--", "-->"), "<", ">");
        var spaced = new TemplateTextBuilder();
        foreach (TemplateText word in PythonStrings.SplitSpace(text, int.MaxValue))
        {
            spaced.Append(spaced.Units == 0 ? "" : " ", TextOrigin.Data).Append(word);
        }
        return Unescape(run, spaced.Build());
    }

    private static TemplateText Cut(TemplateText text, string open, string close)
    {
        var rest = new TemplateTextBuilder();
        int at = 0;
        while (text.Value.IndexOf(open, at, StringComparison.Ordinal) is var begin && begin >= 0
            && text.Value.IndexOf(close, begin + open.Length, StringComparison.Ordinal) is var end && end >= 0)
        {
            rest.Append(text, at, begin);
            at = end + close.Length;
        }
        return rest.Append(text, at, text.Units).Build();
    }

    private static TemplateText Unescape(TemplateRun run, TemplateText text)
    {
        var plain = new TemplateTextBuilder();
        int at = 0;
        for (int begin = text.Value.IndexOf('&', StringComparison.Ordinal); begin >= 0; begin = text.Value.IndexOf('&', Math.Max(at, begin + 1)))
        {
            int end = begin + 1;
            while (end < text.Units && (char.IsAsciiLetterOrDigit(text.Value[end]) || text.Value[end] == '#'))
            {
                end++;
            }
            if (end == begin + 1)
            {
                continue;
            }
            bool closed = end < text.Units && text.Value[end] == ';';
            string name = text.Value[(begin + 1)..end];
            string meaning = name[0] == '#' ? Number(name[1..]) : WebUtility.HtmlDecode($"&{name};");
            if (meaning.Length == 0 || meaning[0] == '&' && name is not ("amp" or "#38" or "#x26") || (!closed && name[0] != '#'))
            {
                throw run.Error($"the escape '&{name}' of HTML is not supported");
            }
            plain.Append(text, at, begin).Append(meaning, text.OriginAt(begin));
            at = closed ? end + 1 : end;
        }
        return plain.Append(text, at, text.Units).Build();
    }

    private static string Number(string digits)
    {
        bool isHexadecimal = digits is ['x' or 'X', ..];
        return int.TryParse(isHexadecimal ? digits[1..] : digits, isHexadecimal ? NumberStyles.AllowHexSpecifier : NumberStyles.None, CultureInfo.InvariantCulture, out int code)
            && code is (>= ' ' and < 0x7F or > 0x9F or '\n' or '\t') && Rune.IsValid(code)
            ? new Rune(code).ToString()
            : "";
    }
}
