using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The tests: <c>value is name(arguments)</c>.</summary>
internal static class TemplateTests
{
    private static readonly Dictionary<string, Func<TemplateRun, TemplateArguments, bool>> All = new()
    {
        ["boolean"] = (run, arguments) => Of(run, arguments, "boolean") is bool,
        ["callable"] = (run, arguments) => Of(run, arguments, "callable") is ITemplateCallable or TemplateUndefined,
        ["defined"] = (run, arguments) => Of(run, arguments, "defined") is not TemplateUndefined,
        ["divisibleby"] = (run, arguments) =>
        {
            BoundArguments bound = arguments.Bind(run, "divisibleby", 2, "value", "num");
            return PythonEquality.Equal(run, TemplateOperations.Binary(run, "%", bound[0], bound[1]), BigInteger.Zero);
        },
        ["escaped"] = (run, arguments) => Of(run, arguments, "escaped") is TemplateText { IsMarkup: true },
        ["even"] = (run, arguments) => Remainder(run, arguments, "even", BigInteger.Zero),
        ["false"] = (run, arguments) => Of(run, arguments, "false") is false,
        ["filter"] = (run, arguments) => arguments.Bind(run, "filter", 1, "value")[0] is var value && PythonEquality.IsHashable(run, value)
            ? value is TemplateText name && (TemplateFilters.Find(name.Value) is not null || name.Value == "random")
            : throw run.Error("the name of a filter is no string"),
        ["float"] = (run, arguments) => Of(run, arguments, "float") is double,
        ["in"] = (run, arguments) =>
        {
            BoundArguments bound = arguments.Bind(run, "in", 2, "value", "seq");
            return PythonEquality.Contains(run, bound[1], bound[0]);
        },
        ["integer"] = (run, arguments) => Of(run, arguments, "integer") is BigInteger,
        ["iterable"] = (run, arguments) => TemplateRun.IsIterable(Of(run, arguments, "iterable")),
        ["lower"] = (run, arguments) => IsCase(run, arguments, "lower"),
        ["mapping"] = (run, arguments) => Of(run, arguments, "mapping") is TemplateDictionary,
        ["none"] = (run, arguments) => Of(run, arguments, "none") is null,
        ["number"] = (run, arguments) => PythonNumbers.IsNumber(Of(run, arguments, "number")),
        ["odd"] = (run, arguments) => Remainder(run, arguments, "odd", BigInteger.One),
        ["sameas"] = (run, arguments) =>
        {
            BoundArguments bound = arguments.Bind(run, "sameas", 2, "value", "other");
            return IsSame(run, bound[0], bound[1]);
        },
        // Jinja counts what has a length and items by number or key, and that includes the undefined.
        ["sequence"] = (run, arguments) => Of(run, arguments, "sequence") is TemplateText or List<object?> or TemplateTuple or TemplateDictionary or TemplateRange or TemplateUndefined,
        ["string"] = (run, arguments) => Of(run, arguments, "string") is TemplateText,
        ["test"] = (run, arguments) => arguments.Bind(run, "test", 1, "value")[0] is var value && PythonEquality.IsHashable(run, value)
            ? value is TemplateText name && Find(name.Value) is not null
            : throw run.Error("the name of a test is no string"),
        ["true"] = (run, arguments) => Of(run, arguments, "true") is true,
        ["undefined"] = (run, arguments) => Of(run, arguments, "undefined") is TemplateUndefined,
        ["upper"] = (run, arguments) => IsCase(run, arguments, "upper"),
    };

    private static readonly Dictionary<string, string> Comparisons = new()
    {
        ["=="] = "==",
        ["eq"] = "==",
        ["equalto"] = "==",
        ["!="] = "!=",
        ["ne"] = "!=",
        [">"] = ">",
        ["gt"] = ">",
        ["greaterthan"] = ">",
        [">="] = ">=",
        ["ge"] = ">=",
        ["<"] = "<",
        ["lt"] = "<",
        ["lessthan"] = "<",
        ["<="] = "<=",
        ["le"] = "<=",
    };

    /// <summary>The test of a name, or null; its first argument is the value.</summary>
    public static Func<TemplateRun, TemplateArguments, bool>? Find(string name)
    {
        if (Comparisons.TryGetValue(name, out string? operation))
        {
            return (run, arguments) =>
            {
                BoundArguments bound = arguments.BindPositional(run, name, 2, 2);
                return TemplateOperations.Compare(run, operation, bound[0], bound[1]);
            };
        }
        return All.GetValueOrDefault(name);
    }

    private static object? Of(TemplateRun run, TemplateArguments arguments, string name) => arguments.Bind(run, name, 1, "value")[0];

    private static bool Remainder(TemplateRun run, TemplateArguments arguments, string name, BigInteger expected) =>
        PythonEquality.Equal(run, TemplateOperations.Binary(run, "%", Of(run, arguments, name), (BigInteger)2), expected);

    private static bool IsCase(TemplateRun run, TemplateArguments arguments, string name)
    {
        TemplateText text = run.Text(Of(run, arguments, name));
        _ = PythonStrings.TryMember(run, text, "is" + name, out object? method);
        return run.Call(method, TemplateArguments.None) is true;
    }

    // Whether two numbers or strings are one object depends on how Python came by them, except for the small integers.
    private static bool IsSame(TemplateRun run, object? a, object? b) => (a, b) switch
    {
        (bool x, bool y) => x == y,
        (BigInteger x, BigInteger y) when x != y || (x >= -5 && x <= 256) => x == y,
        (TemplateText x, TemplateText y) when !x.Equals(y) => false,
        (double x, double y) when x != y => false,
        (BigInteger, BigInteger) or (TemplateText, TemplateText) or (double, double) when !ReferenceEquals(a, b) => throw run.Error("'sameas' is only supported for values that are no strings or large numbers"),
        _ => ReferenceEquals(a, b),
    };
}
