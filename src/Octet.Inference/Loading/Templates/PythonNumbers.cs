using System.Globalization;
using System.Numerics;
using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>Python's numbers: integers of any size, truth values that count as 0 and 1, and floating-point numbers.</summary>
internal static class PythonNumbers
{
    // Where Python refuses to turn an integer into text, and an integer into which no text can be turned.
    private const int MostDigits = 4300;
    private const int MostBits = 1 << 16;

    public static bool IsNumber(object? value) => value is BigInteger or bool or double;

    public static BigInteger? AsInteger(object? value) => value switch
    {
        BigInteger number => number,
        bool flag => flag ? BigInteger.One : BigInteger.Zero,
        _ => null,
    };

    /// <summary>A number as a double: rounded to the nearest.</summary>
    public static double AsDouble(TemplateRun run, object? value)
    {
        if (value is double number)
        {
            return number;
        }
        double rounded = Round(AsInteger(value)!.Value);
        return double.IsFinite(rounded) ? rounded : throw run.Error("an integer is too large for a floating-point number");
    }

    public static object Arithmetic(TemplateRun run, string operation, object? a, object? b)
    {
        if (AsInteger(a) is { } x && AsInteger(b) is { } y)
        {
            run.Charge((x.GetBitLength() + y.GetBitLength()) / 8);
            return Integer(run, operation, x, y);
        }
        return Float(run, operation, AsDouble(run, a), AsDouble(run, b));
    }

    public static object Negate(object? value) => value is double number ? -number : -AsInteger(value)!.Value;

    /// <summary>An integer in decimal.</summary>
    public static string Text(TemplateRun run, BigInteger value)
    {
        run.Charge(value.GetBitLength() / 8);
        string text = value.ToString(CultureInfo.InvariantCulture);
        return text.Length <= MostDigits ? text : throw run.Error($"an integer has more than {MostDigits} digits");
    }

