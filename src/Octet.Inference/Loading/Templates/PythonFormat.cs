using System.Globalization;
using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>How a number or string is to be printed: what <c>%08.3f</c> and <c>{:&gt;+8.3f}</c> have in common.</summary>
internal record struct PythonFormat()
{
    // A format asks for its own width, so that one of a few characters could ask for gigabytes.
    private const int Widest = 1 << 16;

    public TemplateText Fill { get; set; } = TemplateText.Of(" ");

    /// <summary>One of <c>&lt; &gt; ^ =</c>, or a space: as its kind has it.</summary>
    public char Align { get; set; } = ' ';

    /// <summary>What goes before a number that is not negative: <c>+</c>, a space, or nothing: <c>-</c>.</summary>
    public char Sign { get; set; } = '-';

    public bool Alternate { get; set; }

    public int Width { get; set; }

    /// <summary><c>,</c> or <c>_</c>, or 0.</summary>
    public char Grouping { get; set; }

    public int? Precision { get; set; }

    /// <summary>The letter at the end, or 0.</summary>
    public char Type { get; set; }

    /// <summary>Reads <c>[[fill]align][sign][#][0][width][grouping][.precision][type]</c>.</summary>
    private static PythonFormat Parse(TemplateRun run, TemplateText specification, bool isNumber)
    {
        var format = new PythonFormat();
        string text = specification.Value;
        int at = 0;
        int afterFill = text.Length > 0 ? specification.Next(0) : 0;
        bool hasFill = afterFill > 0 && afterFill < text.Length && text[afterFill] is '<' or '>' or '^' or '=';
        if (hasFill)
        {
            format.Fill = specification.Slice(0, afterFill);
            format.Align = text[afterFill];
            at = afterFill + 1;
        }
        else if (text is ['<' or '>' or '^' or '=', ..])
        {
            format.Align = text[at++];
        }
        if (Next() is '+' or '-' or ' ')
        {
            format.Sign = text[at++];
        }
        if (Next() == 'z')
        {
            throw run.Error($"the format '{text}' is not supported");
        }
        if (Next() == '#')
        {
            format.Alternate = true;
            at++;
        }
        if (Next() == '0' && !hasFill)
        {
            format.Fill = TemplateText.Of("0");
            format.Align = format.Align == ' ' && isNumber ? '=' : format.Align;
            at++;
        }
        format.Width = Number() ?? 0;
        if (Next() is ',' or '_')
        {
            format.Grouping = text[at++];
        }
        if (Next() == '.')
        {
            at++;
            format.Precision = Number() ?? throw run.Error($"the format '{text}' lacks its precision");
        }
        if (at < text.Length)
        {
            format.Type = text[at++];
        }
        return at == text.Length ? format : throw run.Error($"the format '{text}' is not valid");

        char Next() => at < text.Length ? text[at] : '\0';

        int? Number()
        {
            int begin = at;
            while (char.IsAsciiDigit(Next()))
            {
                at++;
            }
            return at == begin ? null : ReadWidth(run, text.AsSpan(begin, at - begin));
        }
    }

