using Octet.Backends;

namespace Octet.Tests.Backends.Cpu;

public sealed unsafe class CpuBFloat16Tests
{
    [Fact]
    public void Rounding_gives_the_bits_of_the_operator_for_every_upper_half_and_any_count()
    {
        // Every BF16, exactly, a little more, at the tie, around it, and just below the next: with infinities and every NaN among them.
        uint[] lower = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        var x = new float[lower.Length * 65536];
        for (var i = 0; i < x.Length; i++)
        {
            x[i] = BitConverter.UInt32BitsToSingle(((uint)(i / lower.Length) << 16) | lower[i % lower.Length]);
        }

        var y = new BFloat16[x.Length];
        fixed (float* from = x)
        {
            fixed (BFloat16* to = y)
            {
                CpuBackend.Round(from, x.Length, to);
                Assert.All(Enumerable.Range(0, x.Length).Where(i => y[i].Bits != ((BFloat16)x[i]).Bits), i => Assert.Fail($"{x[i]:R} became {y[i]}"));

                for (var count = 0; count < 20; count++)
                {
                    Array.Clear(y);
                    CpuBackend.Round(from + 100_000, count, to);
                    Assert.Equal(x[100_000..(100_000 + count)].Select(v => ((BFloat16)v).Bits), y[..count].Select(v => v.Bits));
                    Assert.Equal(0, y[count].Bits);
                }
            }
        }
    }

    [Fact]
    public void Widening_is_exact_for_every_value_and_any_count()
    {
        var x = Enumerable.Range(0, 65536).Select(i => BFloat16.FromBits((ushort)i)).ToArray();
        var y = new float[x.Length];
        fixed (BFloat16* from = x)
        {
            fixed (float* to = y)
            {
                CpuBackend.Widen(from, x.Length, to);
                Assert.All(Enumerable.Range(0, x.Length), i => Assert.Equal((uint)i << 16, BitConverter.SingleToUInt32Bits(y[i])));

                for (var count = 0; count < 20; count++)
                {
                    Array.Clear(y);
                    CpuBackend.Widen(from + 1, count, to);
                    Assert.Equal(Enumerable.Range(1, count).Select(i => (uint)i << 16), y[..count].Select(BitConverter.SingleToUInt32Bits));
                    Assert.Equal(0u, BitConverter.SingleToUInt32Bits(y[count]));
                }
            }
        }
    }
}
