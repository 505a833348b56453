using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading;

/// <summary>What a name or member that does not exist evaluates to: no text, no items, false; its members are an error.</summary>
internal sealed record TemplateUndefined(string What);

/// <summary>The one kind of value a template can change: <c>namespace(a=1)</c>.</summary>
internal sealed class TemplateNamespace(IEnumerable<KeyValuePair<string, object?>> members)
{
    public Dictionary<string, object?> Members { get; } = new(members);
}

/// <summary>The variable <c>loop</c>.</summary>
internal sealed record TemplateLoop(List<object?> Items, int Index);

/// <summary>The variables that are visible at one place: those of the template, and of each loop around it. An assignment in a loop lasts for that turn.</summary>
internal sealed class TemplateScope(TemplateRun run, TemplateScope? parent)
{
    private readonly Dictionary<string, object?> _variables = [];

    public TemplateRun Run { get; } = run;

    private TemplateScope? Parent { get; } = parent;

    public void Set(string name, object? value) => _variables[name] = value;

    public object? Get(string name)
    {
        for (TemplateScope? scope = this; scope is not null; scope = scope.Parent)
        {
            if (scope._variables.TryGetValue(name, out object? value))
            {
                return value;
            }
        }
        return new TemplateUndefined(name);
    }

    public TemplateScope Inner(string name, object? value)
    {
        var inner = new TemplateScope(Run, this);
        inner.Set(name, value);
        return inner;
    }
}

/// <summary>One rendering: its output and the operations on values, which mean what they mean in Python or are refused.</summary>
/// <remarks>A value is null, <see cref="bool"/>, <see cref="long"/>, <see cref="string"/>, a list, a dictionary by string, or one of the classes above.</remarks>
internal sealed class TemplateRun(TemplateSource source)
{
    // Roughly the characters that may be read or made; it bounds time and memory, whatever the loops of a template do.
    private const long Budget = 100_000_000;
    private long _spent;

    public StringBuilder Output { get; } = new();

    public ModelFormatException Bad(int position, string problem) => source.Bad(position, problem);

    public void Charge(long cost, int position)
    {
        _spent += cost + 1;
        if (_spent > Budget)
        {
            throw Bad(position, $"the template does more than {Budget} steps");
        }
    }

    public void Write(string text, int position)
    {
        Charge(text.Length, position);
        Output.Append(text);
    }

    /// <summary>The cost of searching in a text.</summary>
    public void ChargeSearch(string text, string sought, int position) => Charge(text.Length * (1 + sought.Length / 8L), position);

    public string Text(object? value, int position)
    {
        Charge(0, position);
        return value switch
        {
            null => "None",
            bool flag => flag ? "True" : "False",
            long number => number.ToString(CultureInfo.InvariantCulture),
            string text => text,
            TemplateUndefined => "",
            _ => throw Bad(position, $"{Describe(value)} as text is not supported"),
        };
    }

    public static bool Truth(object? value) => value switch
    {
        null or TemplateUndefined => false,
        bool flag => flag,
        long number => number != 0,
        string text => text.Length > 0,
        List<object?> list => list.Count > 0,
        Dictionary<string, object?> dictionary => dictionary.Count > 0,
        _ => true,
    };

    public List<object?> Items(object? value, int position)
    {
        List<object?> items = value switch
        {
            List<object?> list => list,
            Dictionary<string, object?> dictionary => [.. dictionary.Keys],
            string text => Characters(text, position),
            TemplateUndefined => [],
            _ => throw Bad(position, $"{Describe(value)} has no items"),
        };
        Charge(items.Count, position);
        return items;
    }

    public bool Compare(string operation, object? a, object? b, int position)
    {
        switch (operation)
        {
            case "==":
                return Equal(a, b, position);
            case "!=":
                return !Equal(a, b, position);
            case "in":
                return Contains(b, a, position);
            case "not in":
                return !Contains(b, a, position);
        }
        int order = Number(a, position).CompareTo(Number(b, position));
        return operation switch
        {
            "<" => order < 0,
            "<=" => order <= 0,
            ">" => order > 0,
            _ => order >= 0,
        };
    }

