using System.Text;

namespace Octet.Inference.Grammars;

/// <summary>Characters in UTF-8.</summary>
internal static class CharacterTerms
{
    // NOTE: letters, digits, signs and pictures that begin a new grapheme behind any other of them (Unicode Standard Annex 29): no marks,
    // joiners, jamo, flags, skin tones or carriage returns. Not all such characters, but those of most text.
    private static readonly (int First, int Last)[] s_single =
    [
        (0x20, 0x7E), (0xA1, 0xA8), (0xAA, 0xAC), (0xAF, 0x2FF), (0x370, 0x377), (0x37A, 0x37F), (0x384, 0x482), (0x48A, 0x52F),
        (0x531, 0x556), (0x561, 0x587),
        (0x5D0, 0x5EA), (0x620, 0x64A), (0x660, 0x66F), (0x671, 0x6D3), (0x6F0, 0x6FF), (0x904, 0x939), (0x958, 0x961), (0x966, 0x980),
        (0xE01, 0xE30), (0xE40, 0xE46), (0xE50, 0xE59), (0x10A0, 0x10FF), (0x1E00, 0x1FFE), (0x2010, 0x2027), (0x2030, 0x205E),
        (0x2070, 0x20BF), (0x2100, 0x2BFF),
        (0x3000, 0x3029), (0x3041, 0x3096), (0x309B, 0x30FF), (0x3105, 0x312F), (0x3190, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
        (0xFF01, 0xFF9D), (0xFFE0, 0xFFEE),
        (0x1F300, 0x1F3FA), (0x1F400, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF),
    ];

    /// <summary>Any character but those of a byte.</summary>
    public static Term Long() => JsonTerms.Any(Between(0x80, 0xD7FF), Between(0xE000, 0x10FFFF));

    /// <summary>A character of more than a byte that is one to a reader who counts graphemes, too.</summary>
    public static Term LongSingle() =>
        JsonTerms.Any([.. s_single.Where(range => range.First > 0x7F).Select(range => Between(range.First, range.Last))]);

    /// <summary>Whether a character is one to a reader who counts graphemes, too.</summary>
    public static bool IsSingle(int character)
    {
        var (low, high) = (0, s_single.Length - 1);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = character > s_single[middle].Last ? (middle + 1, high) : (low, middle);
        }

        return character >= s_single[low].First && character <= s_single[low].Last;
    }

    /// <summary>The characters from the first to the last.</summary>
    public static Term Between(int first, int last)
    {
        var all = new List<Term>();
        AddRange(first, last, all);
        return JsonTerms.Any([.. all]);
    }

    // Cut so that in each piece all combinations of the bytes' ranges are characters.
    private static void AddRange(int first, int last, List<Term> all)
    {
        foreach (var longest in (ReadOnlySpan<int>)[0x7F, 0x7FF, 0xFFFF])
        {
            if (first <= longest && last > longest)
            {
                AddRange(first, longest, all);
                AddRange(longest + 1, last, all);
                return;
            }
        }

        for (var mask = 0x3F; mask < last && first > 0x7F; mask = mask << 6 | 0x3F)
        {
            if ((first & ~mask) == (last & ~mask))
            {
                continue;
            }

            var cut = (first & mask) != 0 ? (first | mask) + 1 : (last & mask) != mask ? last & ~mask : first;
            if (cut > first)
            {
                AddRange(first, cut - 1, all);
                AddRange(cut, last, all);
                return;
            }
        }

        Span<byte> low = stackalloc byte[4], high = stackalloc byte[4];
        var length = new Rune(first).EncodeToUtf8(low);
        new Rune(last).EncodeToUtf8(high);
        var bytes = new Term[length];
        for (var i = 0; i < length; i++)
        {
            bytes[i] = new ByteTerm(ByteSet.Range(low[i], high[i]));
        }

        all.Add(JsonTerms.All(bytes));
    }
}
