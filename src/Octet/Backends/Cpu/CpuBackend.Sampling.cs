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
            MinP = Pointer<float>(args.MinP),
            AdjustmentStarts = Pointer<int>(args.Adjustments?.Starts ?? default),
            AdjustedTokens = Pointer<int>(args.Adjustments?.Tokens ?? default),
            Penalties = Pointer<float>(args.Adjustments?.Penalties ?? default),
            Biases = Pointer<float>(args.Adjustments?.Biases ?? default),
            Replaced = Pointer<float>(args.Workspace),
            MaskRows = Pointer<int>(args.Masks?.Rows ?? default),
            Masks = Pointer<uint>(args.Masks?.Words ?? default),
            MaskStride = args.Masks?.Words.Strides[0] ?? 0,
            LogprobCounts = Pointer<int>(args.Logprobs?.Counts ?? default),
            TokenLogprobs = Pointer<float>(args.Logprobs?.Drawn ?? default),
            TopIds = Pointer<int>(args.Logprobs?.Ids ?? default),
            TopLogprobs = Pointer<float>(args.Logprobs?.Values ?? default),
            Alternatives = args.Logprobs?.Ids.Shape[1] ?? 0,
            Vocabulary = args.Logits.Shape[1],
            Stride = args.Logits.Strides[0],
        };
        threads.For(args.Logits.Shape[0], args.Logits.ElementCount * 16, task);
    }

    public override long SamplingWorkspace(in SamplingArgs args) =>
        (args.Adjustments?.Tokens.ElementCount ?? 0) * sizeof(float);

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
        public float* Logits, Temperatures, TopP, MinP, Penalties, Biases, Replaced, TokenLogprobs, TopLogprobs;
        public int* TopK, Ids, AdjustmentStarts, AdjustedTokens, MaskRows, LogprobCounts, TopIds;
        public uint* Masks;
        public long* Seeds, Counters;
        public long Vocabulary, Stride, MaskStride, Alternatives;

        public readonly void Run(long index, CpuWorker worker)
        {
            var logits = Logits + (index * Stride);
            var count = LogprobCounts == null ? -1 : LogprobCounts[index];
            var (largest, logSum) = count >= 0 ? LogSoftmax(index, logits, Math.Min(count, Alternatives)) : default;
            var (begin, end) = AdjustmentStarts == null ? (0, 0) : (AdjustmentStarts[index], AdjustmentStarts[index + 1]);
            for (var i = begin; i < end; i++)
            {
                if ((uint)AdjustedTokens[i] < Vocabulary)
                {
                    ref var logit = ref logits[AdjustedTokens[i]];
                    Replaced[i] = logit;
                    logit = float.IsFinite(logit) ? Adjusted(logit, Penalties[i], Biases[i]) : logit;
                }
            }

            var id = Draw(index, logits);
            for (var i = begin; i < end; i++)
            {
                if ((uint)AdjustedTokens[i] < Vocabulary)
                {
                    logits[AdjustedTokens[i]] = Replaced[i];
                }
            }

            Ids[index] = id;
            if (count >= 0)
            {
                TokenLogprobs[index] = id < 0 ? float.NaN : (float)((double)logits[id] - largest - logSum);
            }
        }

        private static float Adjusted(float logit, float penalty, float bias)
        {
            var adjusted = (logit > 0f ? logit / penalty : logit * penalty) + bias;
            return adjusted > -float.MaxValue ? Math.Min(adjusted, float.MaxValue) : -float.MaxValue;
        }

        /// <summary>log(softmax(x)) is x - largest - logSum, NaN where a logit is not finite; writes the most likely tokens.</summary>
        private readonly (float Largest, double LogSum) LogSoftmax(long index, float* logits, long count)
        {
            var row = new ReadOnlySpan<float>(logits, (int)Vocabulary);
            var (largest, sum, isFinite) = (row[0], 0.0, true);
            foreach (var logit in row)
            {
                isFinite &= float.IsFinite(logit);
                largest = Math.Max(largest, logit);
            }

            foreach (var logit in row)
            {
                sum += isFinite ? Math.Exp((double)logit - largest) : 0;
            }

            var logSum = isFinite ? Math.Log(sum) : double.NaN;
            var (last, value) = (-1, float.PositiveInfinity);
            for (var place = index * Alternatives; place < (index * Alternatives) + count; place++)
            {
                // The largest of those behind the one before: smaller, or as large and later.
                var next = -1;
                for (var i = 0; i < row.Length && isFinite; i++)
                {
                    if ((row[i] < value || (row[i] == value && i > last)) && (next < 0 || row[i] > row[next]))
                    {
                        next = i;
                    }
                }

                TopIds[place] = next;
                TopLogprobs[place] = next >= 0 ? (float)((double)row[next] - largest - logSum) : isFinite ? float.NegativeInfinity : float.NaN;
                (last, value) = next >= 0 ? (next, row[next]) : (int.MaxValue, float.NegativeInfinity);
            }

            return (largest, logSum);
        }

        private readonly uint* MaskOf(long index) =>
            MaskRows == null || MaskRows[index] < 0 ? null : Masks + (MaskRows[index] * MaskStride);

        private static bool Allows(uint* mask, long token) => mask == null || ((mask[token / 32] >> (int)(token % 32)) & 1) != 0;

        /// <summary>The token of a row as its logits stand, or -1.</summary>
        private readonly int Draw(long index, float* logits)
        {
            var temperature = Temperatures[index];
            var mask = MaskOf(index);
            var (best, maximum, magnitude) = (-1L, float.NegativeInfinity, 0u);
            for (long i = 0; i < Vocabulary; i++)
            {
                // As integers, magnitudes are in order, infinity above all numbers and NaN above that.
                magnitude = Math.Max(magnitude, BitConverter.SingleToUInt32Bits(logits[i]) & 0x7FFFFFFF);
                if (logits[i] > maximum && Allows(mask, i))
                {
                    (best, maximum) = (i, logits[i]);
                }
            }

            if (best < 0 || !float.IsFinite(BitConverter.UInt32BitsToSingle(magnitude)))
            {
                return -1;
            }

            if (!(temperature > 0f))
            {
                return (int)best;
            }

            var floor = TopK[index] > 0 && TopK[index] < Vocabulary
                ? SmallestKept(logits, mask, maximum, temperature, float.NegativeInfinity, TopK[index], countOnly: true)
                : float.NegativeInfinity;
            if (TopP[index] < 1f)
            {
                var mass = 0.0;
                for (long i = 0; i < Vocabulary; i++)
                {
                    mass += logits[i] >= floor && Allows(mask, i) ? Mass(logits[i], maximum, temperature) : 0;
                }

                floor = SmallestKept(logits, mask, maximum, temperature, floor, Math.Max(TopP[index], 0f) * mass, countOnly: false);
            }

            var lowest = MinP != null && MinP[index] > 0f ? Math.Log(Math.Min(MinP[index], 1f)) : double.NegativeInfinity;
            var highest = double.NegativeInfinity;
            for (long i = 0; i < Vocabulary; i++)
            {
                var z = ((double)logits[i] - maximum) / temperature;
                if (logits[i] < floor || z < lowest || !Allows(mask, i))
                {
                    continue;
                }

                var counter = (ulong)Counters[index];
                var word = Philox((ulong)Seeds[index], (uint)i, 0, (uint)counter, (uint)(counter >> 32));
                var u = ((word >> 8) + 0.5) / (1 << 24);
                var score = z - Math.Log(-Math.Log(u));
                if (score > highest)
                {
                    (best, highest) = (i, score);
                }
            }

            return (int)best;
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
        private readonly float SmallestKept(float* logits, uint* mask, float maximum, float temperature, float floor, double wanted, bool countOnly)
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
                    if (logit >= floor && Allows(mask, i) && (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)))
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
