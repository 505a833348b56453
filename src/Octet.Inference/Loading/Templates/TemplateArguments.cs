using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The arguments of a call.</summary>
internal sealed class TemplateArguments(List<object?> positional, List<KeyValuePair<string, object?>> named)
{
    public static readonly TemplateArguments None = new([], []);

    public List<object?> Positional { get; } = positional;

    public List<KeyValuePair<string, object?>> Named { get; } = named;

    /// <summary>These arguments behind another.</summary>
    public TemplateArguments After(object? first) => new([first, .. Positional], Named);

    public TemplateArguments Skip(int count) => new(Positional[count..], Named);

    /// <summary>The arguments of a function, of whose parameters the first <paramref name="required"/> have no default.</summary>
    public BoundArguments Bind(TemplateRun run, string function, int required, params string[] parameters)
    {
        if (Positional.Count > parameters.Length)
        {
            throw run.Error($"'{function}' takes at most {parameters.Length} arguments, here are {Positional.Count}");
        }
        var values = new object?[parameters.Length];
        var given = new bool[parameters.Length];
        for (int i = 0; i < Positional.Count; i++)
        {
            (values[i], given[i]) = (Positional[i], true);
        }
        foreach (var (name, value) in Named)
        {
            int at = Array.IndexOf(parameters, name);
            if (at < 0 || given[at])
            {
                throw run.Error(at < 0 ? $"'{function}' has no argument '{name}'" : $"'{function}' is given the argument '{name}' twice");
            }
            (values[at], given[at]) = (value, true);
        }
        int missing = Array.IndexOf(given, false);
        if (missing >= 0 && missing < required)
        {
            throw run.Error($"'{function}' lacks its argument '{parameters[missing]}'");
        }
        return new BoundArguments(run, function, parameters, values, given);
    }

    /// <summary>The arguments of a function that takes them only by position: between two numbers of them.</summary>
    public BoundArguments BindPositional(TemplateRun run, string function, int least, int most)
    {
        if (Named.Count > 0)
        {
            throw run.Error($"'{function}' takes no argument by the name '{Named[0].Key}'");
        }
        return Bind(run, function, least, [.. Enumerable.Range(1, most).Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture))]);
    }
}

/// <summary>Arguments by the place of their parameter.</summary>
internal readonly record struct BoundArguments(TemplateRun Run, string Function, string[] Parameters, object?[] Values, bool[] Given)
{
    public object? this[int index] => Values[index];

    public bool Truth(int index, bool absent) => Given[index] ? Run.Truth(Values[index]) : absent;

    public TemplateText Text(int index, string absent = "") => !Given[index] ? TemplateText.Of(absent) : Values[index] as TemplateText ?? throw Wrong(index, "a string");

    /// <summary>A string, or null if it is none or absent.</summary>
    public TemplateText? OptionalText(int index) => Given[index] && Values[index] is not null ? Text(index) : null;

    /// <summary>An integer, clamped to where its size makes no difference.</summary>
    public int Integer(int index, int absent)
    {
        if (!Given[index])
        {
            return absent;
        }
        return PythonNumbers.AsInteger(Values[index]) is { } number ? (int)BigInteger.Clamp(number, -int.MaxValue, int.MaxValue) : throw Wrong(index, "an integer");
    }

    public int? OptionalInteger(int index) => Given[index] && Values[index] is not null ? Integer(index, 0) : null;

    public ModelFormatException Wrong(int index, string expected) =>
        Run.Error($"the argument '{Parameters[index]}' of '{Function}' is {TemplateRun.Describe(Values[index])}, expected {expected}");
}
