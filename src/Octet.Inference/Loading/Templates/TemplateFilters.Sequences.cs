using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The filters of lists and other values with items.</summary>
internal static partial class TemplateFilters
{
    private static object? First(TemplateRun run, IEnumerable<object?> items)
    {
        foreach (object? item in items)
        {
            return item;
        }
        return new TemplateUndefined("there is no first or last item of nothing");
    }

    // Null: it cannot be read backwards.
    private static IEnumerable<object?>? Reversed(TemplateRun run, object? value) => value switch
    {
        TemplateText or List<object?> or TemplateTuple or TemplateDictionary or TemplateView or TemplateRange => run.Items(value).AsEnumerable().Reverse(),
        TemplateUndefined => [],
        _ => null,
    };

    private static object? Reverse(TemplateRun run, TemplateArguments arguments)
    {
        object? value = arguments.Bind(run, "reverse", 1, "value")[0];
        if (value is TemplateText)
        {
            return TemplateMembers.Slice(run, value, null, null, BigInteger.MinusOne);
        }
        return Reversed(run, value) is { } items ? new TemplateIterator(items) : run.Items(value).AsEnumerable().Reverse().ToList();
    }

    private static object? Items(TemplateRun run, TemplateArguments arguments)
    {
        object? value = arguments.Bind(run, "items", 1, "value")[0];
        return new TemplateIterator(Lazy(() => value switch
        {
            TemplateUndefined => [],
            TemplateDictionary dictionary => run.Iterate(new TemplateView("items", dictionary)),
            _ => throw run.Error($"'items' takes a dictionary, not {TemplateRun.Describe(value)}"),
        }));
    }

