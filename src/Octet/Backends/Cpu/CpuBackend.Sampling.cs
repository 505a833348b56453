namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Sampling(DeviceStream stream, in SamplingArgs args)
    {
        var task = new SamplingTask
        {
            Logits = Pointer<float>(args.Logits),
            Temperatures = Pointer<float>(args.Temperatures),
            TopK = Pointer<int>(args.TopK),
            TopP = Pointer<float>(args.TopP),
            Seeds = Pointer<long>(args.Seeds),
            Counters = Pointer<long>(args.Counters),
            Ids = Pointer<int>(args.Ids),
            Vocabulary = args.Logits.Shape[1],
            Stride = args.Logits.Strides[0],
        };
        threads.For(args.Logits.Shape[0], args.Logits.ElementCount * 16, task);
    }

    public override long SamplingWorkspace(in SamplingArgs args) => 0;

    /// <summary>First word of Philox4x32-10: a cipher of the counter under the key, used as random numbers that need no state.</summary>
    /// <remarks>Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.</remarks>
    internal static uint Philox(ulong key, uint c0, uint c1, uint c2, uint c3)
    {
        var (k0, k1) = ((uint)key, (uint)(key >> 32));
        for (var round = 0; round < 10; round++)
        {
            var (low, high) = ((ulong)c0 * 0xD2511F53, (ulong)c2 * 0xCD9E8D57);
            (c0, c1, c2, c3) = ((uint)(high >> 32) ^ c1 ^ k0, (uint)high, (uint)(low >> 32) ^ c3 ^ k1, (uint)low);
            (k0, k1) = (k0 + 0x9E3779B9, k1 + 0xBB67AE85);
        }

        return c0;
    }

    /// <summary>One row.</summary>
    private struct SamplingTask : ICpuTask
    {
        public float* Logits, Temperatures, TopP;
        public int* TopK, Ids;
        public long* Seeds, Counters;
        public long Vocabulary, Stride;

        public readonly void Run(long index, CpuWorker worker)
        {
            var logits = Logits + (index * Stride);
            var temperature = Temperatures[index];
            var (best, maximum, magnitude) = (0L, logits[0], 0u);
            for (long i = 0; i < Vocabulary; i++)
            {
                // As integers, magnitudes are in order, infinity above all numbers and NaN above that.
                magnitude = Math.Max(magnitude, BitConverter.SingleToUInt32Bits(logits[i]) & 0x7FFFFFFF);
                if (logits[i] > maximum)
                {
                    (best, maximum) = (i, logits[i]);
                }
            }

            var isFinite = float.IsFinite(BitConverter.UInt32BitsToSingle(magnitude));
            if (!isFinite || !(temperature > 0f))
            {
                Ids[index] = isFinite ? (int)best : -1;
                return;
            }

            var floor = TopK[index] > 0 && TopK[index] < Vocabulary
                ? SmallestKept(logits, maximum, temperature, float.NegativeInfinity, TopK[index], countOnly: true)
                : float.NegativeInfinity;
            if (TopP[index] < 1f)
            {
                var mass = 0.0;
                for (long i = 0; i < Vocabulary; i++)
                {
                    mass += logits[i] >= floor ? Mass(logits[i], maximum, temperature) : 0;
                }

                floor = SmallestKept(logits, maximum, temperature, floor, Math.Max(TopP[index], 0f) * mass, countOnly: false);
            }

            var highest = double.NegativeInfinity;
            for (long i = 0; i < Vocabulary; i++)
            {
                if (logits[i] < floor)
                {
                    continue;
                }

                var counter = (ulong)Counters[index];
                var word = Philox((ulong)Seeds[index], (uint)i, 0, (uint)counter, (uint)(counter >> 32));
                var u = ((word >> 8) + 0.5) / (1 << 24);
                var score = (((double)logits[i] - maximum) / temperature) - Math.Log(-Math.Log(u));
                if (score > highest)
                {
                    (best, highest) = (i, score);
                }
            }

            Ids[index] = (int)best;
        }

        /// <summary>Weight of a token beside the most likely one.</summary>
        private static double Mass(float logit, float maximum, float temperature) => Math.Exp(((double)logit - maximum) / temperature);

        /// <summary>Singles as integers in the same order.</summary>
        private static uint Key(float logit)
        {
            var bits = BitConverter.SingleToUInt32Bits(logit + 0f); // -0 becomes 0: they are ties
            return (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
        }

        private static float FromKey(uint key) =>
            BitConverter.UInt32BitsToSingle((key & 0x80000000) != 0 ? key & 0x7FFFFFFF : ~key);

        /// <summary>
        /// The largest t so that the logits at least t number (or, all above floor, weigh) at least <paramref name="wanted"/>: found
        /// byte by byte, from the sums of the 256 values each byte can take.
        /// </summary>
        private readonly float SmallestKept(float* logits, float maximum, float temperature, float floor, double wanted, bool countOnly)
        {
            var sums = stackalloc double[256];
            var counts = stackalloc long[256];
            var (prefix, above) = (0u, 0.0);
            for (var shift = 24; shift >= 0; shift -= 8)
            {
                new Span<double>(sums, 256).Clear();
                new Span<long>(counts, 256).Clear();
                for (long i = 0; i < Vocabulary; i++)
                {
                    var logit = logits[i];
                    var key = Key(logit);
                    if (logit >= floor && (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)))
                    {
                        var digit = (key >> shift) & 0xFF;
                        sums[digit] += countOnly ? 1 : Mass(logit, maximum, temperature);
                        counts[digit]++;
                    }
                }

                // Where rounding leaves the sums short of what is wanted, the lowest digit in use is taken.
                var chosen = -1;
                for (var digit = 255; digit >= 0 && (chosen < 0 || above + sums[chosen] < wanted); digit--)
                {
                    if (counts[digit] > 0)
                    {
                        above += chosen < 0 ? 0 : sums[chosen];
                        chosen = digit;
                    }
                }

                prefix |= (uint)chosen << shift;
            }

            return FromKey(prefix);
        }
    }
}
