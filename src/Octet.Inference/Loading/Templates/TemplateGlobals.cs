using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The functions a template knows, those of transformers included.</summary>
internal static class TemplateGlobals
{
    private const int LongestRange = 100_000;

    private static readonly TemplateFunction[] Functions =
    [
        new("range", Range),
        new("dict", (run, arguments) => Dictionary(run, "dict", arguments)),
        new("namespace", (run, arguments) => new TemplateNamespace(Dictionary(run, "namespace", arguments))),
        new("cycler", (run, arguments) => arguments.Positional.Count > 0 && arguments.Named.Count == 0 ? new TemplateCycler(arguments.Positional) : throw run.Error("'cycler' is given no items")),
        new("joiner", Joiner),
        new("lipsum", (run, _) => throw run.Error("the function 'lipsum' is not supported: its text is random")),
        new("raise_exception", (run, arguments) => throw run.Error($"the template refuses these messages: {run.Text(arguments.Bind(run, "raise_exception", 1, "message")[0])}")),
        new("strftime_now", (run, arguments) => TemplateTime.Format(run, arguments.Bind(run, "strftime_now", 1, "format").Text(0))),
    ];

    public static void Define(TemplateScope scope)
    {
        foreach (TemplateFunction function in Functions)
        {
            scope.Set(function.Name, function);
        }
        scope.Set("self", new TemplateBlocks());
    }

    public static TemplateDictionary Copy(TemplateDictionary dictionary)
    {
        var copy = new TemplateDictionary();
        dictionary.Entries.ForEach(entry => copy.Set(entry.Key, entry.Value));
        return copy;
    }

    private static object? Range(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.BindPositional(run, "range", 1, 3);
        BigInteger[] numbers = [.. bound.Values.Take(arguments.Positional.Count).Select((value, i) => PythonNumbers.AsInteger(value) ?? throw bound.Wrong(i, "an integer"))];
        BigInteger step = numbers.Length == 3 ? numbers[2] : 1;
        if (step.IsZero)
        {
            throw run.Error("a range has step 0");
        }
        var range = numbers.Length == 1 ? new TemplateRange(0, numbers[0], step) : new TemplateRange(numbers[0], numbers[1], step);
        return range.Count <= LongestRange ? range : throw run.Error($"a range has more than {LongestRange} items");
    }

    // From a dictionary or a list of pairs, and from named arguments.
    private static TemplateDictionary Dictionary(TemplateRun run, string function, TemplateArguments arguments)
    {
        var dictionary = new TemplateDictionary();
        if (arguments.Positional.Count > 1)
        {
            throw run.Error($"'{function}' takes at most 1 value, here are {arguments.Positional.Count}");
        }
        if (arguments.Positional is [TemplateDictionary given])
        {
            dictionary = Copy(given);
        }
        else if (arguments.Positional is [var pairs])
        {
            foreach (object? pair in run.Iterate(pairs))
            {
                if (run.Items(pair) is not [var key, var value])
                {
                    throw run.Error($"'{function}' takes pairs");
                }
                PythonEquality.CheckHashable(run, key);
                dictionary.Set(key, value);
            }
        }
        run.Charge(dictionary.Count);
        arguments.Named.ForEach(argument => dictionary.Set(argument.Key, argument.Value));
        return dictionary;
    }

    private static object? Joiner(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "joiner", 0, "sep");
        object? separator = bound.Given[0] ? bound[0] : TemplateText.Of(", ");
        bool used = false;
        return new TemplateFunction("joiner", (_, _) =>
        {
            object? now = used ? separator : TemplateText.Empty;
            used = true;
            return now;
        });
    }
}
