using System.Numerics;
using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>The methods of Python's strings.</summary>
internal static partial class PythonStrings
{
    private delegate object? Method(TemplateRun run, TemplateText text, TemplateArguments arguments, string name);

    private static readonly Dictionary<string, Method> Methods = new()
    {
        ["capitalize"] = (run, text, arguments, name) => Bare(run, arguments, name, PythonCase.Capitalize(run, text)),
        ["casefold"] = (run, text, arguments, name) => Bare(run, arguments, name, PythonCase.Fold(run, text).AsMarkup(false)),
        ["center"] = Justify,
        ["count"] = (run, text, arguments, name) => Find(run, text, arguments, name),
        ["endswith"] = Affix,
        ["expandtabs"] = ExpandTabs,
        ["find"] = (run, text, arguments, name) => Find(run, text, arguments, name),
        ["format"] = (run, text, arguments, _) => PythonFormatting.Format(run, text, arguments),
        ["format_map"] = (run, text, arguments, name) => arguments.BindPositional(run, name, 1, 1)[0] is TemplateDictionary map
            ? PythonFormatting.Format(run, text, TemplateArguments.None, map)
            : throw run.Error("'format_map' takes a dictionary"),
        ["index"] = (run, text, arguments, name) => Find(run, text, arguments, name),
        ["isalnum"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, PythonCharacters.IsAlphanumeric)),
        ["isalpha"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, PythonCharacters.IsAlpha)),
        ["isascii"] = (run, text, arguments, name) => Bare(run, arguments, name, Ascii.IsValid(text.Value)),
        ["isdecimal"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, PythonCharacters.IsDecimal)),
        ["isdigit"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, PythonCharacters.IsDigit)),
        ["isidentifier"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, PythonCharacters.IsWord) && !PythonCharacters.IsNumeric(Rune.GetRuneAt(text.Value, 0))),
        ["islower"] = (run, text, arguments, name) => Bare(run, arguments, name, IsCase(run, text, PythonCharacters.IsLower)),
        ["isnumeric"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, PythonCharacters.IsNumeric)),
        ["isprintable"] = (run, text, arguments, name) => Bare(run, arguments, name, text.Units == 0 || All(run, text, PythonCharacters.IsPrintable)),
        ["isspace"] = (run, text, arguments, name) => Bare(run, arguments, name, All(run, text, rune => rune.IsBmp && PythonCharacters.IsSpace((char)rune.Value))),
        ["istitle"] = (run, text, arguments, name) => Bare(run, arguments, name, IsTitle(run, text)),
        ["isupper"] = (run, text, arguments, name) => Bare(run, arguments, name, IsCase(run, text, PythonCharacters.IsUpper)),
        ["join"] = Join,
        ["ljust"] = Justify,
        ["lower"] = (run, text, arguments, name) => Bare(run, arguments, name, PythonCase.Lower(run, text)),
        ["lstrip"] = (run, text, arguments, name) => Strip(run, text, arguments.BindPositional(run, name, 0, 1).OptionalText(0), left: true, right: false),
        ["partition"] = Partition,
        ["removeprefix"] = RemoveAffix,
        ["removesuffix"] = RemoveAffix,
        ["replace"] = (run, text, arguments, name) =>
        {
            BoundArguments bound = arguments.BindPositional(run, name, 2, 3);
            TemplateText from = bound.Text(0);
            TemplateText to = bound.Text(1);
            return Replace(run, text, text.IsMarkup ? TemplateHtml.Escape(run, from) : from, text.IsMarkup ? TemplateHtml.Escape(run, to) : to, bound.Integer(2, -1));
        },
        ["rfind"] = (run, text, arguments, name) => Find(run, text, arguments, name),
        ["rindex"] = (run, text, arguments, name) => Find(run, text, arguments, name),
        ["rjust"] = Justify,
        ["rpartition"] = Partition,
        ["rsplit"] = Split,
        ["rstrip"] = (run, text, arguments, name) => Strip(run, text, arguments.BindPositional(run, name, 0, 1).OptionalText(0), left: false, right: true),
        ["split"] = Split,
        ["splitlines"] = (run, text, arguments, name) => Lines(run, text, arguments.Bind(run, name, 0, "keepends").Truth(0, absent: false)).ToList<object?>(),
        ["startswith"] = Affix,
        ["strip"] = (run, text, arguments, name) => Strip(run, text, arguments.BindPositional(run, name, 0, 1).OptionalText(0), left: true, right: true),
        ["swapcase"] = (run, text, arguments, name) => Bare(run, arguments, name, PythonCase.Swap(run, text)),
        ["title"] = (run, text, arguments, name) => Bare(run, arguments, name, PythonCase.Title(run, text)),
        ["upper"] = (run, text, arguments, name) => Bare(run, arguments, name, PythonCase.Upper(run, text)),
        ["zfill"] = ZeroFill,
    };

    /// <summary>The method of a name, bound to a string, if there is one.</summary>
    public static bool TryMember(TemplateRun run, TemplateText text, string name, out object? member)
    {
        member = null;
        if (Methods.TryGetValue(name, out Method? method))
        {
            member = new TemplateFunction(name, (inner, arguments) =>
            {
                inner.Charge(text.Units);
                return method(inner, text, arguments, name);
            });
            return true;
        }
        return name is "encode" or "translate" or "maketrans" ? throw run.Error($"the string method '{name}' is not supported") : false;
    }

    public static TemplateText Replace(TemplateRun run, TemplateText text, TemplateText from, TemplateText to, int count)
    {
        run.ChargeSearch(text, from);
        count = count < 0 ? int.MaxValue : count;
        var result = new TemplateTextBuilder();
        int at = 0;
        if (from.Units == 0)
        {
            // Between all characters, and before and behind them.
            for (; count > 0 && at < text.Units; count--)
            {
                run.Charge(to.Units);
                int next = text.Next(at);
                result.Append(to).Append(text, at, next);
                at = next;
            }
            return (count > 0 ? result.Append(to) : result.Append(text, at, text.Units)).Build(text.IsMarkup);
        }
        for (; count > 0 && text.Value.IndexOf(from.Value, at, StringComparison.Ordinal) is var found && found >= 0; count--)
        {
            run.Charge(to.Units);
            result.Append(text, at, found).Append(to);
            at = found + from.Units;
        }
        return result.Append(text, at, text.Units).Build(text.IsMarkup);
    }

    public static TemplateText Strip(TemplateRun run, TemplateText text, TemplateText? characters, bool left, bool right)
    {
        run.Charge(text.Units * (1 + ((characters?.Units ?? 0) / 8L)));
        HashSet<string>? set = characters?.Characters().Select(character => character.Value).ToHashSet();
        int begin = 0;
        int end = text.Units;
        while (left && begin < end && Strips(begin, text.Next(begin)))
        {
            begin = text.Next(begin);
        }
        while (right && end > begin)
        {
            int last = end - (end - begin > 1 && char.IsSurrogatePair(text.Value[end - 2], text.Value[end - 1]) ? 2 : 1);
            if (!Strips(last, end))
            {
                break;
            }
            end = last;
        }
        return text.Slice(begin, end);

        bool Strips(int from, int to) => set?.Contains(text.Value[from..to]) ?? PythonCharacters.IsSpace(text.Value[from]);
    }

    public static List<TemplateText> Lines(TemplateRun run, TemplateText text, bool keepsEnds)
    {
        run.Charge(text.Units);
        var lines = new List<TemplateText>();
        for (int begin = 0; begin < text.Units;)
        {
            int end = begin;
            while (end < text.Units && !PythonCharacters.EndsLine(text.Value[end]))
            {
                end++;
            }
            int next = end == text.Units ? end : end + (text.Value.AsSpan(end).StartsWith("\r\n") ? 2 : 1);
            lines.Add(text.Slice(begin, keepsEnds ? next : end));
            run.Charge(32);
            begin = next;
        }
        return lines;
    }

    public static TemplateText Join(TemplateRun run, TemplateText separator, IEnumerable<TemplateText> parts, bool isMarkup = false)
    {
        var joined = new TemplateTextBuilder();
        bool first = true;
        foreach (TemplateText part in parts)
        {
            run.Charge(part.Units + separator.Units);
            if (!first)
            {
                joined.Append(separator);
            }
            joined.Append(part);
            first = false;
        }
        return joined.Build(isMarkup);
    }

    private static object? Bare(TemplateRun run, TemplateArguments arguments, string name, object? result)
    {
        _ = arguments.BindPositional(run, name, 0, 0);
        return result;
    }

    private static bool All(TemplateRun run, TemplateText text, Func<Rune, bool> test)
    {
        run.Charge(text.Units);
        return text.Units > 0 && text.Value.EnumerateRunes().All(test);
    }

    private static bool IsCase(TemplateRun run, TemplateText text, Func<Rune, bool> test)
    {
        run.Charge(text.Units);
        bool any = false;
        foreach (Rune rune in text.Value.EnumerateRunes())
        {
            if (PythonCharacters.IsCased(rune))
            {
                if (!test(rune))
                {
                    return false;
                }
                any = true;
            }
        }
        return any;
    }

    private static bool IsTitle(TemplateRun run, TemplateText text)
    {
        run.Charge(text.Units);
        bool any = false;
        bool inWord = false;
        foreach (Rune rune in text.Value.EnumerateRunes())
        {
            bool begins = PythonCharacters.IsUpper(rune) || PythonCharacters.IsTitle(rune);
            bool goesOn = PythonCharacters.IsLower(rune);
            if ((begins && inWord) || (goesOn && !inWord))
            {
                return false;
            }
            inWord = begins || goesOn;
            any |= inWord;
        }
        return any;
    }

    // count, find, rfind, index and rindex: in a part of the text given by code points.
    private static object? Find(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        BoundArguments bound = arguments.BindPositional(run, name, 1, 3);
        TemplateText sought = bound.Text(0);
        run.ChargeSearch(text, sought);
        var (begin, end) = Part(bound, text);
        string part = begin <= end ? text.Value[begin..end] : "";
        if (name == "count")
        {
            return (BigInteger)(begin > end ? 0 : sought.Units == 0 ? text.CodePointOf(end) - text.CodePointOf(begin) + 1 : part.AsSpan().Count(sought.Value));
        }
        int found = begin > end ? -1
            : name[0] == 'r' ? (sought.Units == 0 ? part.Length : part.LastIndexOf(sought.Value, StringComparison.Ordinal))
            : part.IndexOf(sought.Value, StringComparison.Ordinal);
        return found >= 0 ? (BigInteger)text.CodePointOf(begin + found)
            : name.EndsWith("find", StringComparison.Ordinal) ? BigInteger.MinusOne
            : throw run.Error($"'{name}' does not find '{sought}'");
    }

    // The bounds, in UTF-16 units, that the second and third argument mean.
    private static (int Begin, int End) Part(BoundArguments bound, TemplateText text)
    {
        int length = text.Length;
        int from = bound.OptionalInteger(1) ?? 0;
        int to = bound.OptionalInteger(2) ?? length;
        from = from < 0 ? Math.Max(0, from + length) : from;
        to = to < 0 ? Math.Max(0, to + length) : Math.Min(to, length);
        return from > to ? (1, 0) : (text.UnitOf(from), text.UnitOf(to));
    }

    private static object? Affix(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        BoundArguments bound = arguments.BindPositional(run, name, 1, 3);
        var (begin, end) = Part(bound, text);
        string part = begin <= end ? text.Value[begin..end] : "";
        return bound[0] is TemplateTuple tuple ? tuple.Items.Any(Matches) : Matches(bound[0]);

        bool Matches(object? value)
        {
            TemplateText affix = value as TemplateText ?? throw bound.Wrong(0, "a string or a tuple of strings");
            run.Charge(affix.Units);
            return begin <= end && (name == "startswith" ? part.StartsWith(affix.Value, StringComparison.Ordinal) : part.EndsWith(affix.Value, StringComparison.Ordinal));
        }
    }

    private static object? RemoveAffix(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        TemplateText affix = arguments.BindPositional(run, name, 1, 1).Text(0);
        TemplateText plain = text.AsMarkup(false);
        if (name == "removeprefix")
        {
            return text.Value.StartsWith(affix.Value, StringComparison.Ordinal) ? plain.Slice(affix.Units) : plain;
        }
        return text.Value.EndsWith(affix.Value, StringComparison.Ordinal) ? plain.Slice(0, text.Units - affix.Units) : plain;
    }

    private static object? Join(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        IEnumerable<TemplateText> parts = run.Iterate(arguments.BindPositional(run, name, 1, 1)[0])
            .Select(item => text.IsMarkup ? TemplateHtml.Escape(run, item) : item as TemplateText ?? throw run.Error($"'join' joins strings, not {TemplateRun.Describe(item)}"));
        return Join(run, text, parts, text.IsMarkup);
    }

    private static object? Justify(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        BoundArguments bound = arguments.BindPositional(run, name, 1, 2);
        return Justify(run, text, bound.Integer(0, 0), name, bound.Text(1, " "));
    }

    /// <summary>Fills up to a width: behind, before, or on both sides.</summary>
    public static TemplateText Justify(TemplateRun run, TemplateText text, int width, string side, TemplateText fill)
    {
        if (fill.Length != 1)
        {
            throw run.Error($"'{side}' fills with one character, not {fill.Length}");
        }
        int missing = Math.Max(0, width - text.Length);
        run.Charge(missing);
        // Of an odd number, the larger part is on the left if the width is odd.
        int left = side switch { "ljust" => 0, "rjust" => missing, _ => (missing / 2) + (missing & width & 1) };
        var justified = new TemplateTextBuilder();
        for (int i = 0; i < left; i++)
        {
            justified.Append(fill);
        }
        justified.Append(text);
        for (int i = left; i < missing; i++)
        {
            justified.Append(fill);
        }
        return justified.Build(text.IsMarkup);
    }

    private static object? ZeroFill(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        int missing = arguments.BindPositional(run, name, 1, 1).Integer(0, 0) - text.Length;
        if (missing <= 0)
        {
            return text;
        }
        run.Charge(missing);
        int sign = text.Value is ['+' or '-', ..] ? 1 : 0;
        return new TemplateTextBuilder().Append(text, 0, sign).Append(new string('0', missing), TextOrigin.Template).Append(text, sign, text.Units).Build(text.IsMarkup);
    }

    private static object? ExpandTabs(TemplateRun run, TemplateText text, TemplateArguments arguments, string name)
    {
        int size = arguments.Bind(run, name, 0, "tabsize").Integer(0, 8);
        var expanded = new TemplateTextBuilder();
        int column = 0;
        foreach (TemplateText character in text.Characters())
        {
            if (character.Value == "\t")
            {
                int spaces = size > 0 ? size - (column % size) : 0;
                run.Charge(spaces);
                expanded.Append(new string(' ', spaces), text.Origin);
                column += spaces;
                continue;
            }
            run.Charge(1);
            expanded.Append(character);
            column = character.Value is "\n" or "\r" ? 0 : column + 1;
        }
        return expanded.Build(text.IsMarkup);
    }
}
