using System.Globalization;

namespace Octet.Tests.Types;

/// <summary>
/// Both FP8 encodings, exhaustively, against tables of doubles (every code and single is exact in one) made from the
/// definition: value = (-1)^s * 2^(e - bias) * (1 + m/8), or (-1)^s * 2^(1 - bias) * m/8 where e is 0.
/// </summary>
public sealed class Float8Tests
{
    public static TheoryData<DType> Encodings => [DType.Float8E4M3, DType.Float8E4M3Fnuz];

    [Theory]
    [MemberData(nameof(Encodings))]
    public void Each_code_widens_to_the_value_of_its_definition(DType encoding)
    {
        for (var code = 0; code < 256; code++)
        {
            var value = Float8.Widen((byte)code, encoding);
            if (Defined(code, encoding) is { } expected)
            {
                Assert.Equal(expected, value);
                Assert.Equal((code & 0x80) != 0, float.IsNegative(value));
            }
            else
            {
                Assert.True(float.IsNaN(value), $"code {code:X2}");
            }

            Assert.Equal(Defined(code, encoding) is null, Float8.IsNaN((byte)code, encoding));
        }
    }

    [Theory]
    [MemberData(nameof(Encodings))]
    public void Each_value_narrows_to_its_own_code(DType encoding)
    {
        for (var code = 0; code < 256; code++)
        {
            if (Defined(code, encoding) is { } value)
            {
                var single = (code & 0x80) != 0 ? -MathF.Abs((float)value) : (float)value;
                Assert.Equal((byte)code, Float8.Narrow(single, encoding, Largest(encoding)));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Encodings))]
    public void Each_midpoint_and_its_neighbours_narrow_to_the_nearest_and_ties_to_the_even_code(DType encoding)
    {
        var codes = Enumerable.Range(0, 128).Where(c => Defined(c, encoding) is not null).ToArray();
        foreach (var (low, high) in codes.Zip(codes.Skip(1)))
        {
            var middle = (float)((Defined(low, encoding)!.Value + Defined(high, encoding)!.Value) / 2);
            foreach (var value in new[] { MathF.BitDecrement(middle), middle, MathF.BitIncrement(middle) })
            {
                var expected = Nearest(value, encoding);
                Assert.Equal(expected, Float8.Narrow(value, encoding, Largest(encoding)));
                var negative = expected == 0 && encoding == DType.Float8E4M3Fnuz ? 0 : expected | 0x80;
                Assert.Equal((byte)negative, Float8.Narrow(-value, encoding, Largest(encoding)));
            }

            Assert.Equal(0, Float8.Narrow(middle, encoding, Largest(encoding)) & 1);
        }
    }

    [Theory]
    [MemberData(nameof(Encodings))]
    public void Singles_of_every_exponent_narrow_to_the_nearest(DType encoding)
    {
        var random = new Random(1);
        for (var exponent = 127 - 20; exponent < 127 + 10; exponent++)
        {
            for (var i = 0; i < 200; i++)
            {
                var value = BitConverter.Int32BitsToSingle((exponent << 23) | random.Next(1 << 23));
                Assert.Equal(Nearest(value, encoding), Float8.Narrow(value, encoding, Largest(encoding)));
            }
        }
    }

    [Theory]
    [InlineData(DType.Float8E4M3, 448f, 0x7E)]
    [InlineData(DType.Float8E4M3Fnuz, 240f, 0x7F)]
    [InlineData(DType.Float8E4M3Fnuz, 224f, 0x7E)]
    public void What_is_too_large_saturates(DType encoding, float limit, byte code)
    {
        foreach (var value in new[] { limit, limit * 1.01f, 1e30f, float.MaxValue, float.PositiveInfinity })
        {
            Assert.Equal(code, Float8.Narrow(value, encoding, limit));
            Assert.Equal(code | 0x80, Float8.Narrow(-value, encoding, limit));
        }
    }

    [Fact]
    public void NaN_narrows_to_NaN()
    {
        Assert.Equal(0x7F, Float8.Narrow(float.NaN, DType.Float8E4M3, 448f));
        Assert.Equal(0x80, Float8.Narrow(float.NaN, DType.Float8E4M3Fnuz, 240f));
        Assert.True(float.IsNaN((Float8E4M3)float.NaN));
        Assert.True(float.IsNaN((Float8E4M3Fnuz)float.NaN));
    }

    [Fact]
    public void Negative_zero_is_kept_by_OCP_and_is_zero_in_FNUZ()
    {
        Assert.Equal(0x80, Float8.Narrow(-0f, DType.Float8E4M3, 448f));
        Assert.Equal(0x00, Float8.Narrow(-0f, DType.Float8E4M3Fnuz, 240f));
        Assert.Equal(0x00, Float8.Narrow(-1e-10f, DType.Float8E4M3Fnuz, 240f));
    }

