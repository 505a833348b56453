using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>A decimal number as digits: exact, and without zeros that say nothing.</summary>
/// <param name="IsNegative">Whether it is below 0.</param>
/// <param name="Integer">The digits before the point, at least one.</param>
/// <param name="Fraction">Those behind it; empty where there are none.</param>
internal readonly record struct DecimalNumber(bool IsNegative, string Integer, string Fraction) : IComparable<DecimalNumber>
{
    /// <summary>The most digits before and behind the point.</summary>
    public const int MostDigits = 40;

    /// <summary>0.</summary>
    public static DecimalNumber Zero { get; } = new(false, "0", "");

    /// <summary>Without the sign.</summary>
    public DecimalNumber Magnitude => this with { IsNegative = false };

    /// <summary>Whether it is 0.</summary>
    public bool IsZero => Integer == "0" && Fraction.Length == 0;

    /// <summary>The largest whole number that is not larger.</summary>
    public BigInteger Floor => IsNegative ? -Whole - (Fraction.Length > 0 ? 1 : 0) : Whole;

    /// <summary>The smallest whole number that is not smaller.</summary>
    public BigInteger Ceiling => IsNegative ? -Whole : Whole + (Fraction.Length > 0 ? 1 : 0);

    private BigInteger Whole => BigInteger.Parse(Integer, CultureInfo.InvariantCulture);

    /// <summary>Reads a number of JSON.</summary>
    /// <returns>False: it has more digits than <see cref="MostDigits"/> before or behind the point.</returns>
    public static bool TryRead(JsonElement value, out DecimalNumber number)
    {
        number = default;
        var text = value.GetRawText();
        var exponentAt = text.AsSpan().IndexOfAny('e', 'E');
        var exponent = 0;
        if (exponentAt >= 0
            && (!int.TryParse(text.AsSpan(exponentAt + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out exponent)
                || Math.Abs((long)exponent) > 2 * MostDigits))
        {
            return false;
        }

        var mantissa = (exponentAt >= 0 ? text[..exponentAt] : text).TrimStart('-');
        var point = mantissa.IndexOf('.', StringComparison.Ordinal);
        var (digits, places) = point < 0 ? (mantissa, 0) : (mantissa.Remove(point, 1), mantissa.Length - point - 1);
        if (digits.Length > 2 * MostDigits)
        {
            return false;
        }

        places -= exponent;
        digits = places < 0 ? digits + new string('0', -places) : digits.PadLeft(places + 1, '0');
        places = Math.Max(places, 0);
        var integer = digits[..^places].TrimStart('0');
        var fraction = digits[^places..].TrimEnd('0');
        number = new(text[0] == '-' && integer.Length + fraction.Length > 0, integer.Length == 0 ? "0" : integer, fraction);
        return integer.Length <= MostDigits && fraction.Length <= MostDigits;
    }

    public int CompareTo(DecimalNumber other)
    {
        if (IsNegative != other.IsNegative)
        {
            return IsNegative ? -1 : 1;
        }

        var order = Integer.Length != other.Integer.Length
            ? Integer.Length - other.Integer.Length
            : string.CompareOrdinal(Integer, other.Integer) is var whole and not 0 ? whole
            : string.CompareOrdinal(Fraction, other.Fraction);
        return IsNegative ? -order : order;
    }
}

/// <summary>An end of a range.</summary>
/// <param name="Value">Where.</param>
/// <param name="IsExclusive">Whether the value itself is outside.</param>
internal readonly record struct DecimalBound(DecimalNumber Value, bool IsExclusive);
