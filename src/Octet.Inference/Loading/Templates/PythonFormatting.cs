using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>Python's <c>'...' % values</c> and <c>'...'.format(...)</c>.</summary>
internal static class PythonFormatting
{
    private const int DeepestFields = 2;

    /// <summary><c>text % values</c>.</summary>
    public static TemplateText Percent(TemplateRun run, TemplateText text, object? values)
    {
        var result = new TemplateTextBuilder();
        List<object?>? tuple = (values as TemplateTuple)?.Items;
        int used = 0;
        bool named = false;
        string format = text.Value;
        int at = 0;
        while (at < format.Length)
        {
            int percent = format.IndexOf('%', at);
            percent = percent < 0 ? format.Length : percent;
            result.Append(text, at, percent);
            at = percent + 1;
            if (percent == format.Length)
            {
                break;
            }
            if (Next() == '%')
            {
                result.Append(text, at, ++at);
                continue;
            }
            object? member = null;
            bool hasMember = Next() == '(';
            if (hasMember)
            {
                int begin = ++at;
                for (int depth = 1; depth > 0; at++)
                {
                    depth += Next() == '(' ? 1 : Next() == ')' ? -1 : at >= format.Length ? throw run.Error("a format lacks its ')'") : 0;
                }
                named = true;
                TemplateText key = text.Slice(begin, at - 1);
                member = values is TemplateDictionary dictionary && dictionary.TryGet(key, out object? found)
                    ? found
                    : throw run.Error($"there is no value for the format '%({key})'");
            }
            var specification = new PythonFormat();
            bool zeros = false;
            for (; Next() is '-' or '+' or ' ' or '#' or '0'; at++)
            {
                switch (format[at])
                {
                    case '-':
                        specification.Align = '<';
                        break;
                    case '#':
                        specification.Alternate = true;
                        break;
                    case '0':
                        zeros = true;
                        break;
                    case var sign:
                        specification.Sign = sign == '+' || specification.Sign == '+' ? '+' : ' ';
                        break;
                }
            }
            if (Number() is { } width)
            {
                specification.Width = Math.Abs(width);
                specification.Align = width < 0 ? '<' : specification.Align;
            }
            if (Next() == '.')
            {
                at++;
                specification.Precision = Math.Max(0, Number() ?? 0);
            }
            while (Next() is 'l' or 'h' or 'L')
            {
                at++;
            }
            if (at >= format.Length)
            {
                throw run.Error("a format is not complete");
            }
            specification.Type = format[at++];
            result.Append(Value(run, specification, zeros, hasMember ? member : Take(), text.IsMarkup));
        }
        bool allUsed = tuple is null ? used == 1 || named || values is TemplateDictionary or List<object?> or TemplateRange or TemplateUndefined : used == tuple.Count || named;
        if (!allUsed)
        {
            throw run.Error("not all values are used by the format");
        }
        TemplateText built = result.Build(text.IsMarkup);
        run.Charge(built.Units);
        return built;

        char Next() => at < format.Length ? format[at] : '\0';

        object? Take()
        {
            if (named || used >= (tuple?.Count ?? 1))
            {
                throw run.Error("there are not enough values for the format");
            }
            return tuple is null ? (used++, values).values : tuple[used++];
        }

        int? Number()
        {
            if (Next() == '*')
            {
                at++;
                return PythonNumbers.AsInteger(Take()) is { } given && BigInteger.Abs(given) <= 1 << 16 ? (int)given : throw run.Error("the width of a format is no small integer");
            }
            int begin = at;
            while (char.IsAsciiDigit(Next()))
            {
                at++;
            }
            return at == begin ? null : PythonFormat.ReadWidth(run, format.AsSpan(begin, at - begin));
        }
    }

    /// <summary><c>text.format(...)</c>.</summary>
    public static TemplateText Format(TemplateRun run, TemplateText text, TemplateArguments arguments, TemplateDictionary? map = null)
    {
        var state = new Numbering();
        TemplateText built = Format(run, text, arguments, map, state, DeepestFields).AsMarkup(text.IsMarkup);
        run.Charge(built.Units);
        return built;
    }

