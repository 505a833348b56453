using System.Globalization;

namespace Octet.Tests.Types;

public sealed class BFloat16Tests
{
    [Fact]
    public void Each_of_the_65536_values_survives_widening_and_narrowing()
    {
        for (var bits = 0; bits < 65536; bits++)
        {
            var value = BFloat16.FromBits((ushort)bits);
            var back = (BFloat16)(float)value;
            if (float.IsNaN(value))
            {
                Assert.True(float.IsNaN(back), $"{bits:X4}");
            }
            else
            {
                Assert.Equal(bits, back.Bits);
            }
        }
    }

    [Fact]
    public void Each_midpoint_and_its_neighbours_narrow_to_the_nearest_and_ties_to_even()
    {
        // All positive finite values and their successors; the last one's successor would be 2^128, that is infinity.
        for (var bits = 0; bits < 0x7F80; bits++)
        {
            double low = BFloat16.FromBits((ushort)bits);
            double high = bits == 0x7F7F ? Math.Pow(2, 128) : BFloat16.FromBits((ushort)(bits + 1));
            var middle = (float)((low + high) / 2);
            var even = (bits & 1) == 0 ? bits : bits + 1;
            Assert.Equal(even, ((BFloat16)middle).Bits);
            Assert.Equal(even | 0x8000, ((BFloat16)(-middle)).Bits);
            Assert.Equal(bits, ((BFloat16)MathF.BitDecrement(middle)).Bits);
            Assert.Equal(bits + 1, ((BFloat16)MathF.BitIncrement(middle)).Bits);
        }
    }

    [Fact]
    public void Infinities_stay_and_NaN_never_becomes_one()
    {
        Assert.Equal(0x7F80, ((BFloat16)float.PositiveInfinity).Bits);
        Assert.Equal(0xFF80, ((BFloat16)float.NegativeInfinity).Bits);
        Assert.True(float.IsNaN((BFloat16)BitConverter.UInt32BitsToSingle(0x7F800001)));
        Assert.True(float.IsNaN((BFloat16)BitConverter.UInt32BitsToSingle(0xFFFFFFFF)));
    }

    [Fact]
    public void Text_is_read_back()
    {
        for (var bits = 0; bits < 65536; bits += 7)
        {
            var value = BFloat16.FromBits((ushort)bits);
            Assert.Equal(value, BFloat16.Parse(value.ToString(), CultureInfo.InvariantCulture));
        }

        Assert.False(BFloat16.TryParse("one", CultureInfo.InvariantCulture, out _));
    }

    [Fact]
    public void Equality_is_of_values()
    {
        Assert.True(BFloat16.FromBits(0) == BFloat16.FromBits(0x8000));
        Assert.True(BFloat16.FromBits(0x7FC0) != BFloat16.FromBits(0x7FC0));
        Assert.True(BFloat16.FromBits(0x7FC0).Equals(BFloat16.FromBits(0xFFC0)));
        Assert.Equal(BFloat16.FromBits(0).GetHashCode(), BFloat16.FromBits(0x8000).GetHashCode());
    }
}