    public object? Binary(string operation, object? a, object? b, int position)
    {
        Charge(0, position);
        if (operation == "~")
        {
            return Join(Text(a, position), Text(b, position), position);
        }
        if (operation == "+" && a is string first && b is string second)
        {
            return Join(first, second, position);
        }
        if (operation == "+" && a is List<object?> list && b is List<object?> more)
        {
            Charge(list.Count + more.Count, position);
            return list.Concat(more).ToList();
        }
        long x = Number(a, position);
        long y = Number(b, position);
        Int128 result = operation switch
        {
            "+" => (Int128)x + y,
            "-" => (Int128)x - y,
            "*" => (Int128)x * y,
            _ when y == 0 => throw Bad(position, "a division by zero"),
            // Python rounds down, so that a remainder has the sign of the divisor.
            "//" => Int128.DivRem(x, y) is var (quotient, rest) && rest != 0 && rest < 0 != y < 0 ? quotient - 1 : quotient,
            _ => ((Int128)x % y + y) % y,
        };
        return result >= long.MinValue && result <= long.MaxValue ? (long)result : throw Bad(position, "a number is too large");
    }

    public object? Member(object? value, string name, int position)
    {
        Charge(0, position);
        return value switch
        {
            // These are Python's methods there, even where there is such a key.
            Dictionary<string, object?> when name is "items" or "keys" or "values" or "get" or "pop" or "popitem" or "update" or "copy" or "clear" or "setdefault" or "fromkeys" => throw Bad(position, $"the method '{name}' as a value is not supported"),
            Dictionary<string, object?> dictionary => dictionary.TryGetValue(name, out object? found) ? found : new TemplateUndefined(name),
            TemplateNamespace space => space.Members.TryGetValue(name, out object? found) ? found : new TemplateUndefined(name),
            TemplateLoop loop => LoopMember(loop, name, position),
            TemplateUndefined undefined => throw Bad(position, $"'{undefined.What}' is undefined"),
            _ => throw Bad(position, $"the member '{name}' of {Describe(value)} is not supported"),
        };
    }

    public void SetMember(object? value, string name, object? member, int position)
    {
        if (value is not TemplateNamespace space)
        {
            throw Bad(position, $"{Describe(value)} cannot be changed, only a namespace");
        }
        space.Members[name] = member;
    }

    public object? Index(object? value, object? index, int position)
    {
        if (index is string name)
        {
            return value is Dictionary<string, object?> dictionary
                ? dictionary.TryGetValue(name, out object? found) ? found : new TemplateUndefined(name)
                : throw Bad(position, value is TemplateUndefined undefined ? $"'{undefined.What}' is undefined" : $"{Describe(value)} cannot be indexed by a string");
        }
        if (value is not (string or List<object?>))
        {
            throw Bad(position, $"{Describe(value)} cannot be indexed by a number");
        }
        long at = Number(index, position);
        List<object?> items = Items(value, position);
        at = at < 0 ? at + items.Count : at;
        return at >= 0 && at < items.Count ? items[(int)at] : new TemplateUndefined($"[{index}]");
    }

    public object? Slice(object? value, object? from, object? to, object? by, int position)
    {
        if (value is not (string or List<object?>))
        {
            throw Bad(position, $"{Describe(value)} cannot be sliced");
        }
        List<object?> items = Items(value, position);
        long step = by is null ? 1 : Number(by, position);
        if (step == 0)
        {
            throw Bad(position, "a slice has step 0");
        }
        // Python's rule: bounds count from the end if negative and are then clamped to where a walk can begin or end.
        long low = step > 0 ? 0 : -1;
        long high = step > 0 ? items.Count : items.Count - 1;
        long begin = Bound(from, step > 0 ? low : high);
        long end = Bound(to, step > 0 ? high : low);
        var slice = new List<object?>();
        for (Int128 i = begin; step > 0 ? i < end : i > end; i += step)
        {
            slice.Add(items[(int)i]);
        }
        return value is string ? string.Concat(slice) : slice;

