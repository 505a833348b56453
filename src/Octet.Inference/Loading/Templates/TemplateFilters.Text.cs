using System.Numerics;
using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>The filters of texts.</summary>
internal static partial class TemplateFilters
{
    private static object? Center(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "center", 1, "value", "width");
        return PythonStrings.Justify(run, run.SoftText(bound[0]), bound.Integer(1, 80), "center", TemplateText.Of(" "));
    }

    private static object? Format(TemplateRun run, TemplateArguments arguments)
    {
        if (arguments.Positional.Count > 1 && arguments.Named.Count > 0)
        {
            throw run.Error("'format' takes values by position or by name, not both");
        }
        object? values = new TemplateTuple(arguments.Positional[1..]);
        if (arguments.Named.Count > 0)
        {
            var named = new TemplateDictionary();
            arguments.Named.ForEach(argument => named.Set(argument.Key, argument.Value));
            values = named;
        }
        return PythonFormatting.Percent(run, run.SoftText(arguments.Positional[0]), values);
    }

    private static object? Indent(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "indent", 1, "s", "width", "first", "blank");
        TemplateText text = bound.Text(0);
        TemplateText indent = bound.Given[1] && bound[1] is TemplateText given ? given : TemplateText.Of(Spaces(run, bound.Integer(1, 4)));
        // A line end is added at first, so that one at the end begins a line.
        List<TemplateText> lines = PythonStrings.Lines(run, new TemplateTextBuilder().Append(text).Append("\n", TextOrigin.Template).Build(), keepsEnds: false);
        bool first = bound.Truth(2, absent: false);
        bool blank = bound.Truth(3, absent: false);
        var indented = new TemplateTextBuilder();
        for (int i = 0; i < lines.Count; i++)
        {
            run.Charge(indent.Units);
            if (i > 0)
            {
                indented.Append("\n", TextOrigin.Template);
            }
            if (i == 0 ? first : blank || lines[i].Units > 0)
            {
                indented.Append(indent);
            }
            indented.Append(lines[i]);
        }
        return indented.Build(text.IsMarkup);
    }

    private static string Spaces(TemplateRun run, int width)
    {
        run.Charge(width);
        return new string(' ', Math.Max(0, width));
    }

    private static object? Join(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "join", 1, "value", "d", "attribute");
        TemplateText separator = bound.Given[1] ? run.Text(bound[1]) : TemplateText.Empty;
        IEnumerable<object?> items = run.Iterate(bound[0]);
        if (bound[2] is { } attribute)
        {
            items = items.Select(Getter(run, attribute));
        }
        return PythonStrings.Join(run, separator, items.Select(run.Text));
    }

    private static object? Replace(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "replace", 3, "s", "old", "new", "count");
        return PythonStrings.Replace(run, run.Text(bound[0]), run.Text(bound[1]), run.Text(bound[2]), bound.OptionalInteger(3) ?? -1);
    }

    // Other than the string method: words begin behind white space, hyphens and opening brackets.
    private static object? Title(TemplateRun run, TemplateArguments arguments)
    {
        TemplateText text = Soft(run, arguments, "title", "s");
        run.Charge(text.Units);
        var titled = new TemplateTextBuilder();
        for (int begin = 0; begin < text.Units;)
        {
            bool separates = Separates(text.Value[begin]);
            int end = begin;
            while (end < text.Units && Separates(text.Value[end]) == separates)
            {
                end++;
            }
            int rest = text.Next(begin);
            titled.Append(PythonCase.Upper(run, text.Slice(begin, rest))).Append(PythonCase.Lower(run, text.Slice(rest, end)));
            begin = end;
        }
        return titled.Build();

        static bool Separates(char c) => c is '-' or '(' or '{' or '[' or '<' || PythonCharacters.IsSpace(c);
    }

    private static object? Trim(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "trim", 1, "value", "chars");
        return PythonStrings.Strip(run, run.SoftText(bound[0]), bound.OptionalText(1), left: true, right: true);
    }

    private static object? Truncate(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "truncate", 1, "s", "length", "killwords", "end", "leeway");
        TemplateText end = bound.Text(3, "...");
        int length = bound.Integer(1, 255);
        int leeway = bound.OptionalInteger(4) ?? 5;
        if (length < end.Length || leeway < 0)
        {
            throw run.Error($"'truncate' to {length} characters with a leeway of {leeway} leaves no room for '{end}'");
        }
        if (bound[0] is not TemplateText text)
        {
            // Whatever is short enough is left alone.
            return run.Count(bound[0]) <= (BigInteger)length + leeway ? bound[0] : throw bound.Wrong(0, "a string");
        }
        if (text.Length <= (long)length + leeway)
        {
            return text;
        }
        run.Charge(text.Units);
        TemplateText kept = text.Slice(0, text.UnitOf(length - end.Length));
        if (!bound.Truth(2, absent: false) && kept.Value.LastIndexOf(' ') is var space && space >= 0)
        {
            kept = kept.Slice(0, space);
        }
        return TemplateOperations.Binary(run, "+", kept, end);
    }

    private static object? UrlEncode(TemplateRun run, TemplateArguments arguments)
    {
        object? value = arguments.Bind(run, "urlencode", 1, "value")[0];
        if (value is TemplateText || !TemplateRun.IsIterable(value))
        {
            return Quote(run, run.Text(value), keeps: "/");
        }
        IEnumerable<object?> pairs = value is TemplateDictionary dictionary ? new TemplateView("items", dictionary).Items() : run.Iterate(value);
        var query = new List<TemplateText>();
        foreach (object? pair in pairs)
        {
            query.Add(run.Items(pair) is [var key, var item]
                ? new TemplateTextBuilder().Append(Quote(run, run.Text(key), keeps: " ")).Append("=", TextOrigin.Data).Append(Quote(run, run.Text(item), keeps: " ")).Build()
                : throw run.Error("'urlencode' takes a string, a dictionary or pairs"));
        }
        return PythonStrings.Join(run, new TemplateText("&", TextOrigin.Data), query);
    }

    // A space that is kept is written as +.
    private static TemplateText Quote(TemplateRun run, TemplateText text, string keeps)
    {
        run.Charge(text.Units * 9L);
        var quoted = new TemplateTextBuilder();
        for (int i = 0; i < text.Units;)
        {
            int next = text.Next(i);
            char c = text.Value[i];
            if (char.IsAsciiLetterOrDigit(c) || c is '_' or '.' or '-' or '~' || keeps.Contains(c))
            {
                quoted.Append(c == ' ' ? "+" : text.Value[i..next], text.OriginAt(i));
            }
            else
            {
                foreach (byte unit in Encoding.UTF8.GetBytes(text.Value[i..next]))
                {
                    quoted.Append($"%{unit:X2}", text.OriginAt(i));
                }
            }
            i = next;
        }
        return quoted.Build();
    }

    private static object? CountWords(TemplateRun run, TemplateArguments arguments)
    {
        TemplateText text = Soft(run, arguments, "wordcount", "s");
        run.Charge(text.Units);
        int words = 0;
        bool inWord = false;
        foreach (Rune rune in text.Value.EnumerateRunes())
        {
            words += !inWord && PythonCharacters.IsWord(rune) ? 1 : 0;
            inWord = PythonCharacters.IsWord(rune);
        }
        return (BigInteger)words;
    }

    private static object? XmlAttributes(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "xmlattr", 1, "d", "autospace");
        if (bound[0] is not TemplateDictionary dictionary)
        {
            throw bound.Wrong(0, "a dictionary");
        }
        var attributes = new TemplateTextBuilder();
        foreach (var (key, value) in dictionary.Entries)
        {
            if (value is null or TemplateUndefined)
            {
                continue;
            }
            if (key is not TemplateText name || name.Value.Any(c => c is ' ' or (>= '\t' and <= '\r') or '/' or '>' or '='))
            {
                throw run.Error("a key of 'xmlattr' is no name of an attribute");
            }
            attributes.Append(attributes.Units > 0 || bound.Truth(1, absent: true) ? " " : "", TextOrigin.Data)
                .Append(TemplateHtml.Escape(run, name)).Append("=\"", TextOrigin.Data).Append(TemplateHtml.Escape(run, value)).Append("\"", TextOrigin.Data);
        }
        return attributes.Build();
    }
}