    public static int ReadWidth(TemplateRun run, ReadOnlySpan<char> digits) =>
        int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int width) && width <= Widest
            ? width
            : throw run.Error($"a format asks for more than {Widest} characters");

    /// <summary>Python's <c>format(value, specification)</c>.</summary>
    public static TemplateText Of(TemplateRun run, object? value, TemplateText specification)
    {
        if (specification.Units == 0)
        {
            return run.Text(value);
        }
        PythonFormat format = Parse(run, specification, PythonNumbers.IsNumber(value));
        if (!PythonNumbers.IsNumber(value))
        {
            if (value is not TemplateText || format.Type is not ('\0' or 's') || format.Sign != '-' || format.Alternate || format.Grouping != '\0' || format.Align == '=')
            {
                throw run.Error($"the format '{specification}' is not for {TemplateRun.Describe(value)}");
            }
            return format.Pad(run, format.Cut(run.Text(value)), '<');
        }
        return format.Number(run, value);
    }

    /// <summary>At most as many characters as the precision says.</summary>
    public readonly TemplateText Cut(TemplateText text) => Precision is { } most && text.Length > most ? text.Slice(0, text.UnitOf(most)) : text;

    /// <summary>Fills up to the width.</summary>
    public readonly TemplateText Pad(TemplateRun run, TemplateText text, char align, int signUnits = 0)
    {
        int missing = Width - text.Length;
        if (missing <= 0)
        {
            return text;
        }
        run.Charge(Width);
        align = Align == ' ' ? align : Align;
        int left = align switch { '<' => 0, '^' => missing / 2, _ => missing };
        int at = align == '=' ? signUnits : 0;
        var padded = new TemplateTextBuilder().Append(text, 0, at);
        Repeat(padded, left);
        padded.Append(text, at, text.Units);
        Repeat(padded, missing - left);
        return padded.Build();
    }

    /// <summary>A number by the type of this format.</summary>
    public readonly TemplateText Number(TemplateRun run, object? value)
    {
        char type = Type == '\0' ? (value is double ? '\0' : 'd') : Type;
        bool isInteger = type is 'd' or 'b' or 'o' or 'x' or 'X' or 'c' or 'n' && value is not double;
        if ((isInteger && Precision is not null) || (type == 'c' && (Sign != '-' || value is double)))
        {
            throw run.Error($"the format '{type}' is not for {TemplateRun.Describe(value)}{(Precision is null ? "" : " with a precision")}");
        }
        if (type == 'c')
        {
            return Pad(run, Character(run, value), '<');
        }
        bool negative;
        string prefix = "";
        string digits;
        if (isInteger)
        {
            BigInteger number = PythonNumbers.AsInteger(value)!.Value;
            negative = number.Sign < 0;
            number = BigInteger.Abs(number);
            digits = type switch
            {
                'b' => Radix(run, number, 1),
                'o' => Radix(run, number, 3),
                'x' or 'X' => Radix(run, number, 4),
                _ => PythonNumbers.Text(run, number),
            };
            digits = type == 'X' ? digits.ToUpperInvariant() : digits;
            prefix = Alternate && type is not ('d' or 'n') ? "0" + type : "";
        }
        else
        {
            double number = PythonNumbers.AsDouble(run, value);
            negative = double.IsNegative(number) && !double.IsNaN(number);
            digits = Float(run, Math.Abs(number), type);
        }
        string sign = negative ? "-" : Sign == '-' ? "" : Sign.ToString();
        string head = sign + prefix;
        if (Grouping != '\0' && char.IsAsciiHexDigit(digits[0]) && !digits.StartsWith("inf", StringComparison.Ordinal))
        {
            if (Grouping == ',' && type is 'b' or 'o' or 'x' or 'X' or 'n' || (Grouping == '_' && type == 'n'))
            {
                throw run.Error($"the format '{type}' cannot be grouped by '{Grouping}'");
            }
            digits = Group(digits, type is 'b' or 'o' or 'x' or 'X' ? 4 : 3, Align == '=' && Fill.Value == "0" ? Width - head.Length : 0);
        }
        return Pad(run, TemplateText.Of(head + digits), '>', head.Length);
    }

    // The sign-less text of a float: repr-like without a type, else fixed, scientific or the shorter of both.
    private readonly string Float(TemplateRun run, double value, char type)
    {
        char lower = char.ToLowerInvariant(type);
        if (lower is not ('e' or 'f' or 'g' or '%' or '\0' or 'n'))
        {
            throw run.Error($"the format '{type}' is not for a number");
        }
        run.Charge(Precision ?? 0);
        string text;
        if (!double.IsFinite(value))
        {
            text = PythonNumbers.Text(value) + (type == '%' ? "%" : "");
        }
        else if (lower == '\0' && Precision is null)
        {
            text = PythonNumbers.Text(value);
        }
        else
        {
            int precision = Precision ?? 6;
            text = lower switch
            {
                'f' => Fixed(value, precision),
                '%' => Fixed(value * 100, precision) + "%",
                'e' => Scientific(value, precision),
                _ => General(value, precision, isRepr: lower == '\0'),
            };
            if (Alternate && !text.Contains('.'))
            {
                int at = text.IndexOfAny(['e', '%']);
                text = text.Insert(at < 0 ? text.Length : at, ".");
            }
        }
        return char.IsAsciiLetterUpper(type) ? text.ToUpperInvariant() : text;
    }

    private static string Fixed(double value, int precision)
    {
        string digits = PythonNumbers.Scaled(value, precision).ToString(CultureInfo.InvariantCulture).PadLeft(precision + 1, '0');
        return precision == 0 ? digits : digits[..^precision] + "." + digits[^precision..];
    }

    private static string Scientific(double value, int precision)
    {
        var (digits, exponent) = Rounded(value, precision + 1);
        string fraction = precision == 0 ? "" : "." + digits[1..];
        return $"{digits[0]}{fraction}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture)}";
    }

    private readonly string General(double value, int precision, bool isRepr)
    {
        precision = Math.Max(precision, 1);
        var (digits, exponent) = Rounded(value, precision);
        // Without a type, a fixed number keeps one digit behind the point, for which there has to be room.
        bool scientific = exponent < -4 || exponent >= precision - (isRepr && exponent == precision - 1 ? 1 : 0);
        string trimmed = Alternate ? digits : digits.TrimEnd('0');
        if (scientific)
        {
            trimmed = trimmed.Length == 0 ? "0" : trimmed;
            string fraction = trimmed.Length > 1 ? "." + trimmed[1..] : "";
            return $"{trimmed[0]}{fraction}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture)}";
        }
        string text = Fixed(value, Math.Max(0, precision - 1 - exponent));
        if (!Alternate && text.Contains('.'))
        {
            text = text.TrimEnd('0').TrimEnd('.');
        }
        return isRepr && !text.Contains('.') ? text + ".0" : text;
    }

    // The first digits of a number, rounded, and the power of ten of the first.
    private static (string Digits, int Exponent) Rounded(double value, int count)
    {
        if (value == 0)
        {
            return (new string('0', count), 0);
        }
        int exponent = PythonNumbers.Digits(value).Exponent;
        string digits = PythonNumbers.Scaled(value, count - 1 - exponent).ToString(CultureInfo.InvariantCulture);
        return digits.Length > count ? (digits[..count], exponent + 1) : (digits, exponent);
    }

    private static string Radix(TemplateRun run, BigInteger value, int bits)
    {
        run.Charge(value.GetBitLength());
        if (value.IsZero)
        {
            return "0";
        }
        var digits = new Stack<char>();
        for (; !value.IsZero; value >>= bits)
        {
            digits.Push("0123456789abcdef"[(int)(value & ((1 << bits) - 1))]);
        }
        return string.Concat(digits);
    }

    private readonly string Group(string digits, int size, int width)
    {
        bool isHexadecimal = size == 4;
        int end = 0;
        while (end < digits.Length && (isHexadecimal || char.IsAsciiDigit(digits[end])))
        {
            end++;
        }
        string rest = digits[end..];
        string grouped = "";
        string whole = digits[..end];
        int missing = width - rest.Length;
        // Zeros that fill up to the width are grouped with the digits.
        while (true)
        {
            grouped = "";
            for (int i = whole.Length; i > 0; i -= size)
            {
                grouped = whole[Math.Max(0, i - size)..i] + (grouped.Length > 0 ? Grouping + grouped : "");
            }
            if (grouped.Length >= missing)
            {
                return grouped + rest;
            }
            whole = "0" + whole;
        }
    }

    private static TemplateText Character(TemplateRun run, object? value)
    {
        BigInteger code = PythonNumbers.AsInteger(value)!.Value;
        return code >= 0 && code <= 0x10FFFF && code is var c && (c < 0xD800 || c > 0xDFFF)
            ? new TemplateText(char.ConvertFromUtf32((int)code), TextOrigin.Data)
            : throw run.Error($"there is no character {code}");
    }

    private readonly void Repeat(TemplateTextBuilder text, int count)
    {
        for (int i = 0; i < count; i++)
        {
            text.Append(Fill);
        }
    }
}