    private static TemplateText Value(TemplateRun run, PythonFormat format, bool zeros, object? value, bool escapes)
    {
        switch (format.Type)
        {
            case 's' or 'r' or 'a':
                if (format.Type == 'a')
                {
                    throw run.Error("the format '%a' is not supported");
                }
                TemplateText text = format.Type == 's' ? (escapes ? TemplateHtml.Escape(run, value) : run.Text(value)) : PythonRepr.Of(run, value);
                text = escapes && format.Type == 'r' ? TemplateHtml.Escape(run, text) : text;
                return format.Pad(run, format.Cut(text.AsMarkup(false)), '>');
            case 'c' when value is TemplateText { Length: 1 } character:
                return format.Pad(run, character.AsMarkup(false), '>');
        }
        if (!PythonNumbers.IsNumber(value))
        {
            throw run.Error(value is TemplateUndefined undefined ? undefined.Message : $"the format '%{format.Type}' takes a number, not {TemplateRun.Describe(value)}");
        }
        switch (format.Type)
        {
            case 'c' when value is not double:
                return (format with { Sign = '-', Precision = null, Align = format.Align == ' ' ? '>' : format.Align }).Number(run, value);
            case 'd' or 'i' or 'u' or 'x' or 'X' or 'o':
                if (value is double number)
                {
                    value = double.IsFinite(number) && format.Type is 'd' or 'i' or 'u'
                        ? new BigInteger(number)
                        : throw run.Error($"the format '%{format.Type}' takes an integer");
                }
                char type = format.Type is 'i' or 'u' ? 'd' : format.Type;
                if (format.Precision is { } least)
                {
                    // Here the precision is the least number of digits.
                    TemplateText digits = (format with { Type = type, Precision = null, Width = 0 }).Number(run, value);
                    int head = digits.Value.AsSpan().IndexOfAnyExcept("+- ");
                    head += digits.Value.AsSpan(head) is ['0', 'x' or 'X' or 'o', ..] ? 2 : 0;
                    digits = TemplateText.Of(digits.Value[..head] + digits.Value[head..].PadLeft(least, '0'));
                    return Zeros(format, zeros).Pad(run, digits, '>', head);
                }
                return Zeros(format with { Type = type }, zeros).Number(run, value);
            case 'e' or 'E' or 'f' or 'F' or 'g' or 'G':
                return Zeros(format, zeros && double.IsFinite(PythonNumbers.AsDouble(run, value)) || zeros).Number(run, value);
            default:
                throw run.Error($"the format '%{format.Type}' is not supported");
        }
    }

    private static PythonFormat Zeros(PythonFormat format, bool zeros) => zeros && format.Align != '<' ? format with { Fill = TemplateText.Of("0"), Align = '=' } : format;

