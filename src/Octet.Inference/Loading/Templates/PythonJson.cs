using System.Globalization;
using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The filter <c>tojson</c>: Python's <c>json.dumps</c>, which transformers puts in place of Jinja's own.</summary>
internal sealed class PythonJson
{
    private const int DeepestIndent = 1024;
    private readonly TemplateRun _run;
    private readonly TemplateTextBuilder _json = new();
    private readonly bool _ascii;
    private readonly TemplateText? _indent;
    private readonly TemplateText _itemSeparator;
    private readonly TemplateText _keySeparator;
    private readonly bool _sorts;

    private PythonJson(TemplateRun run, BoundArguments arguments)
    {
        _run = run;
        _ascii = arguments.Truth(1, absent: false);
        _indent = Indent(arguments);
        _sorts = arguments.Truth(4, absent: false);
        _itemSeparator = TemplateText.Of(_indent is null ? ", " : ",");
        _keySeparator = TemplateText.Of(": ");
        if (arguments[3] is not null)
        {
            List<object?> separators = run.Items(arguments[3]);
            if (separators is not [TemplateText item, TemplateText key])
            {
                throw arguments.Wrong(3, "two strings");
            }
            (_itemSeparator, _keySeparator) = (item, key);
        }
    }

    public static object Filter(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "tojson", 1, "x", "ensure_ascii", "indent", "separators", "sort_keys");
        var json = new PythonJson(run, bound);
        json.Write(bound[0], 0);
        return json._json.Build();
    }

    private static TemplateText? Indent(BoundArguments arguments)
    {
        switch (arguments[2])
        {
            case null:
                return null;
            case TemplateText text:
                return text.AsMarkup(false);
            default:
                int width = arguments.Integer(2, 0);
                return width <= DeepestIndent ? TemplateText.Of(new string(' ', Math.Max(0, width))) : throw arguments.Wrong(2, $"at most {DeepestIndent}");
        }
    }

    private void Write(object? value, int depth)
    {
        _run.Charge(1);
        PythonEquality.CheckDepth(_run, depth);
        switch (value)
        {
            case null:
                Put("null");
                break;
            case bool flag:
                Put(flag ? "true" : "false");
                break;
            case BigInteger number:
                Put(PythonNumbers.Text(_run, number));
                break;
            case double number:
                Put(Number(number));
                break;
            case TemplateText text:
                WriteString(text);
                break;
            case List<object?> list:
                WriteParts('[', list, depth, item => Write(item, depth + 1), ']');
                break;
            case TemplateTuple tuple:
                WriteParts('[', tuple.Items, depth, item => Write(item, depth + 1), ']');
                break;
            case TemplateDictionary dictionary:
                WriteParts('{', Sorted(dictionary), depth, entry => WriteEntry(entry, depth), '}');
                break;
            default:
                throw _run.Error($"{TemplateRun.Describe(value)} has no form in JSON");
        }
    }

    private void WriteParts<T>(char open, List<T> parts, int depth, Action<T> write, char close)
    {
        Put([open]);
        for (int i = 0; i < parts.Count; i++)
        {
            if (i > 0)
            {
                _json.Append(_itemSeparator);
            }
            BreakLine(depth + 1);
            write(parts[i]);
        }
        if (parts.Count > 0)
        {
            BreakLine(depth);
        }
        Put([close]);
    }

    private void BreakLine(int depth)
    {
        if (_indent is null)
        {
            return;
        }
        _run.Charge(depth * (long)_indent.Units);
        Put("\n");
        for (int i = 0; i < depth; i++)
        {
            _json.Append(_indent);
        }
    }

    private void WriteEntry(KeyValuePair<object?, object?> entry, int depth)
    {
        if (entry.Key is TemplateText key)
        {
            WriteString(key);
        }
        else
        {
            string text = entry.Key switch
            {
                null => "null",
                bool flag => flag ? "true" : "false",
                BigInteger number => PythonNumbers.Text(_run, number),
                double number => Number(number),
                _ => throw _run.Error($"{TemplateRun.Describe(entry.Key)} cannot be a key in JSON"),
            };
            Put($"\"{text}\"");
        }
        _json.Append(_keySeparator);
        Write(entry.Value, depth + 1);
    }

    private List<KeyValuePair<object?, object?>> Sorted(TemplateDictionary dictionary) =>
        _sorts ? TemplateSorting.Sort(_run, dictionary.Entries, entry => entry.Key, reverse: false) : dictionary.Entries;

    private static string Number(double number) =>
        double.IsNaN(number) ? "NaN" : double.IsInfinity(number) ? (number > 0 ? "Infinity" : "-Infinity") : PythonNumbers.Text(number);

    private void WriteString(TemplateText text)
    {
        _run.Charge(text.Units);
        Put("\"");
        int plain = 0;
        for (int i = 0; i < text.Units; i++)
        {
            string? escape = Escape(text.Value[i]);
            if (escape is not null)
            {
                _json.Append(text, plain, i).Append(escape, text.OriginAt(i));
                plain = i + 1;
            }
        }
        _json.Append(text, plain, text.Units);
        Put("\"");
    }

    private string? Escape(char c) => c switch
    {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\b' => "\\b",
        '\f' => "\\f",
        < ' ' => string.Create(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
        > '~' when _ascii => string.Create(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
        _ => null,
    };

    // What stands between strings must not complete a token any more than they.
    private void Put(ReadOnlySpan<char> text) => _json.Append(text, TextOrigin.Data);
}
