using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The members and items of values: <c>a.b</c>, <c>a['b']</c>, <c>a[1:2]</c>.</summary>
internal static class TemplateMembers
{
    private static readonly string[] ListMutators = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
    private static readonly string[] DictionaryMutators = ["clear", "pop", "popitem", "setdefault", "update"];

    /// <summary><c>value.name</c>: an attribute in Python's sense, else an item.</summary>
    public static object? Attribute(TemplateRun run, object? value, TemplateText name)
    {
        run.Charge(1);
        if (TryAttribute(run, value, name.Value, out object? member) || TryItem(run, value, name, out member))
        {
            return member;
        }
        return Missing(value, name);
    }

    /// <summary><c>value[key]</c>: an item, else an attribute.</summary>
    public static object? Item(TemplateRun run, object? value, object? key)
    {
        run.Charge(1);
        if (TryItem(run, value, key, out object? item) || (key is TemplateText name && TryAttribute(run, value, name.Value, out item)))
        {
            return item;
        }
        return Missing(value, key);
    }

    /// <summary><c>value[from:to:by]</c>.</summary>
    public static object? Slice(TemplateRun run, object? value, object? from, object? to, object? by)
    {
        if (value is TemplateUndefined undefined)
        {
            throw run.Error(undefined);
        }
        int count = value switch
        {
            TemplateText characters => characters.Length,
            List<object?> list => list.Count,
            TemplateTuple tuple => tuple.Items.Count,
            TemplateRange range => (int)range.Count,
            _ => throw run.Error($"{TemplateRun.Describe(value)} cannot be sliced"),
        };
        BigInteger step = by is null ? 1 : Bound(by);
        if (step.IsZero)
        {
            throw run.Error("a slice has step 0");
        }
        // Python's rule: bounds count from the end if negative and are then clamped to where a walk can begin or end.
        BigInteger low = step.Sign > 0 ? 0 : -1;
        BigInteger high = step.Sign > 0 ? count : count - 1;
        int begin = Clamp(from, step.Sign > 0 ? low : high);
        int end = Clamp(to, step.Sign > 0 ? high : low);
        if (value is TemplateRange whole)
        {
            return new TemplateRange(whole.Start + (begin * whole.Step), whole.Start + (end * whole.Step), whole.Step * step);
        }
        int stride = (int)BigInteger.Clamp(step, -count - 1, count + 1);
        if (value is TemplateText text)
        {
            run.Charge(text.Units);
            return Slice(text, begin, end, stride);
        }
        List<object?> items = value as List<object?> ?? ((TemplateTuple)value!).Items;
        var slice = new List<object?>();
        for (int i = begin; stride > 0 ? i < end : i > end; i += stride)
        {
            slice.Add(items[i]);
        }
        run.Charge(8L * slice.Count);
        return value is TemplateTuple ? new TemplateTuple(slice) : slice;

        BigInteger Bound(object? bound) => PythonNumbers.AsInteger(bound) ?? throw run.Error($"the bound of a slice is {TemplateRun.Describe(bound)}, expected an integer or none");

        int Clamp(object? bound, BigInteger absent)
        {
            if (bound is null)
            {
                return (int)absent;
            }
            BigInteger number = Bound(bound);
            return (int)BigInteger.Clamp(number.Sign < 0 ? number + count : number, low, high);
        }
    }

