using System.Globalization;

namespace Octet;

/// <summary>FP8 E4M3 in the FNUZ encoding: bias 8, max 240, no infinity, the single NaN 0x80, no -0. gfx942; the same code is half the OCP value.</summary>
/// <remarks>Quantisation to blocks saturates at 224: <see cref="Float8.Limit"/>.</remarks>
public readonly struct Float8E4M3Fnuz : IEquatable<Float8E4M3Fnuz>, IFormattable, ISpanParsable<Float8E4M3Fnuz>
{
    private readonly byte _code;

    private Float8E4M3Fnuz(byte code) => _code = code;

    /// <summary>The largest finite value, 240.</summary>
    public const float MaxValue = 240f;

    /// <summary>The value with this code.</summary>
    public static Float8E4M3Fnuz FromCode(byte code) => new(code);

    /// <summary>The 8 bits.</summary>
    public byte Code => _code;

    /// <summary>Exact widening.</summary>
    public static implicit operator float(Float8E4M3Fnuz value) => Float8.Widen(value._code, DType.Float8E4M3Fnuz);

    /// <summary>Narrowing to nearest even, saturated at 240; NaN stays NaN.</summary>
    public static explicit operator Float8E4M3Fnuz(float value) => new(Float8.Narrow(value, DType.Float8E4M3Fnuz, MaxValue));

    /// <summary>Equality of the values: NaN equals nothing but NaN.</summary>
    public bool Equals(Float8E4M3Fnuz other) => ((float)this).Equals(other);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Float8E4M3Fnuz other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <summary>Equality of the values.</summary>
    public static bool operator ==(Float8E4M3Fnuz left, Float8E4M3Fnuz right) => (float)left == right;

    /// <summary>Inequality of the values.</summary>
    public static bool operator !=(Float8E4M3Fnuz left, Float8E4M3Fnuz right) => (float)left != right;

    /// <inheritdoc/>
    public override string ToString() => ToString(null, CultureInfo.InvariantCulture);

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) => ((float)this).ToString(format, formatProvider);

    /// <inheritdoc/>
    public static Float8E4M3Fnuz Parse(string s, IFormatProvider? provider) => (Float8E4M3Fnuz)float.Parse(s, provider);

    /// <inheritdoc/>
    public static Float8E4M3Fnuz Parse(ReadOnlySpan<char> s, IFormatProvider? provider) => (Float8E4M3Fnuz)float.Parse(s, provider);

    /// <inheritdoc/>
    public static bool TryParse(string? s, IFormatProvider? provider, out Float8E4M3Fnuz result) =>
        TryParse(s.AsSpan(), provider, out result);

    /// <inheritdoc/>
    public static bool TryParse(ReadOnlySpan<char> s, IFormatProvider? provider, out Float8E4M3Fnuz result)
    {
        var ok = float.TryParse(s, provider, out var value);
        result = (Float8E4M3Fnuz)value;
        return ok;
    }
}