    private static object? Batch(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "batch", 2, "value", "linecount", "fill_with");
        return new TemplateIterator(Batches(run, bound));
    }

    private static IEnumerable<object?> Batches(TemplateRun run, BoundArguments bound)
    {
        var batch = new List<object?>();
        foreach (object? item in run.Iterate(bound[0]))
        {
            if (PythonEquality.Equal(run, (BigInteger)batch.Count, bound[1]))
            {
                yield return batch;
                batch = [];
            }
            batch.Add(item);
        }
        if (batch.Count > 0)
        {
            int missing = bound[2] is null ? 0 : Math.Max(0, bound.Integer(1, 0) - batch.Count);
            run.Charge(8L * missing);
            batch.AddRange(Enumerable.Repeat(bound[2], missing));
            yield return batch;
        }
    }

    private static object? Slice(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "slice", 2, "value", "slices", "fill_with");
        return new TemplateIterator(Slices(run, bound));
    }

    private static IEnumerable<object?> Slices(TemplateRun run, BoundArguments bound)
    {
        List<object?> items = run.Items(bound[0]);
        int slices = bound.Integer(1, 0);
        if (slices == 0)
        {
            throw run.Error("'slice' is asked for 0 slices");
        }
        int begin = 0;
        for (int i = 0; i < slices; i++)
        {
            run.Charge(64);
            bool hasExtra = i < items.Count % slices;
            int end = begin + (items.Count / slices) + (hasExtra ? 1 : 0);
            List<object?> slice = items[begin..end];
            if (bound[2] is { } fill && !hasExtra)
            {
                slice.Add(fill);
            }
            yield return slice;
            begin = end;
        }
    }

    private static object? Map(TemplateRun run, TemplateArguments arguments)
    {
        object? value = arguments.Positional[0];
        TemplateArguments rest = arguments.Skip(1);
        return new TemplateIterator(Lazy(() => !run.Truth(value) ? [] : run.Iterate(value).Select(Mapping(run, rest))));
    }

    private static Func<object?, object?> Mapping(TemplateRun run, TemplateArguments arguments)
    {
        if (arguments.Positional.Count == 0 && arguments.Named.Exists(argument => argument.Key == "attribute"))
        {
            BoundArguments bound = arguments.Bind(run, "map", 0, "attribute", "default");
            return Getter(run, bound[0], bound[1]);
        }
        if (arguments.Positional is not [TemplateText name, ..])
        {
            throw run.Error("'map' takes the name of a filter, or an attribute");
        }
        Func<TemplateRun, TemplateArguments, object?> filter = Find(name.Value) ?? throw run.Error($"the filter '{name}' is not supported");
        TemplateArguments rest = arguments.Skip(1);
        return item => filter(run, rest.After(item));
    }

    private static object? Select(TemplateRun run, TemplateArguments arguments, string filter, bool selects, bool byAttribute)
    {
        object? value = arguments.Positional[0];
        TemplateArguments rest = arguments.Skip(1);
        return new TemplateIterator(Lazy(() =>
        {
            if (!run.Truth(value))
            {
                return [];
            }
            if (byAttribute && rest.Positional.Count == 0)
            {
                throw run.Error($"'{filter}' takes the name of an attribute");
            }
            Func<object?, object?> get = byAttribute ? Getter(run, rest.Positional[0]) : item => item;
            int skipped = byAttribute ? 1 : 0;
            Func<object?, bool> test = run.Truth;
            if (rest.Positional.Count > skipped)
            {
                TemplateText name = rest.Positional[skipped] as TemplateText ?? throw run.Error($"'{filter}' takes the name of a test, not {TemplateRun.Describe(rest.Positional[skipped])}");
                Func<TemplateRun, TemplateArguments, bool> named = TemplateTests.Find(name.Value) ?? throw run.Error($"the test '{name}' is not supported");
                TemplateArguments more = rest.Skip(skipped + 1);
                test = item => named(run, more.After(item));
            }
            return run.Iterate(value).Where(item => test(get(item)) == selects);
        }));
    }

    private static object? Sort(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "sort", 1, "value", "reverse", "case_sensitive", "attribute");
        // Several attributes, with commas between: one after the other.
        List<object?> attributes = bound[3] is TemplateText names ? [.. names.Value.Split(',').Select(TemplateText.Of)] : [bound[3]];
        List<Func<object?, object?>> getters = attributes.ConvertAll(attribute => Getter(run, attribute, null, FoldsCase(bound, 2)));
        return TemplateSorting.Sort(run, run.Items(bound[0]), item => getters.ConvertAll(get => get(item)), bound.Truth(1, absent: false));
    }

    private static object? SortDictionary(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "dictsort", 1, "value", "case_sensitive", "by", "reverse");
        bool byKey = bound.Text(2, "key").Value switch { "key" => true, "value" => false, var by => throw run.Error($"'dictsort' sorts by key or value, not by '{by}'") };
        if (bound[0] is not TemplateDictionary dictionary)
        {
            throw run.Error(bound[0] is TemplateUndefined undefined ? undefined.Message : $"'dictsort' takes a dictionary, not {TemplateRun.Describe(bound[0])}");
        }
        bool folds = FoldsCase(bound, 1);
        return TemplateSorting.Sort(run, dictionary.Entries, entry => Fold(run, byKey ? entry.Key : entry.Value, folds), bound.Truth(3, absent: false))
            .ConvertAll<object?>(entry => new TemplateTuple([entry.Key, entry.Value]));
    }

    private static object? Unique(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "unique", 1, "value", "case_sensitive", "attribute");
        return new TemplateIterator(Lazy(() =>
        {
            Func<object?, object?> get = Getter(run, bound[2], null, FoldsCase(bound, 1));
            var seen = new TemplateDictionary();
            return run.Iterate(bound[0]).Where(item =>
            {
                object? key = get(item);
                PythonEquality.CheckHashable(run, key);
                bool isNew = !seen.TryGet(key, out _);
                seen.Set(key, null);
                return isNew;
            });
        }));
    }

    private static object? Extreme(TemplateRun run, TemplateArguments arguments, string name)
    {
        BoundArguments bound = arguments.Bind(run, name, 1, "value", "case_sensitive", "attribute");
        Func<object?, object?> get = Getter(run, bound[2], null, FoldsCase(bound, 1));
        List<object?> items = run.Items(bound[0]);
        if (items.Count == 0)
        {
            return new TemplateUndefined($"there is no {name} of nothing");
        }
        object? best = items[0];
        object? bestKey = get(best);
        foreach (object? item in items.Skip(1))
        {
            object? key = get(item);
            if (name == "max" ? PythonEquality.Holds(run, ">", key, bestKey) : PythonEquality.Holds(run, "<", key, bestKey))
            {
                (best, bestKey) = (item, key);
            }
        }
        return best;
    }

    private static object? GroupBy(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "groupby", 2, "value", "attribute", "default", "case_sensitive");
        bool folds = FoldsCase(bound, 3);
        Func<object?, object?> get = Getter(run, bound[1], bound[2], folds);
        Func<object?, object?> shown = folds ? Getter(run, bound[1], bound[2]) : get;
        var groups = new List<object?>();
        List<object?> group = [];
        object? groupKey = null;
        foreach (object? item in TemplateSorting.Sort(run, run.Items(bound[0]), get, reverse: false))
        {
            object? key = get(item);
            if (group.Count == 0 || !PythonEquality.Equal(run, groupKey, key))
            {
                group = [];
                groupKey = key;
                groups.Add(new TemplateTuple([shown(item), group], "grouper", "list"));
            }
            group.Add(item);
        }
        return groups;
    }

    private static object? Sum(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "sum", 1, "iterable", "attribute", "start");
        object? sum = bound.Given[2] ? bound[2] : BigInteger.Zero;
        Func<object?, object?> get = Getter(run, bound[1]);
        if (sum is TemplateText)
        {
            throw run.Error("'sum' does not join strings, use 'join'");
        }
        foreach (object? item in run.Iterate(bound[0]))
        {
            sum = TemplateOperations.Binary(run, "+", sum, get(item));
        }
        return sum;
    }

    private static bool FoldsCase(BoundArguments bound, int caseSensitive) => !bound.Truth(caseSensitive, absent: false);

    private static object? Fold(TemplateRun run, object? value, bool folds) => folds && value is TemplateText text ? PythonCase.Lower(run, text) : value;

    // What an attribute means: a path like "a.0.b", a number, or the item itself.
    private static Func<object?, object?> Getter(TemplateRun run, object? attribute, object? absent = null, bool folds = false)
    {
        List<object?> path = attribute switch
        {
            null => [],
            TemplateText text => [.. text.Value.Split('.').Select(part => part.Length > 0 && part.All(char.IsAsciiDigit) && PythonNumbers.ParseInteger(part, 10) is { } index ? (object?)index : TemplateText.Of(part))],
            _ => [attribute],
        };
        return item =>
        {
            foreach (object? part in path)
            {
                item = TemplateMembers.Item(run, item, part);
                item = item is TemplateUndefined && absent is not null ? absent : item;
            }
            return Fold(run, item, folds);
        };
    }

    // Filters that return an iterator look at their value and arguments when it is first read.
    private static IEnumerable<object?> Lazy(Func<IEnumerable<object?>> items)
    {
        foreach (object? item in items())
        {
            yield return item;
        }
    }
}