        long Bound(object? bound, long absent)
        {
            if (bound is null)
            {
                return absent;
            }
            long number = Number(bound, position);
            return Math.Clamp(number < 0 ? number + items.Count : number, low, high);
        }
    }

    public object? Method(object? value, string name, object?[] arguments, int position) => value switch
    {
        string text => TemplateBuiltins.StringMethod(text, name, arguments, this, position),
        TemplateUndefined undefined => throw Bad(position, $"'{undefined.What}' is undefined"),
        _ => throw Bad(position, $"the method '{name}' of {Describe(value)} is not supported"),
    };

    public long Number(object? value, int position) => value switch
    {
        long number => number,
        bool flag => flag ? 1 : 0,
        _ => throw Bad(position, $"{Describe(value)} is no number and cannot be combined like one"),
    };

    public static string Describe(object? value) => value switch
    {
        null => "none",
        bool => "a truth value",
        long => "a number",
        string => "a string",
        List<object?> => "a list",
        Dictionary<string, object?> => "a dictionary",
        TemplateUndefined undefined => $"the undefined '{undefined.What}'",
        TemplateNamespace => "a namespace",
        _ => "the loop",
    };

    private List<object?> Characters(string text, int position)
    {
        // Each becomes a string of its own, many times its size in the text.
        Charge(text.Length * 32L, position);
        return [.. text.EnumerateRunes().Select(rune => rune.ToString())];
    }

    private string Join(string a, string b, int position)
    {
        Charge((long)a.Length + b.Length, position);
        return a + b;
    }

    private bool Equal(object? a, object? b, int position)
    {
        Charge(0, position);
        if (a is long or bool && b is long or bool)
        {
            return Number(a, position) == Number(b, position);
        }
        if (a is List<object?> or Dictionary<string, object?> or TemplateNamespace or TemplateLoop && a.GetType() == b?.GetType())
        {
            throw Bad(position, $"the comparison of {Describe(a)} with {Describe(b)} is not supported");
        }
        return (a, b) switch
        {
            (string x, string y) => string.Equals(x, y, StringComparison.Ordinal),
            (null, null) or (TemplateUndefined, TemplateUndefined) => true,
            _ => false,
        };
    }

    private bool Contains(object? container, object? value, int position)
    {
        switch (container)
        {
            case string text when value is string sought:
                ChargeSearch(text, sought, position);
                return text.Contains(sought, StringComparison.Ordinal);
            case List<object?> list:
                return list.Exists(item => Equal(item, value, position));
            case Dictionary<string, object?> dictionary when value is string key:
                return dictionary.ContainsKey(key);
            case TemplateUndefined:
                return false;
            default:
                throw Bad(position, $"'in' with {Describe(value)} and {Describe(container)} is not supported");
        }
    }

    private object? LoopMember(TemplateLoop loop, string name, int position) => name switch
    {
        "index" => loop.Index + 1L,
        "index0" => (long)loop.Index,
        "revindex" => (long)(loop.Items.Count - loop.Index),
        "revindex0" => loop.Items.Count - loop.Index - 1L,
        "first" => loop.Index == 0,
        "last" => loop.Index == loop.Items.Count - 1,
        "length" => (long)loop.Items.Count,
        "previtem" => loop.Index > 0 ? loop.Items[loop.Index - 1] : new TemplateUndefined("there is no previous item"),
        "nextitem" => loop.Index < loop.Items.Count - 1 ? loop.Items[loop.Index + 1] : new TemplateUndefined("there is no next item"),
        _ => throw Bad(position, $"'loop.{name}' is not supported"),
    };
}
