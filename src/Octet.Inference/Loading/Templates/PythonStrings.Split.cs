namespace Octet.Inference.Loading.Templates;

/// <summary>The methods that cut a string into parts.</summary>
internal static partial class PythonStrings
{
    /// <summary>The words between white space; from the left, at most so many splits.</summary>
    public static List<TemplateText> SplitSpace(TemplateText text, int most)
    {
        var words = new List<TemplateText>();
        int at = 0;
        while (true)
        {
            while (at < text.Units && PythonCharacters.IsSpace(text.Value[at]))
            {
                at++;
            }
            if (at == text.Units)
            {
                return words;
            }
            int end = at;
            while (end < text.Units && !PythonCharacters.IsSpace(text.Value[end]))
            {
                end++;
            }
            if (words.Count == most)
            {
                words.Add(text.Slice(at));
                return words;
            }
            words.Add(text.Slice(at, end));
            at = end;
        }
    }

    private static object? Partition(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        TemplateText separator = arguments.BindPositional(run, name, 1, 1).Text(0);
        separator = text.IsMarkup ? TemplateHtml.Escape(run, separator) : separator;
        if (separator.Units == 0)
        {
            throw run.Error($"'{name}' is given no separator");
        }
        run.ChargeSearch(text, separator);
        bool fromRight = name == "rpartition";
        int at = fromRight ? text.Value.LastIndexOf(separator.Value, StringComparison.Ordinal) : text.Value.IndexOf(separator.Value, StringComparison.Ordinal);
        TemplateText empty = TemplateText.Empty.AsMarkup(text.IsMarkup);
        return at >= 0
            ? new TemplateTuple([text.Slice(0, at), text.Slice(at, at + separator.Units), text.Slice(at + separator.Units)])
            : new TemplateTuple(fromRight ? [empty, empty, text] : [text, empty, empty]);
    }

    private static object? Split(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        BoundArguments bound = arguments.Bind(run, name, 0, "sep", "maxsplit");
        TemplateText? separator = bound.OptionalText(0);
        int most = bound.Integer(1, -1) is var given && given < 0 ? int.MaxValue : given;
        bool fromRight = name == "rsplit";
        List<TemplateText> parts = separator is null
            ? (fromRight ? SplitSpaceFromRight(text, most) : SplitSpace(text, most))
            : SplitAt(run, text, separator, most, fromRight);
        run.Charge(parts.Count * 32L);
        return parts.ToList<object?>();
    }

    private static List<TemplateText> SplitAt(TemplateRun run, TemplateText text, TemplateText separator, int most, bool fromRight)
    {
        if (separator.Units == 0)
        {
            throw run.Error("a text is split at nothing");
        }
        run.ChargeSearch(text, separator);
        var parts = new List<TemplateText>();
        if (fromRight)
        {
            int end = text.Units;
            while (parts.Count < most && text.Value.AsSpan(0, end).LastIndexOf(separator.Value) is var found && found >= 0)
            {
                parts.Add(text.Slice(found + separator.Units, end));
                end = found;
            }
            parts.Add(text.Slice(0, end));
            parts.Reverse();
            return parts;
        }
        int begin = 0;
        while (parts.Count < most && text.Value.IndexOf(separator.Value, begin, StringComparison.Ordinal) is var found && found >= 0)
        {
            parts.Add(text.Slice(begin, found));
            begin = found + separator.Units;
        }
        parts.Add(text.Slice(begin));
        return parts;
    }

    private static List<TemplateText> SplitSpaceFromRight(TemplateText text, int most)
    {
        var words = new List<TemplateText>();
        int end = text.Units;
        while (true)
        {
            while (end > 0 && PythonCharacters.IsSpace(text.Value[end - 1]))
            {
                end--;
            }
            if (end == 0)
            {
                break;
            }
            int begin = words.Count == most ? 0 : end;
            while (begin > 0 && !PythonCharacters.IsSpace(text.Value[begin - 1]))
            {
                begin--;
            }
            words.Add(text.Slice(begin, end));
            end = begin;
        }
        words.Reverse();
        return words;
    }
}