    /// <summary>What Python's <c>getattr</c> finds, less what the sandbox hides.</summary>
    public static bool TryAttribute(TemplateRun run, object? value, string name, out object? member)
    {
        member = null;
        if (value is TemplateUndefined undefined)
        {
            throw run.Error(undefined);
        }
        if (name.StartsWith('_'))
        {
            return false;
        }
        switch (value)
        {
            case TemplateText text:
                return PythonStrings.TryMember(run, text, name, out member);
            case List<object?> list:
                return TryListMember(list, name, out member);
            case TemplateTuple tuple:
                int at = Array.IndexOf(tuple.Names, name);
                member = at >= 0 ? tuple.Items[at] : SequenceMember(tuple.Items, name);
                return at >= 0 || member is not null;
            case TemplateDictionary dictionary:
                return TryDictionaryMember(dictionary, name, out member);
            case TemplateNamespace space:
                return space.Members.TryGet(name, out member);
            case TemplateLoop loop:
                return loop.TryMember(run, name, out member);
            case TemplateRange range:
                member = name switch
                {
                    "start" => range.Start,
                    "stop" => range.Stop,
                    "step" => range.Step,
                    "count" or "index" => throw NotSupported(run, value, name),
                    _ => null,
                };
                return member is not null;
            case TemplateMacro macro:
                member = name switch
                {
                    "name" => macro.Definition.Name is { } own ? TemplateText.Of(own) : null,
                    "arguments" => new TemplateTuple([.. macro.Definition.Parameters.Select(TemplateText.Of)]),
                    "catch_kwargs" => macro.Definition.TakesNamed,
                    "catch_varargs" => macro.Definition.TakesMore,
                    "caller" => macro.Definition.UsesCaller,
                    "explicit_caller" => macro.Definition.Parameters.Contains("caller"),
                    _ => macro,
                };
                return member != macro;
            case TemplateCycler cycler:
                member = name switch
                {
                    "current" => cycler.Current,
                    "items" => new TemplateTuple(cycler.Items),
                    "pos" => (BigInteger)cycler.Position,
                    "next" => new TemplateFunction("next", (_, _) => cycler.Next()),
                    "reset" => new TemplateFunction("reset", (_, _) =>
                    {
                        cycler.Reset();
                        return null;
                    }),
                    _ => cycler,
                };
                return member != cycler;
            case BigInteger or bool or double when name is "real" or "numerator" && (name == "real" || value is not double):
                member = value is bool ? PythonNumbers.AsInteger(value) : value;
                return true;
            case double number when name == "is_integer":
                member = new TemplateFunction(name, (inner, arguments) => double.IsInteger(number));
                return true;
            case BigInteger or bool or double when name is "as_integer_ratio" or "bit_count" or "bit_length" or "conjugate" or "denominator" or "from_bytes" or "fromhex" or "hex" or "imag" or "to_bytes":
            case TemplateBlocks:
            case TemplateView when name is "isdisjoint" or "mapping":
            case TemplateFunction when name is "fromkeys" or "mro":
            case TemplateIterator when name is "close" or "gi_running" or "gi_suspended" or "gi_yieldfrom" or "send" or "throw":
                throw NotSupported(run, value, name);
            default:
                return false;
        }
    }

    private static ModelFormatException NotSupported(TemplateRun run, object? value, string name) =>
        run.Error($"the member '{name}' of {TemplateRun.Describe(value)} is not supported");

    private static bool TryItem(TemplateRun run, object? value, object? key, out object? item)
    {
        item = null;
        switch (value)
        {
            case TemplateUndefined undefined:
                throw run.Error(undefined);
            case TemplateDictionary dictionary:
                return PythonEquality.IsHashable(run, key) && dictionary.TryGet(key, out item);
            case TemplateText text when Index(key, text.Length) is { } at:
                run.Charge(text.Length == text.Units ? 0 : text.Units);
                int unit = text.UnitOf(at);
                item = text.Slice(unit, text.Next(unit));
                return true;
            case List<object?> list when Index(key, list.Count) is { } at:
                item = list[at];
                return true;
            case TemplateTuple tuple when Index(key, tuple.Items.Count) is { } at:
                item = tuple.Items[at];
                return true;
            case TemplateRange range when Index(key, (int)range.Count) is { } at:
                item = range.At(at);
                return true;
            default:
                return false;
        }
    }

    private static int? Index(object? key, int count)
    {
        if (PythonNumbers.AsInteger(key) is not { } index)
        {
            return null;
        }
        index = index.Sign < 0 ? index + count : index;
        return index.Sign >= 0 && index < count ? (int)index : null;
    }

