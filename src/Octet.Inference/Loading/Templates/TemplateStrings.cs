using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>The escapes in the string literals of a template: Python's, whose unknown escapes stand for themselves.</summary>
internal static class TemplateStrings
{
    /// <summary>The string whose literal stands between two positions.</summary>
    public static string Unescape(TemplateSource source, int begin, int end)
    {
        ReadOnlySpan<char> literal = source.Text.AsSpan(begin, end - begin);
        if (!literal.Contains('\\'))
        {
            return literal.ToString();
        }
        var value = new StringBuilder();
        for (int i = 0; i < literal.Length;)
        {
            if (literal[i] != '\\')
            {
                value.Append(literal[i++]);
                continue;
            }
            char c = literal[i + 1];
            i += 2;
            switch (c)
            {
                case 'x' or 'u' or 'U':
                    int digits = c switch { 'x' => 2, 'u' => 4, _ => 8 };
                    if (i + digits > literal.Length || !int.TryParse(literal.Slice(i, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int code) || code is < 0 or > 0x10FFFF)
                    {
                        throw source.Bad(begin + i - 2, "an escape lacks its digits");
                    }
                    i += digits;
                    Append(value, code);
                    break;
                case >= '0' and <= '7':
                    int octal = c - '0';
                    for (int more = 0; more < 2 && i < literal.Length && literal[i] is >= '0' and <= '7'; more++)
                    {
                        octal = (octal * 8) + literal[i++] - '0';
                    }
                    value.Append((char)octal);
                    break;
                case 'N':
                    throw source.Bad(begin + i - 2, "the escape '\\N' is not supported");
                case '\n':
                    break;
                case > '\x7f':
                    // What Jinja's detour through ASCII makes of it: the character's number, in hexadecimal.
                    int rune = char.IsHighSurrogate(c) && i < literal.Length ? char.ConvertToUtf32(c, literal[i++]) : c;
                    value.Append(CultureInfo.InvariantCulture, $"\\{(rune > 0xFFFF ? $"U{rune:x8}" : rune > 0xFF ? $"u{rune:x4}" : $"x{rune:x2}")}");
                    break;
                default:
                    string meant = c switch
                    {
                        'n' => "\n",
                        't' => "\t",
                        'r' => "\r",
                        'a' => "\a",
                        'b' => "\b",
                        'f' => "\f",
                        'v' => "\v",
                        '\\' or '\'' or '"' => c.ToString(),
                        _ => "\\" + c,
                    };
                    value.Append(meant);
                    break;
            }
        }
        return value.ToString();
    }

    private static void Append(StringBuilder value, int code)
    {
        if (code > 0xFFFF)
        {
            value.Append(char.ConvertFromUtf32(code));
        }
        else
        {
            value.Append((char)code);
        }
    }
}