    /// <summary>The shortest decimal that reads as <paramref name="value"/>, written as Python does.</summary>
    public static string Text(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }
        var (digits, exponent) = Digits(value);
        string sign = double.IsNegative(value) ? "-" : "";
        if (exponent is < -4 or >= 16)
        {
            string fraction = digits.Length > 1 ? "." + digits[1..] : "";
            return $"{sign}{digits[0]}{fraction}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture)}";
        }
        if (exponent < 0)
        {
            return $"{sign}0.{new string('0', -exponent - 1)}{digits}";
        }
        return digits.Length <= exponent + 1 ? $"{sign}{digits.PadRight(exponent + 1, '0')}.0" : $"{sign}{digits[..(exponent + 1)]}.{digits[(exponent + 1)..]}";
    }

    /// <summary>The shortest digits that identify a finite number, and the power of ten of the first.</summary>
    public static (string Digits, int Exponent) Digits(double value)
    {
        string text = Math.Abs(value).ToString("R", CultureInfo.InvariantCulture);
        int e = text.IndexOf('E', StringComparison.Ordinal);
        int power = e < 0 ? 0 : int.Parse(text.AsSpan(e + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        string mantissa = e < 0 ? text : text[..e];
        int point = mantissa.IndexOf('.', StringComparison.Ordinal);
        point = point < 0 ? mantissa.Length : point;
        string digits = mantissa.Replace(".", "", StringComparison.Ordinal);
        string significant = digits.TrimStart('0');
        int exponent = power + point - 1 - (digits.Length - significant.Length);
        return significant.Length == 0 ? ("0", 0) : (significant.TrimEnd('0'), exponent);
    }

    /// <summary><c>round(|value| * 10^decimals)</c>, exactly; halves go to the even one.</summary>
    public static BigInteger Scaled(double value, int decimals)
    {
        long bits = BitConverter.DoubleToInt64Bits(value);
        int exponent = (int)((bits >> 52) & 0x7FF);
        BigInteger numerator = exponent == 0 ? bits & 0xFFFFFFFFFFFFF : (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
        exponent = Math.Max(exponent, 1) - 1075;
        BigInteger denominator = BigInteger.One;
        numerator <<= Math.Max(exponent, 0);
        denominator <<= Math.Max(-exponent, 0);
        numerator *= BigInteger.Pow(10, Math.Max(decimals, 0));
        denominator *= BigInteger.Pow(10, Math.Max(-decimals, 0));
        return DivideToEven(numerator, denominator);
    }

    /// <summary>Python's <c>round(value, decimals)</c>.</summary>
    public static object Round(TemplateRun run, object? value, int decimals)
    {
        if (value is double number)
        {
            if (!double.IsFinite(number) || decimals > 323)
            {
                return number;
            }
            if (decimals < -308)
            {
                return 0.0 * number;
            }
            string text = Scaled(number, decimals) + "E" + (-decimals).ToString(CultureInfo.InvariantCulture);
            double rounded = double.Parse(text, CultureInfo.InvariantCulture);
            return double.IsFinite(rounded) ? Math.CopySign(rounded, number) : throw run.Error("a rounded number is too large");
        }
        BigInteger integer = AsInteger(value)!.Value;
        if (decimals >= 0)
        {
            return integer;
        }
        if (-decimals > MostDigits)
        {
            return BigInteger.Zero;
        }
        BigInteger unit = BigInteger.Pow(10, -decimals);
        return DivideToEven(BigInteger.Abs(integer), unit) * unit * integer.Sign;
    }

    /// <summary>Python's <c>int(text, base)</c>, or null if it is none.</summary>
    public static BigInteger? ParseInteger(string text, int radix)
    {
        string digits = Ascii(text);
        bool negative = digits.StartsWith('-');
        digits = digits is ['+' or '-', ..] ? digits[1..] : digits;
        if (digits.Length > 2 && digits[0] == '0' && char.ToLowerInvariant(digits[1]) is 'x' or 'o' or 'b')
        {
            int prefix = char.ToLowerInvariant(digits[1]) switch { 'x' => 16, 'o' => 8, _ => 2 };
            if (radix == 0 || radix == prefix)
            {
                radix = prefix;
                digits = digits[2..].TrimStart('_') is var rest && rest.Length >= digits.Length - 3 ? rest : "";
            }
        }
        if (radix == 0)
        {
            radix = digits.StartsWith('0') && digits.AsSpan().ContainsAnyExcept('0', '_') ? -1 : 10;
        }
        if (radix is < 2 or > 36 || digits.Length is 0 or > MostDigits || digits[0] == '_' || digits[^1] == '_' || digits.Contains("__", StringComparison.Ordinal))
        {
            return null;
        }
        BigInteger value = 0;
        foreach (char c in digits)
        {
            if (c == '_')
            {
                continue;
            }
            int digit = char.IsAsciiDigit(c) ? c - '0' : char.IsAsciiLetter(c) ? char.ToLowerInvariant(c) - 'a' + 10 : 36;
            if (digit >= radix)
            {
                return null;
            }
            value = (value * radix) + digit;
        }
        return negative ? -value : value;
    }

    /// <summary>Python's <c>float(text)</c>, or null if it is none.</summary>
    public static double? ParseFloat(string text)
    {
        string digits = Ascii(text).ToLowerInvariant();
        string unsigned = digits is ['+' or '-', ..] ? digits[1..] : digits;
        if (unsigned is "inf" or "infinity" or "nan")
        {
            double special = unsigned == "nan" ? double.NaN : double.PositiveInfinity;
            return digits[0] == '-' ? -special : special;
        }
        for (int i = 0; i < unsigned.Length; i++)
        {
            bool between = i > 0 && i + 1 < unsigned.Length && char.IsAsciiDigit(unsigned[i - 1]) && char.IsAsciiDigit(unsigned[i + 1]);
            if (unsigned[i] == '_' && !between)
            {
                return null;
            }
        }
        const NumberStyles Style = NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;
        bool plain = unsigned.Length > 0 && (char.IsAsciiDigit(unsigned[0]) || unsigned[0] == '.');
        return plain && double.TryParse(digits.Replace("_", "", StringComparison.Ordinal), Style, CultureInfo.InvariantCulture, out double value) ? value : null;
    }

    private static string Ascii(string text)
    {
        // Python takes the decimal digits of every script.
        text = text.AsSpan().Trim().ToString().Trim('\x1c', '\x1d', '\x1e', '\x1f');
        if (System.Text.Ascii.IsValid(text))
        {
            return text;
        }
        var ascii = new StringBuilder();
        foreach (Rune rune in text.EnumerateRunes())
        {
            ascii.Append(PythonCharacters.IsDecimal(rune) ? ((int)Rune.GetNumericValue(rune)).ToString(CultureInfo.InvariantCulture) : rune.ToString());
        }
        return ascii.ToString();
    }

    private static object Integer(TemplateRun run, string operation, BigInteger a, BigInteger b)
    {
        switch (operation)
        {
            case "+":
                return a + b;
            case "-":
                return a - b;
            case "*":
                Limit(run, a.GetBitLength() + b.GetBitLength());
                return a * b;
            case "**" when b.Sign >= 0:
                Limit(run, BigInteger.Abs(a) <= 1 ? 1 : (double)a.GetBitLength() * (double)b);
                // Of 0, 1 and -1 only the parity of the exponent counts.
                return BigInteger.Pow(a, BigInteger.Abs(a) <= 1 ? (b.IsZero ? 0 : b.IsEven ? 2 : 1) : (int)b);
            case "**":
                return Float(run, operation, AsDouble(run, a), AsDouble(run, b));
        }
        if (b.IsZero)
        {
            throw run.Error("a division by zero");
        }
        if (operation == "/")
        {
            return Quotient(run, a, b);
        }
        // Python rounds down, so that a remainder has the sign of the divisor.
        BigInteger quotient = BigInteger.DivRem(a, b, out BigInteger rest);
        bool down = !rest.IsZero && rest.Sign < 0 != b.Sign < 0;
        return operation == "//" ? (down ? quotient - 1 : quotient) : down ? rest + b : rest;
    }

    private static object Float(TemplateRun run, string operation, double a, double b)
    {
        switch (operation)
        {
            case "+":
                return a + b;
            case "-":
                return a - b;
            case "*":
                return a * b;
            case "**":
                if (a == 0 && b < 0)
                {
                    throw run.Error("zero is raised to a negative power");
                }
                double power = Math.Pow(a, b);
                if (double.IsNaN(power) && !double.IsNaN(a) && !double.IsNaN(b))
                {
                    throw run.Error("a root of a negative number: complex numbers are not supported");
                }
                return double.IsFinite(power) || !double.IsFinite(a) || !double.IsFinite(b) ? power : throw run.Error("a power is too large");
        }
        if (b == 0)
        {
            throw run.Error("a division by zero");
        }
        if (operation == "/")
        {
            return a / b;
        }
        double rest = a % b;
        double quotient = (a - rest) / b;
        if (rest == 0)
        {
            rest = Math.CopySign(0, b);
        }
        else if (rest < 0 != b < 0)
        {
            rest += b;
            quotient -= 1;
        }
        if (operation == "%")
        {
            return rest;
        }
        double floor = Math.Floor(quotient);
        return quotient == 0 ? Math.CopySign(0, a / b) : quotient - floor > 0.5 ? floor + 1 : floor;
    }

    // The nearest double to a quotient, of which it needs 64 bits and whether anything follows.
    private static double Quotient(TemplateRun run, BigInteger a, BigInteger b)
    {
        BigInteger x = BigInteger.Abs(a);
        BigInteger y = BigInteger.Abs(b);
        long shift = 66 - (x.GetBitLength() - y.GetBitLength());
        if (shift is > MostBits or < -MostBits)
        {
            return shift > 0 ? 0.0 : throw run.Error("a quotient is too large for a floating-point number");
        }
        x <<= (int)Math.Max(shift, 0);
        y <<= (int)Math.Max(-shift, 0);
        BigInteger quotient = BigInteger.DivRem(x, y, out BigInteger rest);
        double value = Round((quotient << 1) | (rest.IsZero ? 0 : 1), -(int)shift - 1);
        value = a.Sign < 0 != b.Sign < 0 ? -value : value;
        return double.IsFinite(value) ? value : throw run.Error("a quotient is too large for a floating-point number");
    }

    // The conversion of .NET looks at 64 bits only.
    private static double Round(BigInteger value, int exponent = 0)
    {
        BigInteger magnitude = BigInteger.Abs(value);
        int excess = (int)Math.Max(0, magnitude.GetBitLength() - 64);
        BigInteger top = magnitude >> excess;
        if (excess > 0 && !(magnitude & ((BigInteger.One << excess) - 1)).IsZero)
        {
            top |= 1;
        }
        double rounded = Math.ScaleB((double)(ulong)top, excess + exponent);
        return value.Sign < 0 ? -rounded : rounded;
    }

    private static BigInteger DivideToEven(BigInteger numerator, BigInteger denominator)
    {
        BigInteger quotient = BigInteger.DivRem(numerator, denominator, out BigInteger rest);
        int half = (rest * 2).CompareTo(denominator);
        return half > 0 || (half == 0 && !quotient.IsEven) ? quotient + 1 : quotient;
    }

    private static void Limit(TemplateRun run, double bits)
    {
        if (bits > MostBits)
        {
            throw run.Error($"an integer has more than {MostBits} bits");
        }
        run.Charge((long)(bits * bits / 4096));
    }
}
