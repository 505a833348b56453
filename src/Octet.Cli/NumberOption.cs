using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Octet.Cli;

/// <summary>
/// Options that take a number, the same in every culture. System.CommandLine's own parser names .NET types in its complaints and takes
/// the comma of "0,5" for a separator of thousands.
/// </summary>
internal static class NumberOption
{
    /// <summary>An option that may be absent.</summary>
    /// <param name="name">With its dashes.</param>
    /// <param name="description">For the help text.</param>
    /// <param name="expected">What a good value is: "a number from 0 to 1".</param>
    /// <param name="isGood">Whether a number is one.</param>
    public static Option<T?> Create<T>(string name, string description, string expected, Func<T, bool> isGood) where T : struct, INumberBase<T> =>
        new(name) { Description = description, CustomParser = result => Parse(result, name, expected, isGood) };

    /// <summary>An option with a default.</summary>
    /// <inheritdoc cref="Create{T}(string, string, string, Func{T, bool})"/>
    /// <param name="absent">The value where the option is not given.</param>
    public static Option<T> Create<T>(string name, string description, T absent, string expected, Func<T, bool> isGood) where T : struct, INumberBase<T> =>
        new(name) { Description = description, CustomParser = result => Parse(result, name, expected, isGood) ?? absent, DefaultValueFactory = _ => absent };

    private static T? Parse<T>(ArgumentResult result, string name, string expected, Func<T, bool> isGood) where T : struct, INumberBase<T>
    {
        var text = result.Tokens.Count > 0 ? result.Tokens[^1].Value : "";
        if (T.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture, out var value)
            && isGood(value))
        {
            return value;
        }

        result.AddError($"{name} is '{text}', expected {expected}.");
        return null;
    }
}
