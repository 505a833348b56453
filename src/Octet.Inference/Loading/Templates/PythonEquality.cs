using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>When two values are equal, which comes first, and what is in what.</summary>
internal static class PythonEquality
{
    private const int DeepestValue = 200;

    /// <summary>Equality of the keys of a dictionary: of hashable values.</summary>
    public static IEqualityComparer<object> Comparer { get; } = new KeyComparer();

    public static bool Equal(TemplateRun run, object? a, object? b, int depth = 0)
    {
        run.Charge(a is TemplateText text ? text.Units / 8 : 0);
        CheckDepth(run, depth);
        return (a, b) switch
        {
            (TemplateText x, TemplateText y) => x.Equals(y),
            _ when PythonNumbers.IsNumber(a) && PythonNumbers.IsNumber(b) => CompareNumbers(a, b) == 0,
            (List<object?> x, List<object?> y) => ItemsEqual(run, x, y, depth),
            (TemplateTuple x, TemplateTuple y) => ItemsEqual(run, x.Items, y.Items, depth),
            (TemplateDictionary x, TemplateDictionary y) => x.Count == y.Count
                && x.Entries.TrueForAll(entry => y.TryGet(entry.Key, out object? value) && Equal(run, entry.Value, value, depth + 1)),
            (TemplateRange x, TemplateRange y) => x.Count == y.Count && (x.Count.IsZero || (x.Start == y.Start && (x.Count.IsOne || x.Step == y.Step))),
            (TemplateUndefined, TemplateUndefined) => true,
            (TemplateView, TemplateView) => throw run.Error("the comparison of views of dictionaries is not supported"),
            (TemplateFunction, TemplateFunction) => throw run.Error("the comparison of functions is not supported"),
            _ => ReferenceEquals(a, b),
        };
    }

    /// <summary>Whether <paramref name="operation"/>, of <c>&lt; &lt;= &gt; &gt;=</c>, holds.</summary>
    public static bool Holds(TemplateRun run, string operation, object? a, object? b)
    {
        // A NaN is neither before nor behind nor equal.
        return TryOrder(run, a, b, 0, out int order) && operation switch
        {
            "<" => order < 0,
            "<=" => order <= 0,
            ">" => order > 0,
            _ => order >= 0,
        };
    }

    /// <summary>Python's <c>value in container</c>.</summary>
    public static bool Contains(TemplateRun run, object? container, object? value)
    {
        switch (container)
        {
            case TemplateText text:
                if (value is not TemplateText sought)
                {
                    throw run.Error(value is TemplateUndefined undefined ? undefined.Message : $"'in' a string takes a string, not {TemplateRun.Describe(value)}");
                }
                run.ChargeSearch(text, sought);
                return text.Value.Contains(sought.Value, StringComparison.Ordinal);
            case TemplateDictionary dictionary:
                CheckHashable(run, value);
                return dictionary.TryGet(value, out _);
            case TemplateView { Kind: "keys" } keys:
                CheckHashable(run, value);
                return keys.Dictionary.TryGet(value, out _);
            default:
                if (!TemplateRun.IsIterable(container))
                {
                    throw run.Error($"'in' takes something with items, not {TemplateRun.Describe(container)}");
                }
                return run.Iterate(container).Any(item => Equal(run, item, value));
        }
    }

    public static void CheckHashable(TemplateRun run, object? value)
    {
        if (!IsHashable(run, value))
        {
            throw run.Error($"{TemplateRun.Describe(value)} cannot be the key of a dictionary");
        }
    }

    public static bool IsHashable(TemplateRun run, object? value, int depth = 0)
    {
        run.Charge(1);
        CheckDepth(run, depth);
        return value is TemplateTuple tuple
            ? tuple.Items.TrueForAll(item => IsHashable(run, item, depth + 1))
            : value is not (List<object?> or TemplateDictionary or TemplateView);
    }

    public static void CheckDepth(TemplateRun run, int depth)
    {
        if (depth > DeepestValue)
        {
            throw run.Error($"more than {DeepestValue} levels of lists");
        }
    }

    /// <summary>By code points: UTF-16 has those above U+FFFF before some below.</summary>
    public static int CompareText(string a, string b)
    {
        int common = Math.Min(a.Length, b.Length);
        int at = a.AsSpan(0, common).CommonPrefixLength(b);
        if (at == common)
        {
            return a.Length.CompareTo(b.Length);
        }
        bool pairA = char.IsSurrogate(a[at]);
        bool pairB = char.IsSurrogate(b[at]);
        return pairA == pairB ? a[at].CompareTo(b[at]) : pairA ? 1 : -1;
    }

