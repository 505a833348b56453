using System.Globalization;

namespace Octet;

/// <summary>FP8 E4M3 in the OCP encoding (E4M3FN): bias 7, max 448, no infinity, NaN 0x7F and 0xFF. Checkpoints, NVIDIA, gfx950.</summary>
/// <remarks>Quantisation to blocks saturates at 448: <see cref="Float8.Limit"/>.</remarks>
public readonly struct Float8E4M3 : IEquatable<Float8E4M3>, IFormattable, ISpanParsable<Float8E4M3>
{
    private readonly byte _code;

    private Float8E4M3(byte code) => _code = code;

    /// <summary>The largest finite value, 448.</summary>
    public const float MaxValue = 448f;

    /// <summary>The value with this code.</summary>
    public static Float8E4M3 FromCode(byte code) => new(code);

    /// <summary>The 8 bits.</summary>
    public byte Code => _code;

    /// <summary>Exact widening.</summary>
    public static implicit operator float(Float8E4M3 value) => Float8.Widen(value._code, DType.Float8E4M3);

    /// <summary>Narrowing to nearest even, saturated at 448; NaN stays NaN.</summary>
    public static explicit operator Float8E4M3(float value) => new(Float8.Narrow(value, DType.Float8E4M3, MaxValue));

    /// <summary>Equality of the values: NaN equals nothing but NaN.</summary>
    public bool Equals(Float8E4M3 other) => ((float)this).Equals(other);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Float8E4M3 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <summary>Equality of the values.</summary>
    public static bool operator ==(Float8E4M3 left, Float8E4M3 right) => (float)left == right;

    /// <summary>Inequality of the values.</summary>
    public static bool operator !=(Float8E4M3 left, Float8E4M3 right) => (float)left != right;

    /// <inheritdoc/>
    public override string ToString() => ToString(null, CultureInfo.InvariantCulture);

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) => ((float)this).ToString(format, formatProvider);

    /// <inheritdoc/>
    public static Float8E4M3 Parse(string s, IFormatProvider? provider) => (Float8E4M3)float.Parse(s, provider);

    /// <inheritdoc/>
    public static Float8E4M3 Parse(ReadOnlySpan<char> s, IFormatProvider? provider) => (Float8E4M3)float.Parse(s, provider);

    /// <inheritdoc/>
    public static bool TryParse(string? s, IFormatProvider? provider, out Float8E4M3 result) =>
        TryParse(s.AsSpan(), provider, out result);

    /// <inheritdoc/>
    public static bool TryParse(ReadOnlySpan<char> s, IFormatProvider? provider, out Float8E4M3 result)
    {
        var ok = float.TryParse(s, provider, out var value);
        result = (Float8E4M3)value;
        return ok;
    }
}
