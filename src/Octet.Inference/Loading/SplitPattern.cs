using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Octet.Inference.Loading;

/// <summary>A <c>Split</c> pre-tokenizer with a regular expression: each match is a piece, and so is the text between two matches (<c>Isolated</c>).</summary>
/// <remarks>
/// The expression means code points, but .NET matches UTF-16 units, of which a character above U+FFFF has two that are no letters, digits or marks.
/// So it is matched against a text in which one unit of the same category stands for each such character.
/// </remarks>
internal sealed class SplitPattern
{
    private const int LongestPattern = 4096;
    // What a ByteLevel pre-tokenizer splits by when it is not told otherwise: GPT-2's.
    private const string ByteLevelPattern = @"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    private static readonly TimeSpan LongestMatch = TimeSpan.FromSeconds(4);
    private static readonly char[] UnitOfCategory = FindUnits();
    private readonly ModelJson _source;
    private readonly Regex _regex;

    /// <summary>Reads a pre-tokenizer of type <c>Split</c>.</summary>
    public SplitPattern(ModelJson split)
    {
        string behavior = split.Text("behavior");
        if (behavior != "Isolated" || split.Flag("invert", absent: false))
        {
            throw split.Bad($"splits with behavior '{behavior}'{(behavior == "Isolated" ? " inverted" : "")}, but only 'Isolated' is supported");
        }
        _source = split.Object("pattern");
        string pattern = _source.Text("Regex");
        if (pattern.Length > LongestPattern)
        {
            throw _source.Bad($"has {pattern.Length} characters, more than {LongestPattern}");
        }
        // These mean one thing here and another where the tokenizer was trained.
        foreach (string construct in (ReadOnlySpan<string>)["[[", "[:", "&&", "-["])
        {
            if (pattern.Contains(construct, StringComparison.Ordinal))
            {
                throw _source.Bad($"contains '{construct}', which is not supported in '{pattern}'");
            }
        }
        try
        {
            _regex = new Regex(pattern, RegexOptions.CultureInvariant, LongestMatch);
        }
        catch (ArgumentException cause)
        {
            throw _source.Bad($"is not a regular expression .NET understands: {cause.Message}");
        }
    }

    private SplitPattern(ModelJson source, string pattern)
    {
        _source = source;
        _regex = new Regex(pattern, RegexOptions.CultureInvariant, LongestMatch);
    }

    /// <summary>The pattern of a pre-tokenizer of type <c>ByteLevel</c> with <c>use_regex</c>.</summary>
    public static SplitPattern OfByteLevel(ModelJson step) => new(step, ByteLevelPattern);

    /// <summary>The pieces of <paramref name="text"/>, in order; together they are the whole of it.</summary>
    public List<Range> Split(ReadOnlySpan<char> text)
    {
        // units[i] stands for the character at text[starts[i]]; without surrogates both texts are the same.
        char[]? units = null;
        int[]? starts = null;
        if (text.ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            (units, starts) = Unpair(text);
        }
        var pieces = new List<Range>();
        int end = 0;
        try
        {
            foreach (ValueMatch match in _regex.EnumerateMatches(units ?? text))
            {
                Add(end, match.Index);
                Add(match.Index, end = match.Index + match.Length);
            }
        }
        catch (RegexMatchTimeoutException)
        {
            throw _source.Bad($"takes more than {LongestMatch.TotalSeconds} s to find one match: '{_regex}'");
        }
        Add(end, units?.Length ?? text.Length);
        return pieces;

        void Add(int from, int to)
        {
            if (from < to)
            {
                pieces.Add(starts is null ? from..to : starts[from]..starts[to]);
            }
        }
    }

    private static (char[] Units, int[] Starts) Unpair(ReadOnlySpan<char> text)
    {
        var units = new List<char>(text.Length);
        var starts = new List<int>(text.Length + 1);
        int position = 0;
        foreach (Rune rune in text.EnumerateRunes())
        {
            units.Add(rune.IsBmp ? (char)rune.Value : UnitOfCategory[(int)Rune.GetUnicodeCategory(rune)]);
            starts.Add(position);
            position += rune.Utf16SequenceLength;
        }
        starts.Add(position);
        return ([.. units], [.. starts]);
    }

    private static char[] FindUnits()
    {
        // The last of each category: a pattern hardly names U+FF5D or U+FFE6 itself, as it may an ASCII brace.
        var units = new char[(int)UnicodeCategory.OtherNotAssigned + 1];
        for (int c = 0; c <= char.MaxValue; c++)
        {
            units[(int)char.GetUnicodeCategory((char)c)] = (char)c;
        }
        return units;
    }
}