    private static bool TryOrder(TemplateRun run, object? a, object? b, int depth, out int order)
    {
        run.Charge(a is TemplateText text ? text.Units / 8 : 0);
        CheckDepth(run, depth);
        order = 0;
        switch (a, b)
        {
            case (TemplateText x, TemplateText y):
                order = CompareText(x.Value, y.Value);
                return true;
            case (List<object?> x, List<object?> y):
                return TryOrderItems(run, x, y, depth, out order);
            case (TemplateTuple x, TemplateTuple y):
                return TryOrderItems(run, x.Items, y.Items, depth, out order);
            case (TemplateUndefined undefined, _):
                throw run.Error(undefined);
            case (_, TemplateUndefined undefined):
                throw run.Error(undefined);
        }
        if (!PythonNumbers.IsNumber(a) || !PythonNumbers.IsNumber(b))
        {
            throw run.Error($"{TemplateRun.Describe(a)} and {TemplateRun.Describe(b)} have no order");
        }
        int? compared = CompareNumbers(a, b);
        order = compared ?? 0;
        return compared is not null;
    }

    private static bool TryOrderItems(TemplateRun run, List<object?> a, List<object?> b, int depth, out int order)
    {
        for (int i = 0; i < Math.Min(a.Count, b.Count); i++)
        {
            if (!Equal(run, a[i], b[i], depth + 1))
            {
                return TryOrder(run, a[i], b[i], depth + 1, out order);
            }
        }
        order = a.Count.CompareTo(b.Count);
        return true;
    }

    private static bool ItemsEqual(TemplateRun run, List<object?> a, List<object?> b, int depth)
    {
        for (int i = 0; a.Count == b.Count && i < a.Count; i++)
        {
            if (!Equal(run, a[i], b[i], depth + 1))
            {
                return false;
            }
        }
        return a.Count == b.Count;
    }

    // Null: one is no number.
    private static int? CompareNumbers(object? a, object? b)
    {
        if (a is double x && b is double y)
        {
            return double.IsNaN(x) || double.IsNaN(y) ? null : x.CompareTo(y);
        }
        if (a is double first)
        {
            return double.IsNaN(first) ? null : CompareMixed(first, PythonNumbers.AsInteger(b)!.Value);
        }
        if (b is double second)
        {
            return double.IsNaN(second) ? null : -CompareMixed(second, PythonNumbers.AsInteger(a)!.Value);
        }
        return PythonNumbers.AsInteger(a)!.Value.CompareTo(PythonNumbers.AsInteger(b)!.Value);
    }

    private static int CompareMixed(double a, BigInteger b)
    {
        if (double.IsInfinity(a))
        {
            return a > 0 ? 1 : -1;
        }
        int order = new BigInteger(Math.Floor(a)).CompareTo(b);
        return order == 0 && a > Math.Floor(a) ? 1 : order;
    }

    private sealed class KeyComparer : IEqualityComparer<object>
    {
        public new bool Equals(object? a, object? b) => (a, b) switch
        {
            (TemplateText x, TemplateText y) => x.Equals(y),
            _ when PythonNumbers.IsNumber(a) && PythonNumbers.IsNumber(b) => CompareNumbers(a, b) == 0,
            (TemplateTuple x, TemplateTuple y) => x.Items.Count == y.Items.Count && x.Items.Zip(y.Items).All(pair => pair.First is null ? pair.Second is null : pair.Second is not null && Equals(pair.First, pair.Second)),
            (TemplateUndefined, TemplateUndefined) => true,
            _ => ReferenceEquals(a, b),
        };

        public int GetHashCode(object key) => key switch
        {
            TemplateText text => text.GetHashCode(),
            double number => double.IsFinite(number) && number == Math.Floor(number) ? new BigInteger(number).GetHashCode() : number.GetHashCode(),
            BigInteger or bool => PythonNumbers.AsInteger(key)!.Value.GetHashCode(),
            TemplateTuple tuple => tuple.Items.Aggregate(tuple.Items.Count, (hash, item) => HashCode.Combine(hash, item is null ? 0 : GetHashCode(item))),
            TemplateUndefined => 1,
            _ => System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(key),
        };
    }
}
