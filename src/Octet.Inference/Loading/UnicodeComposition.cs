using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading;

/// <summary>Unicode normalisation form C: canonical decomposition, canonical order, canonical composition (UAX #15).</summary>
/// <remarks>
/// Our own because <see cref="string.Normalize()"/> returns its input unchanged when the process runs in invariant globalization mode, without ICU:
/// the same text would then give other tokens.
/// </remarks>
internal static class UnicodeComposition
{
    // Hangul syllables: S = SBase + (L * VCount + V) * TCount + T (Unicode standard, section 3.12).
    private const int SBase = 0xAC00, LBase = 0x1100, VBase = 0x1161, TBase = 0x11A7;
    private const int LCount = 19, VCount = 21, TCount = 28, SCount = LCount * VCount * TCount;

    private static readonly Dictionary<int, (int First, int Second)> Decompositions = [];
    private static readonly Dictionary<(int First, int Second), int> Compositions = [];
    private static readonly Dictionary<int, byte> Classes = [];

    static UnicodeComposition()
    {
        foreach (string mapping in Words(UnicodeCompositionData.Mappings))
        {
            int separator = mapping.AsSpan().IndexOfAny('=', '!');
            int plus = mapping.IndexOf('+', StringComparison.Ordinal);
            int composed = Hex(mapping.AsSpan(0, separator));
            int first = Hex(plus < 0 ? mapping.AsSpan(separator + 1) : mapping.AsSpan(separator + 1, plus - separator - 1));
            int second = plus < 0 ? 0 : Hex(mapping.AsSpan(plus + 1));
            Decompositions.Add(composed, (first, second));
            if (plus >= 0 && mapping[separator] == '=')
            {
                Compositions.Add((first, second), composed);
            }
        }
        foreach (string range in Words(UnicodeCompositionData.CombiningClasses))
        {
            int dash = range.IndexOf('-', StringComparison.Ordinal);
            int colon = range.IndexOf(':', StringComparison.Ordinal);
            byte combiningClass = byte.Parse(range.AsSpan(colon + 1), CultureInfo.InvariantCulture);
            for (int c = Hex(range.AsSpan(0, dash)), last = Hex(range.AsSpan(dash + 1, colon - dash - 1)); c <= last; c++)
            {
                Classes.Add(c, combiningClass);
            }
        }
    }

    /// <summary>The normal form C of <paramref name="text"/>; half surrogate pairs become U+FFFD.</summary>
    public static string Compose(string text)
    {
        // No character below U+0300 composes with another one or has a replacement.
        if (!text.AsSpan().ContainsAnyInRange('\u0300', '\uFFFF'))
        {
            return text;
        }
        var characters = new List<(int Character, byte Class)>(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            Decompose(rune.Value, characters);
        }
        Order(characters);
        return Recompose(characters);
    }

    private static void Decompose(int c, List<(int Character, byte Class)> characters)
    {
        int syllable = c - SBase;
        if (syllable is >= 0 and < SCount)
        {
            characters.Add((LBase + syllable / (VCount * TCount), 0));
            characters.Add((VBase + syllable % (VCount * TCount) / TCount, 0));
            if (syllable % TCount != 0)
            {
                characters.Add((TBase + syllable % TCount, 0));
            }
        }
        else if (Decompositions.TryGetValue(c, out var parts))
        {
            Decompose(parts.First, characters);
            if (parts.Second != 0)
            {
                Decompose(parts.Second, characters);
            }
        }
        else
        {
            characters.Add((c, Classes.GetValueOrDefault(c)));
        }
    }

    // Each run of combining marks is sorted by class; equal classes keep their order.
    private static void Order(List<(int Character, byte Class)> characters)
    {
        for (int begin = 0; begin < characters.Count; begin++)
        {
            int end = begin;
            while (end < characters.Count && characters[end].Class != 0)
            {
                end++;
            }
            if (end - begin > 1)
            {
                (int Character, byte Class)[] run = [.. characters[begin..end].OrderBy(mark => mark.Class)];
                for (int i = 0; i < run.Length; i++)
                {
                    characters[begin + i] = run[i];
                }
            }
            begin = Math.Max(begin, end);
        }
    }

    private static string Recompose(List<(int Character, byte Class)> characters)
    {
        var composed = new List<int>(characters.Count);
        int starter = -1;
        byte lastClass = 0; // of the marks kept since the starter
        foreach (var (character, combiningClass) in characters)
        {
            bool blocked = lastClass != 0 && lastClass >= combiningClass;
            if (starter >= 0 && !blocked && Pair(composed[starter], character) is { } pair)
            {
                composed[starter] = pair;
                continue;
            }
            if (combiningClass == 0)
            {
                starter = composed.Count;
            }
            lastClass = combiningClass;
            composed.Add(character);
        }
        var text = new StringBuilder(composed.Count);
        foreach (int character in composed)
        {
            text.Append(new Rune(character));
        }
        return text.ToString();
    }

    private static int? Pair(int first, int second)
    {
        if (first - LBase is >= 0 and < LCount && second - VBase is >= 0 and < VCount)
        {
            return SBase + ((first - LBase) * VCount + (second - VBase)) * TCount;
        }
        if (first - SBase is >= 0 and < SCount && (first - SBase) % TCount == 0 && second - TBase is > 0 and < TCount)
        {
            return first + (second - TBase);
        }
        return Compositions.TryGetValue((first, second), out int composed) ? composed : null;
    }

    private static string[] Words(string list) => list.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);

    private static int Hex(ReadOnlySpan<char> digits) => int.Parse(digits, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