    private static TemplateText Format(TemplateRun run, TemplateText text, TemplateArguments arguments, TemplateDictionary? map, Numbering numbering, int depth)
    {
        if (depth < 0)
        {
            throw run.Error("the fields of a format are nested too deeply");
        }
        var result = new TemplateTextBuilder();
        string format = text.Value;
        int at = 0;
        while (at < format.Length)
        {
            char c = format[at];
            if (c is '{' or '}' && at + 1 < format.Length && format[at + 1] == c)
            {
                result.Append(text, at, at + 1);
                at += 2;
                continue;
            }
            if (c is not ('{' or '}'))
            {
                int next = format.AsSpan(at).IndexOfAny('{', '}');
                next = next < 0 ? format.Length : at + next;
                result.Append(text, at, next);
                at = next;
                continue;
            }
            int begin = at + 1;
            int open = c == '{' ? 1 : throw run.Error("a format has a '}' alone");
            int nameEnd = -1;
            for (at++; open > 0; at++)
            {
                if (at >= format.Length)
                {
                    throw run.Error("a format lacks its '}'");
                }
                open += format[at] == '{' ? 1 : format[at] == '}' ? -1 : 0;
                if (nameEnd < 0 && (open == 0 || format[at] is ':' or '!'))
                {
                    nameEnd = at;
                }
                else if (nameEnd < 0 && format[at] == '[')
                {
                    int close = format.IndexOf(']', at);
                    at = close < 0 ? at : close;
                }
            }
            object? value = Field(run, text.Slice(begin, nameEnd), arguments, map, numbering);
            int rest = nameEnd;
            if (format[rest] == '!')
            {
                char conversion = rest + 1 < at - 1 ? format[rest + 1] : ' ';
                rest += 2;
                value = conversion switch
                {
                    's' => run.Text(value),
                    'r' => PythonRepr.Of(run, value),
                    _ => throw run.Error($"the conversion '!{conversion}' is not supported"),
                };
                if (rest < at - 1 && format[rest] != ':')
                {
                    throw run.Error("a format has more than a conversion before its '}'");
                }
            }
            TemplateText specification = format[Math.Min(rest, at - 1)] == ':' ? Format(run, text.Slice(rest + 1, at - 1), arguments, map, numbering, depth - 1) : TemplateText.Empty;
            if (text.IsMarkup && value is TemplateText { IsMarkup: true })
            {
                result.Append(specification.Units == 0 ? (TemplateText)value : throw run.Error("a format for HTML is not supported"));
                continue;
            }
            TemplateText formatted = PythonFormat.Of(run, value, specification);
            result.Append(text.IsMarkup ? TemplateHtml.Escape(run, formatted) : formatted);
        }
        return result.Build();
    }

    // name, 0 or nothing, then .member or [item] as often as wanted.
    private static object? Field(TemplateRun run, TemplateText field, TemplateArguments arguments, TemplateDictionary? map, Numbering numbering)
    {
        string path = field.Value;
        int end = path.AsSpan().IndexOfAny('.', '[');
        end = end < 0 ? path.Length : end;
        object? value = First(run, field.Slice(0, end), arguments, map, numbering);
        while (end < path.Length)
        {
            int begin = end + 1;
            if (path[end] == '.')
            {
                end = path.AsSpan(begin).IndexOfAny('.', '[') is var next && next < 0 ? path.Length : begin + next;
                value = TemplateMembers.Attribute(run, value, field.Slice(begin, end));
            }
            else
            {
                end = path.IndexOf(']', begin);
                if (path[begin - 1] != '[' || end < 0)
                {
                    throw run.Error($"the field '{path}' of a format is not valid");
                }
                TemplateText key = field.Slice(begin, end++);
                value = TemplateMembers.Item(run, value, key.Units > 0 && key.Value.All(char.IsAsciiDigit) ? BigInteger.Parse(key.Value, System.Globalization.CultureInfo.InvariantCulture) : key);
            }
        }
        return value;
    }

    private static object? First(TemplateRun run, TemplateText name, TemplateArguments arguments, TemplateDictionary? map, Numbering numbering)
    {
        bool isNumber = name.Value.All(char.IsAsciiDigit);
        if (isNumber)
        {
            bool automatic = name.Units == 0;
            if (numbering.Automatic is { } before && before != automatic)
            {
                throw run.Error("a format numbers some of its fields but not all");
            }
            numbering.Automatic = automatic;
            int index = automatic ? numbering.Next++ : name.Units < 6 ? int.Parse(name.Value, System.Globalization.CultureInfo.InvariantCulture) : int.MaxValue;
            return map is null && index < arguments.Positional.Count ? arguments.Positional[index] : throw run.Error($"there is no value {index} for the format");
        }
        if (map is not null)
        {
            return map.TryGet(name, out object? value) ? value : throw run.Error($"there is no value '{name}' for the format");
        }
        int at = arguments.Named.FindIndex(argument => argument.Key == name.Value);
        return at >= 0 ? arguments.Named[at].Value : throw run.Error($"there is no value '{name}' for the format");
    }

    private sealed class Numbering
    {
        public bool? Automatic { get; set; }

        public int Next { get; set; }
    }
}