    [Fact]
    public void Same_code_means_half_in_FNUZ()
    {
        for (var code = 0; code < 256; code++)
        {
            if (Defined(code, DType.Float8E4M3) is { } value && code != 0x80)
            {
                Assert.Equal(value / 2, Float8.Widen((byte)code, DType.Float8E4M3Fnuz));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Encodings))]
    public void Scale_is_amax_over_the_limit_and_1_where_that_is_0(DType encoding)
    {
        Assert.Equal(3f / (encoding == DType.Float8E4M3 ? 448f : 224f), Float8.Scale(3f, encoding));
        Assert.Equal(1f, Float8.Scale(0f, encoding));
        Assert.Equal(1f, Float8.Scale(float.Epsilon, encoding));
    }

    [Fact]
    public void Each_code_is_read_back_from_its_text()
    {
        for (var code = 0; code < 256; code++)
        {
            var ocp = Float8E4M3.FromCode((byte)code);
            Assert.Equal(ocp, Float8E4M3.Parse(ocp.ToString(), CultureInfo.InvariantCulture));
            Assert.True(Float8E4M3.TryParse(ocp.ToString().AsSpan(), CultureInfo.InvariantCulture, out var readOcp));
            Assert.Equal(float.IsNaN(ocp) ? 0x7F : code, readOcp.Code & (float.IsNaN(ocp) ? 0x7F : 0xFF));
            var fnuz = Float8E4M3Fnuz.FromCode((byte)code);
            Assert.Equal(code, Float8E4M3Fnuz.Parse(fnuz.ToString(), CultureInfo.InvariantCulture).Code);
            Assert.True(Float8E4M3Fnuz.TryParse(fnuz.ToString(), CultureInfo.InvariantCulture, out var readFnuz));
            Assert.Equal(code, readFnuz.Code);
        }
    }

    [Fact]
    public void Text_that_is_no_number_is_refused()
    {
        Assert.False(Float8E4M3.TryParse("four", CultureInfo.InvariantCulture, out _));
        Assert.False(Float8E4M3Fnuz.TryParse("", CultureInfo.InvariantCulture, out _));
        Assert.Throws<FormatException>(() => Float8E4M3.Parse("0x38", CultureInfo.InvariantCulture));
    }

    [Fact]
    public void Equality_is_of_values_and_NaN_equals_NaN_in_Equals_alone()
    {
        var (zero, negativeZero) = (Float8E4M3.FromCode(0), Float8E4M3.FromCode(0x80));
        Assert.True(zero == negativeZero);
        Assert.True(zero.Equals(negativeZero));
        Assert.Equal(zero.GetHashCode(), negativeZero.GetHashCode());
        var (nan, otherNaN) = (Float8E4M3.FromCode(0x7F), Float8E4M3.FromCode(0xFF));
        Assert.True(nan != otherNaN);
        Assert.True(nan.Equals(otherNaN));
        Assert.Equal(nan.GetHashCode(), otherNaN.GetHashCode());
        Assert.False(Float8E4M3Fnuz.FromCode(1) == Float8E4M3Fnuz.FromCode(0x81));
    }

    private static float Largest(DType encoding) => encoding == DType.Float8E4M3 ? 448f : 240f;

    /// <summary>The exact value of a code; null: NaN.</summary>
    private static double? Defined(int code, DType encoding)
    {
        var fnuz = encoding == DType.Float8E4M3Fnuz;
        if (fnuz ? code == 0x80 : (code & 0x7F) == 0x7F)
        {
            return null;
        }

        var (exponent, mantissa) = ((code >> 3) & 15, code & 7);
        var bias = fnuz ? 8 : 7;
        var value = exponent == 0 ? mantissa / 8.0 : 1 + (mantissa / 8.0);
        for (var power = Math.Max(exponent, 1); power < bias; power++)
        {
            value /= 2;
        }

        for (var power = bias; power < exponent; power++)
        {
            value *= 2;
        }

        return (code & 0x80) != 0 ? -value : value;
    }

    /// <summary>The code of the nearest value of all, by search; of two as near, the even one.</summary>
    private static byte Nearest(float value, DType encoding)
    {
        double exact = value;
        return (byte)Enumerable.Range(0, 128)
            .Where(c => Defined(c, encoding) is not null)
            .OrderBy(c => Math.Abs(Defined(c, encoding)!.Value - exact))
            .ThenBy(c => c & 1)
            .First();
    }
}
