namespace Octet.Inference.Loading.Templates;

/// <summary>The filter <c>pprint</c>: Python's <c>pprint.pformat</c>, which breaks what is wider than 80 characters and sorts dictionaries.</summary>
internal sealed class PythonPrettyPrint
{
    private const int Width = 80;
    private readonly TemplateRun _run;
    private readonly TemplateTextBuilder _text = new();

    private PythonPrettyPrint(TemplateRun run) => _run = run;

    public static TemplateText Format(TemplateRun run, object? value)
    {
        var printer = new PythonPrettyPrint(run);
        printer.Write(printer.Sorted(value, 0), 0, 0, 1);
        return printer._text.Build();
    }

    // The value with every dictionary in it in the order of its keys.
    private object? Sorted(object? value, int depth)
    {
        _run.Charge(1);
        PythonEquality.CheckDepth(_run, depth);
        switch (value)
        {
            case List<object?> list:
                return list.ConvertAll(item => Sorted(item, depth + 1));
            case TemplateTuple tuple:
                return new TemplateTuple(tuple.Items.ConvertAll(item => Sorted(item, depth + 1)));
            case TemplateDictionary dictionary:
                var sorted = new TemplateDictionary();
                foreach (var (key, member) in dictionary.Entries.OrderBy(entry => entry.Key, Comparer<object?>.Create(CompareKeys)))
                {
                    sorted.Set(key, Sorted(member, depth + 1));
                }
                return sorted;
            default:
                return value;
        }
    }

    // Keys without an order are in that of the names of their types.
    private int CompareKeys(object? a, object? b)
    {
        string kindA = Kind(a);
        string kindB = Kind(b);
        return kindA == kindB && kindA != "NoneType"
            ? (PythonEquality.Holds(_run, "<", a, b) ? -1 : PythonEquality.Holds(_run, ">", a, b) ? 1 : 0)
            : string.CompareOrdinal(kindA, kindB);

        string Kind(object? key) => key switch
        {
            TemplateText => "str",
            TemplateTuple => "tuple",
            null => "NoneType",
            _ when PythonNumbers.IsNumber(key) => "int",
            _ => throw _run.Error($"'pprint' with {TemplateRun.Describe(key)} as a key is not supported"),
        };
    }

    private void Write(object? value, int indent, int allowance, int level)
    {
        TemplateText whole = PythonRepr.Of(_run, value);
        _run.Charge(whole.Units);
        if (whole.Length <= Width - indent - allowance)
        {
            _text.Append(whole);
            return;
        }
        switch (value)
        {
            case List<object?> list:
                Put("[");
                WriteItems(list, indent, allowance + 1, level);
                Put("]");
                break;
            case TemplateTuple tuple:
                string end = tuple.Items.Count == 1 ? ",)" : ")";
                Put("(");
                WriteItems(tuple.Items, indent, allowance + end.Length, level);
                Put(end);
                break;
            case TemplateDictionary dictionary:
                Put("{");
                for (int i = 0; i < dictionary.Count; i++)
                {
                    TemplateText key = PythonRepr.Of(_run, dictionary.Entries[i].Key);
                    bool last = i == dictionary.Count - 1;
                    _text.Append(key);
                    Put(": ");
                    Write(dictionary.Entries[i].Value, indent + 1 + key.Length + 2, last ? allowance + 1 : 1, level + 1);
                    Put(last ? "" : BreakLine(indent + 1));
                }
                Put("}");
                break;
            case TemplateText { IsMarkup: false } text:
                WriteString(text, whole, indent, allowance, level);
                break;
            default:
                _text.Append(whole);
                break;
        }
    }

    private void WriteItems(List<object?> items, int indent, int allowance, int level)
    {
        for (int i = 0; i < items.Count; i++)
        {
            bool last = i == items.Count - 1;
            Write(items[i], indent + 1, last ? allowance : 1, level + 1);
            Put(last ? "" : BreakLine(indent + 1));
        }
    }

    // As adjacent literals: one for each line, and for each part of a line that is too long.
    private void WriteString(TemplateText text, TemplateText whole, int indent, int allowance, int level)
    {
        bool outermost = level == 1;
        indent += outermost ? 1 : 0;
        allowance += outermost ? 1 : 0;
        var chunks = new List<TemplateText>();
        List<TemplateText> lines = PythonStrings.Lines(_run, text, keepsEnds: true);
        for (int i = 0; i < lines.Count; i++)
        {
            bool lastLine = i == lines.Count - 1;
            TemplateText shown = PythonRepr.Of(_run, lines[i]);
            if (shown.Length <= Width - indent - (lastLine ? allowance : 0))
            {
                chunks.Add(shown);
                continue;
            }
            int begin = 0;
            int end = 0;
            List<int> ends = WordEnds(lines[i].Value);
            for (int j = 0; j < ends.Count; j++)
            {
                bool lastPart = lastLine && j == ends.Count - 1;
                TemplateText candidate = PythonRepr.Of(_run, lines[i].Slice(begin, ends[j]));
                if (candidate.Length > Width - indent - (lastPart ? allowance : 0))
                {
                    if (end > begin)
                    {
                        chunks.Add(PythonRepr.Of(_run, lines[i].Slice(begin, end)));
                    }
                    begin = end;
                }
                end = ends[j];
            }
            chunks.Add(PythonRepr.Of(_run, lines[i].Slice(begin, end)));
        }
        if (chunks.Count == 1)
        {
            _text.Append(whole);
            return;
        }
        Put(outermost ? "(" : "");
        for (int i = 0; i < chunks.Count; i++)
        {
            Put(i == 0 ? "" : "\n" + new string(' ', indent));
            _text.Append(chunks[i]);
        }
        Put(outermost ? ")" : "");
    }

    // Where the words of a line end, each with the white space behind it.
    private static List<int> WordEnds(string line)
    {
        var ends = new List<int>();
        for (int at = 0; at < line.Length; ends.Add(at))
        {
            while (at < line.Length && !PythonCharacters.IsSpace(line[at]))
            {
                at++;
            }
            while (at < line.Length && PythonCharacters.IsSpace(line[at]))
            {
                at++;
            }
        }
        return ends;
    }

    private static string BreakLine(int indent) => ",\n" + new string(' ', indent);

    private void Put(string text) => _text.Append(text, TextOrigin.Data);
}