    private static TemplateUndefined Missing(object? value, object? key) => new(
        key is TemplateText name ? $"{TemplateRun.Describe(value)} has no '{name}'"
        : PythonNumbers.AsInteger(key) is { } index ? $"{TemplateRun.Describe(value)} has no item {index}"
        : $"{TemplateRun.Describe(value)} has no such item");

    private static TemplateText Slice(TemplateText text, int begin, int end, int stride)
    {
        if (stride == 1)
        {
            return text.Slice(text.UnitOf(begin), text.UnitOf(Math.Max(begin, end)));
        }
        TemplateText[]? characters = text.Length == text.Units ? null : [.. text.Characters()];
        var sliced = new TemplateTextBuilder();
        for (int i = begin; stride > 0 ? i < end : i > end; i += stride)
        {
            _ = characters is null ? sliced.Append(text, i, i + 1) : sliced.Append(characters[i]);
        }
        return sliced.Build(text.IsMarkup);
    }

    private static bool TryListMember(List<object?> list, string name, out object? member)
    {
        member = ListMutators.Contains(name) ? Changing("list", name)
            : name == "copy" ? new TemplateFunction(name, (run, arguments) => Bare(run, arguments, name, list.ToList()))
            : SequenceMember(list, name);
        return member is not null;
    }

    private static TemplateFunction? SequenceMember(List<object?> items, string name) => name switch
    {
        "count" => new TemplateFunction(name, (run, arguments) =>
        {
            object? sought = arguments.BindPositional(run, name, 1, 1)[0];
            return (BigInteger)items.Count(item => PythonEquality.Equal(run, item, sought));
        }),
        "index" => new TemplateFunction(name, (run, arguments) =>
        {
            BoundArguments bound = arguments.BindPositional(run, name, 1, 3);
            object? sought = bound[0];
            int from = bound.Integer(1, 0) is var first && first < 0 ? Math.Max(0, first + items.Count) : first;
            int to = bound.Integer(2, items.Count) is var last && last < 0 ? last + items.Count : Math.Min(last, items.Count);
            int at = from >= to ? -1 : items.FindIndex(from, to - from, item => PythonEquality.Equal(run, item, sought));
            return at >= 0 ? (BigInteger)at : throw run.Error("'index' does not find its value");
        }),
        _ => null,
    };

    private static bool TryDictionaryMember(TemplateDictionary dictionary, string name, out object? member)
    {
        member = name switch
        {
            "keys" or "values" or "items" => new TemplateFunction(name, (run, arguments) => Bare(run, arguments, name, new TemplateView(name, dictionary))),
            "copy" => new TemplateFunction(name, (run, arguments) => Bare(run, arguments, name, TemplateGlobals.Copy(dictionary))),
            "get" => new TemplateFunction(name, (run, arguments) =>
            {
                BoundArguments bound = arguments.BindPositional(run, name, 1, 2);
                PythonEquality.CheckHashable(run, bound[0]);
                return dictionary.TryGet(bound[0], out object? found) ? found : bound[1];
            }),
            "fromkeys" => new TemplateFunction(name, (run, arguments) =>
            {
                BoundArguments bound = arguments.BindPositional(run, name, 1, 2);
                var made = new TemplateDictionary();
                foreach (object? key in run.Iterate(bound[0]))
                {
                    PythonEquality.CheckHashable(run, key);
                    made.Set(key, bound[1]);
                }
                return made;
            }),
            _ => DictionaryMutators.Contains(name) ? Changing("dictionary", name) : null,
        };
        return member is not null;
    }

    // The sandbox hides what would change a value: it is undefined, and calling it an error.
    private static TemplateUndefined Changing(string kind, string name) => new($"the method '{name}' is not allowed, it would change a {kind}");

    private static object? Bare(TemplateRun run, TemplateArguments arguments, string name, object? result)
    {
        _ = arguments.BindPositional(run, name, 0, 0);
        return result;
    }
}
