using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading;

/// <summary>The filters, tests and string methods that templates may use.</summary>
internal static class TemplateBuiltins
{
    private const int DeepestJson = 64;

    private static readonly Dictionary<string, (int Least, int Most)> FilterArguments = new()
    {
        ["trim"] = (0, 0),
        ["length"] = (0, 0),
        ["count"] = (0, 0),
        ["string"] = (0, 0),
        ["tojson"] = (0, 0),
        ["first"] = (0, 0),
        ["last"] = (0, 0),
        ["list"] = (0, 0),
        ["join"] = (0, 1),
        ["replace"] = (2, 2),
        ["default"] = (0, 2),
        ["d"] = (0, 2),
    };

    private static readonly string[] Tests =
        ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "boolean", "true", "false"];

    public static void CheckFilter(string name, int arguments, TemplateSource source, int position)
    {
        if (!FilterArguments.TryGetValue(name, out var count) || arguments < count.Least || arguments > count.Most)
        {
            throw source.Bad(position, $"the filter '{name}' with {arguments} arguments is not supported");
        }
    }

    public static void CheckTest(string name, TemplateSource source, int position)
    {
        if (!Tests.Contains(name))
        {
            throw source.Bad(position, $"the test '{name}' is not supported");
        }
    }

    public static bool Test(string name, object? value) => name switch
    {
        "defined" => value is not TemplateUndefined,
        "undefined" => value is TemplateUndefined,
        "none" => value is null,
        "string" => value is string,
        "mapping" => value is Dictionary<string, object?>,
        // Jinja counts what has a length, and that includes the undefined.
        "sequence" or "iterable" => value is string or List<object?> or Dictionary<string, object?> or TemplateUndefined,
        "number" => value is long or bool,
        "integer" => value is long,
        "boolean" => value is bool,
        "true" => value is true,
        _ => value is false,
    };

    public static object? Filter(string name, object? value, object?[] arguments, TemplateRun run, int position)
    {
        switch (name)
        {
            case "trim":
                return Strip(run.Text(value, position), null, left: true, right: true, run, position);
            case "string":
                return run.Text(value, position);
            case "length" or "count":
                run.Charge((value as string)?.Length ?? 0, position);
                return value is string text ? text.EnumerateRunes().LongCount() : run.Items(value, position).Count;
            case "list":
                return run.Items(value, position);
            case "first":
                return run.Items(value, position) is [var head, ..] ? head : new TemplateUndefined("the first item of nothing");
            case "last":
                return run.Items(value, position) is [.., var tail] ? tail : new TemplateUndefined("the last item of nothing");
            case "tojson":
                var json = new StringBuilder();
                WriteJson(value, json, run, position);
                return json.ToString();
            case "join":
                string separator = arguments is [var between] ? run.Text(between, position) : "";
                List<string> texts = run.Items(value, position).ConvertAll(item => run.Text(item, position));
                run.Charge(texts.Sum(text => (long)text.Length + separator.Length), position);
                return string.Join(separator, texts);
            case "replace":
                return Replace(run.Text(value, position), arguments, run, position);
            default:
                bool alsoFalse = arguments is [_, var flag] && TemplateRun.Truth(flag);
                return value is TemplateUndefined || (alsoFalse && !TemplateRun.Truth(value)) ? arguments is [var other, ..] ? other : "" : value;
        }
    }

    public static object? StringMethod(string text, string name, object?[] arguments, TemplateRun run, int position)
    {
        run.Charge(text.Length, position);
        switch (name)
        {
            case "startswith" when arguments is [string prefix]:
                return text.StartsWith(prefix, StringComparison.Ordinal);
            case "endswith" when arguments is [string suffix]:
                return text.EndsWith(suffix, StringComparison.Ordinal);
            case "strip" or "lstrip" or "rstrip" when arguments is [] or [string]:
                return Strip(text, arguments is [string characters] ? characters : null, name != "rstrip", name != "lstrip", run, position);
            case "split" when arguments is [string { Length: > 0 } separator]:
                run.ChargeSearch(text, separator, position);
                run.Charge(text.Length / separator.Length * 32L, position);
                return text.Split(separator).ToList<object?>();
            case "replace" when arguments is [_, _]:
                return Replace(text, arguments, run, position);
            default:
                string kinds = string.Join(", ", arguments.Select(TemplateRun.Describe));
                throw run.Bad(position, $"the string method '{name}({kinds})' is not supported");
        }
    }

    private static string Replace(string text, object?[] arguments, TemplateRun run, int position)
    {
        if (arguments is not [string { Length: > 0 } from, string to])
        {
            throw run.Bad(position, "'replace' is only supported with a string that is not empty and another string");
        }
        run.ChargeSearch(text, from, position);
        // The most the result can be, asked for before it is made.
        run.Charge(text.Length / from.Length * (long)to.Length, position);
        return text.Replace(from, to, StringComparison.Ordinal);
    }

    private static string Strip(string text, string? characters, bool left, bool right, TemplateRun run, int position)
    {
        run.Charge(text.Length * (1 + (characters?.Length ?? 0) / 8L), position);
        if (characters is not null && characters.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            throw run.Bad(position, "stripping characters above U+FFFF is not supported");
        }
        int begin = 0;
        int end = text.Length;
        while (left && begin < end && Strips(text[begin]))
        {
            begin++;
        }
        while (right && end > begin && Strips(text[end - 1]))
        {
            end--;
        }
        return text[begin..end];

        bool Strips(char c) => characters?.Contains(c) ?? TemplateLexer.IsSpace(c);
    }

    // As json.dumps with ensure_ascii off, which transformers puts in place of Jinja's own filter.
    private static void WriteJson(object? value, StringBuilder json, TemplateRun run, int position, int depth = 0)
    {
        run.Charge(0, position);
        if (depth > DeepestJson)
        {
            throw run.Bad(position, $"more than {DeepestJson} levels of lists as JSON");
        }
        switch (value)
        {
            case null:
                json.Append("null");
                break;
            case bool flag:
                json.Append(flag ? "true" : "false");
                break;
            case long number:
                json.Append(number);
                break;
            case string text:
                run.Charge(text.Length, position);
                WriteJsonString(text, json);
                break;
            case List<object?> list:
                json.Append('[');
                for (int i = 0; i < list.Count; i++)
                {
                    json.Append(i == 0 ? "" : ", ");
                    WriteJson(list[i], json, run, position, depth + 1);
                }
                json.Append(']');
                break;
            case Dictionary<string, object?> dictionary:
                json.Append('{');
                bool first = true;
                foreach (var (key, member) in dictionary)
                {
                    json.Append(first ? "" : ", ");
                    first = false;
                    WriteJson(key, json, run, position, depth + 1);
                    json.Append(": ");
                    WriteJson(member, json, run, position, depth + 1);
                }
                json.Append('}');
                break;
            default:
                throw run.Bad(position, $"{TemplateRun.Describe(value)} as JSON is not supported");
        }
    }

    private static void WriteJsonString(string text, StringBuilder json)
    {
        json.Append('"');
        foreach (char c in text)
        {
            string? escape = c switch
            {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\b' => "\\b",
                '\f' => "\\f",
                < ' ' => string.Create(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => null,
            };
            _ = escape is null ? json.Append(c) : json.Append(escape);
        }
        json.Append('"');
    }
}
