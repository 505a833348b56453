using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Sampling(DeviceStream stream, in SamplingArgs args) =>
        _sampling.Launch(Stream(stream), args.Logits.Shape[0], _shape.Threads, new SamplingKernel
        {
            Logits = View<float>(args.Logits),
            Temperatures = View<float>(args.Temperatures),
            TopK = View<int>(args.TopK),
            TopP = View<float>(args.TopP),
            Seeds = View<long>(args.Seeds),
            Counters = View<long>(args.Counters),
            Ids = View<int>(args.Ids),
            MinP = View<float>(args.MinP),
            AdjustmentStarts = View<int>(args.Adjustments?.Starts ?? default),
            AdjustedTokens = View<int>(args.Adjustments?.Tokens ?? default),
            Penalties = View<float>(args.Adjustments?.Penalties ?? default),
            Biases = View<float>(args.Adjustments?.Biases ?? default),
            Replaced = View<float>(args.Workspace),
            MaskRows = View<int>(args.Masks?.Rows ?? default),
            Masks = View<uint>(args.Masks?.Words ?? default),
            MaskStride = args.Masks?.Words.Strides[0] ?? 0,
            LogprobCounts = View<int>(args.Logprobs?.Counts ?? default),
            TokenLogprobs = View<float>(args.Logprobs?.Drawn ?? default),
            TopIds = View<int>(args.Logprobs?.Ids ?? default),
            TopLogprobs = View<float>(args.Logprobs?.Values ?? default),
            Alternatives = args.Logprobs?.Ids.Shape[1] ?? 0,
            Rows = args.Logits.Shape[0],
            Vocabulary = args.Logits.Shape[1],
            Stride = args.Logits.Strides[0],
        });

    /// <inheritdoc/>
    public override long SamplingWorkspace(in SamplingArgs args) => (args.Adjustments?.Tokens.ElementCount ?? 0) * sizeof(float);
}

/// <summary>
/// The arg max, or a draw by temperature, top-k, top-p and min-p, among the tokens a mask allows: a group for each row. Adjusted logits
/// stand in the row while it is drawn from. What is kept lies above a threshold, found two
/// bits at a time on the logits as ordered integers; weights are whole numbers, so their sums have no order. The draw is the arg
/// max of (logit - largest) / temperature - log(-log(u)), u from Philox4x32-10 (Salmon et al., 2011).
/// </summary>
internal struct SamplingKernel
{
    public ArrayView<float> Logits;       // [rows, vocabulary]
    public ArrayView<float> Temperatures; // [rows]
    public ArrayView<int> TopK;           // [rows]
    public ArrayView<float> TopP;         // [rows]
    public ArrayView<long> Seeds;         // [rows]
    public ArrayView<long> Counters;      // [rows]
    public ArrayView<int> Ids;            // [rows]
    public ArrayView<float> MinP;         // [rows]; empty: 0

    // Empty, starts and counts: none.
    public ArrayView<int> AdjustmentStarts, AdjustedTokens; // [rows + 1], [adjustments]
    public ArrayView<float> Penalties, Biases, Replaced;    // [adjustments]
    public ArrayView<int> MaskRows;        // [rows]
    public ArrayView<uint> Masks;          // [any, ceil(vocabulary/32)]
    public ArrayView<int> LogprobCounts;   // [rows]
    public ArrayView<float> TokenLogprobs; // [rows]
    public ArrayView<int> TopIds;          // [rows, alternatives]
    public ArrayView<float> TopLogprobs;   // [rows, alternatives]
    public long Rows, Vocabulary, Stride, MaskStride, Alternatives;

    private const float WeightUnit = 1099511627776f; // 2^40: 2^20 tokens still sum within 64 bits

    public static void Run(SamplingKernel args)
    {
        var keys = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        var indices = SharedMemory.Allocate<long>(IlgpuShape.MaxThreads);
        var sums = SharedMemory.Allocate<ulong>(3 * IlgpuShape.MaxThreads);
        for (long row = Grid.IdxX; row < args.Rows; row += Grid.DimX)
        {
            var count = args.LogprobCounts.Length > 0 ? args.LogprobCounts[row] : -1;
            var (largest, logSum) = (0f, 0f);
            if (count >= 0)
            {
                largest = args.Largest(row, keys, indices);
                logSum = args.LogSum(row, largest, sums);
                args.MostLikely(row, count < args.Alternatives ? count : args.Alternatives, largest, logSum, keys, indices);
            }

            var adjusts = args.AdjustmentStarts.Length > 0 && args.AdjustmentStarts[row] < args.AdjustmentStarts[row + 1];
            if (adjusts)
            {
                args.Adjust(row, 1);
            }

            var id = args.Draw(row, keys, indices, sums);
            if (adjusts)
            {
                args.Adjust(row, 0);
            }

            if (Group.IdxX == 0)
            {
                args.Ids[row] = (int)id;
                if (count >= 0)
                {
                    args.TokenLogprobs[row] = id < 0 ? Bits.NaN : args.Logit(row, id) - largest - logSum;
                }
            }

            GroupWork.Sync();
        }
    }

    /// <summary>Adjusts the logits of the row, keeping what they were, or puts that back.</summary>
    private readonly void Adjust(long row, int adjusts)
    {
        GroupWork.Sync();
        for (long i = AdjustmentStarts[row] + Group.IdxX; i < AdjustmentStarts[row + 1]; i += Group.DimX)
        {
            var token = AdjustedTokens[i];
            if (token >= 0 && token < Vocabulary)
            {
                var place = (row * Stride) + token;
                if (adjusts == 0)
                {
                    Logits[place] = Replaced[i];
                }
                else
                {
                    var logit = Logits[place];
                    Replaced[i] = logit;
                    Logits[place] = Bits.IsFinite(logit) ? Adjusted(logit, Penalties[i], Biases[i]) : logit;
                }
            }
        }

        MemoryFence.GroupLevel();
        GroupWork.Sync();
    }

    private static float Adjusted(float logit, float penalty, float bias)
    {
        var adjusted = (logit > 0f ? logit / penalty : logit * penalty) + bias;
        return !(adjusted > -float.MaxValue) ? -float.MaxValue : adjusted < float.MaxValue ? adjusted : float.MaxValue;
    }

    /// <summary>Whether the row's mask, if it has one, lets a token through.</summary>
    private readonly bool Allows(long row, long token)
    {
        var mask = MaskRows.Length > 0 ? MaskRows[row] : -1;
        return mask < 0 || ((Masks[(mask * MaskStride) + (token >> 5)] >> (int)(token & 31)) & 1u) != 0u;
    }

    /// <summary>The largest logit of the row, infinity where one is not finite.</summary>
    private readonly float Largest(long row, ArrayView<float> keys, ArrayView<long> indices)
    {
        var (best, largest) = (-1L, 0f);
        for (long i = Group.IdxX; i < Vocabulary; i += Group.DimX)
        {
            var logit = Logit(row, i);
            if (best < 0 || logit > largest)
            {
                (best, largest) = (i, logit);
            }
        }

        return Logit(row, Best(best, largest, keys, indices));
    }

    /// <summary>The logarithm of the sum of exp(logit - largest), NaN where a logit is not finite.</summary>
    private readonly float LogSum(long row, float largest, ArrayView<ulong> sums)
    {
        if (!Bits.IsFinite(largest))
        {
            return Bits.NaN;
        }

        var total = 0UL;
        for (long i = Group.IdxX; i < Vocabulary; i += Group.DimX)
        {
            total += (ulong)(XMath.Exp(Logit(row, i) - largest) * WeightUnit);
        }

        // Signed: C# turns an unsigned number into a double first.
        return XMath.Log((long)Sum(total, 0UL, 0UL, sums).X / WeightUnit);
    }

    /// <summary>Writes the most likely tokens: each the largest of those behind the one before.</summary>
    private readonly void MostLikely(long row, long count, float largest, float logSum, ArrayView<float> keys, ArrayView<long> indices)
    {
        var (last, value) = (-1L, Bits.PositiveInfinity);
        for (long place = 0; place < count; place++)
        {
            var (next, highest) = (-1L, 0f);
            for (long i = Group.IdxX; i < Vocabulary && Bits.IsFinite(largest); i += Group.DimX)
            {
                var logit = Logit(row, i);
                if ((logit < value || (logit == value && i > last)) && (next < 0 || logit > highest))
                {
                    (next, highest) = (i, logit);
                }
            }

            next = Best(next, highest, keys, indices);
            value = next < 0 ? Bits.NegativeInfinity : Logit(row, next);
            last = next;
            if (Group.IdxX == 0)
            {
                TopIds[(row * Alternatives) + place] = (int)next;
                TopLogprobs[(row * Alternatives) + place] = !Bits.IsFinite(largest) ? Bits.NaN : value - largest - logSum;
            }
        }
    }

    /// <summary>The token of the row as its logits stand, or -1.</summary>
    private readonly long Draw(long row, ArrayView<float> keys, ArrayView<long> indices, ArrayView<ulong> sums)
    {
        var (temperature, topK, topP) = (Temperatures[row], TopK[row], TopP[row]);
        var (best, largest) = (-1L, 0f);
        for (long i = Group.IdxX; i < Vocabulary; i += Group.DimX)
        {
            var logit = Logit(row, i);
            if ((best < 0 || logit > largest) && (!Bits.IsFinite(logit) || Allows(row, i)))
            {
                (best, largest) = (i, logit);
            }
        }

        best = Best(best, largest, keys, indices);
        if (best < 0)
        {
            return -1;
        }

        largest = Logit(row, best);
        if (!Bits.IsFinite(largest))
        {
            return -1;
        }

        if (!(temperature > 0f))
        {
            return best;
        }

        var weights = new Weights { Largest = largest, Temperature = temperature, Floor = 0, CountsOnly = 1 };
        if (topK > 0 && topK < Vocabulary)
        {
            weights.Floor = Threshold(row, weights, (ulong)topK, sums);
        }

        if (topP < 1f)
        {
            weights.CountsOnly = 0;
            weights.Floor = Threshold(row, weights, Target(row, weights, topP, sums), sums);
        }

        var minP = MinP.Length > 0 ? MinP[row] : 0f;
        var lowest = minP > 0f ? XMath.Log(minP < 1f ? minP : 1f) : Bits.NegativeInfinity;
        return Draw(row, weights, lowest, keys, indices);
    }

    /// <summary>-0 counts as 0, and whatever is not finite as infinity: the largest, so that the search for that finds it.</summary>
    private readonly float Logit(long row, long index)
    {
        var logit = Logits[(row * Stride) + index];
        return !Bits.IsFinite(logit) ? Bits.PositiveInfinity : logit == 0f ? 0f : logit;
    }

    /// <summary>Singles as integers in the same order.</summary>
    private static uint Key(float logit)
    {
        var bits = Interop.FloatAsInt(logit);
        return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    }

    /// <summary>The part of top_p of all weights, at least 1.</summary>
    private readonly ulong Target(long row, Weights weights, float topP, ArrayView<ulong> sums)
    {
        var total = 0UL;
        for (long i = Group.IdxX; i < Vocabulary; i += Group.DimX)
        {
            total += Allows(row, i) ? weights.Of(Logit(row, i)) : 0UL;
        }

        total = Sum(total, 0UL, 0UL, sums).X;

        // topP times a 64-bit number by its halves, each exact in 24 and more bits.
        var share = topP > 0f ? (ulong)(topP * 16777216f) : 0UL;
        var target = ((total >> 24) * share) + (((total & 0xFFFFFF) * share) >> 24);
        return target > 0UL ? target : 1UL;
    }

    /// <summary>The largest key so that the logits at least that weigh at least <paramref name="wanted"/>.</summary>
    private readonly uint Threshold(long row, Weights weights, ulong wanted, ArrayView<ulong> sums)
    {
        var threshold = 0u;
        for (var shift = 30; shift >= 0; shift -= 2)
        {
            var (low, middle, high) = (threshold | (1u << shift), threshold | (2u << shift), threshold | (3u << shift));
            var (aboveLow, aboveMiddle, aboveHigh) = (0UL, 0UL, 0UL);
            for (long i = Group.IdxX; i < Vocabulary; i += Group.DimX)
            {
                var logit = Logit(row, i);
                var key = Key(logit);
                if (key >= low && Allows(row, i))
                {
                    var weight = weights.Of(logit);
                    aboveLow += weight;
                    aboveMiddle += key >= middle ? weight : 0UL;
                    aboveHigh += key >= high ? weight : 0UL;
                }
            }

            var above = Sum(aboveLow, aboveMiddle, aboveHigh, sums);
            threshold = above.Z >= wanted ? high : above.Y >= wanted ? middle : above.X >= wanted ? low : threshold;
        }

        return threshold;
    }

    /// <summary>The index of the highest score among those kept; the lowest of equals.</summary>
    private readonly long Draw(long row, Weights weights, float lowest, ArrayView<float> keys, ArrayView<long> indices)
    {
        var (best, highest) = (-1L, 0f);
        for (long i = Group.IdxX; i < Vocabulary; i += Group.DimX)
        {
            var logit = Logit(row, i);
            var key = Key(logit);
            var exponent = weights.Exponent(logit);
            if (key >= weights.Floor && !(exponent < lowest) && Allows(row, i))
            {
                var score = exponent + Gumbel(Philox((ulong)Seeds[row], (ulong)Counters[row], (uint)i));
                if (best < 0 || score > highest)
                {
                    (best, highest) = (i, score);
                }
            }
        }

        return Best(best, highest, keys, indices);
    }

    /// <summary>-log(-log(u)), u = ((word >> 8) + 0.5) / 2^24; next to 1, where the winners are, from 1 - u, which singles hold exactly.</summary>
    private static float Gumbel(uint word)
    {
        var n = (int)(word >> 8); // signed: C# turns an unsigned number into a double first
        var rest = ((2 * (0xFFFFFF - n)) + 1) * 2.98023223876953125e-8f; // 1 - u
        float exponential;
        if (rest < 0.0625f)
        {
            // -log(1 - v) = 2 atanh(v / (2 - v))
            var s = rest / (2f - rest);
            exponential = 2f * s * (1f + (s * s * ((1f / 3f) + (s * s * (1f / 5f)))));
        }
        else
        {
            exponential = -XMath.Log((n + 0.5f) * 5.9604644775390625e-8f);
        }

        return -XMath.Log(exponential);
    }

    private static uint Philox(ulong key, ulong counter, uint index)
    {
        var (c0, c1, c2, c3) = (index, 0u, (uint)counter, (uint)(counter >> 32));
        var (k0, k1) = ((uint)key, (uint)(key >> 32));
        for (var round = 0; round < 10; round++)
        {
            var (low, high) = (c0 * 0xD2511F53UL, c2 * 0xCD9E8D57UL);
            (c0, c1, c2, c3) = ((uint)(high >> 32) ^ c1 ^ k0, (uint)high, (uint)(low >> 32) ^ c3 ^ k1, (uint)low);
            (k0, k1) = (k0 + 0x9E3779B9u, k1 + 0xBB67AE85u);
        }

        return c0;
    }

    /// <summary>The index of the largest value among one for each thread (-1: none), the lowest of equals.</summary>
    private static long Best(long index, float value, ArrayView<float> values, ArrayView<long> indices)
    {
        GroupWork.Sync();
        (values[Group.IdxX], indices[Group.IdxX]) = (value, index);
        GroupWork.Sync();
        for (var half = Group.DimX / 2; half > 0; half /= 2)
        {
            if (Group.IdxX < half)
            {
                var (mine, other) = (Group.IdxX, Group.IdxX + half);
                var isBetter = indices[other] >= 0
                    && (indices[mine] < 0 || values[other] > values[mine]
                        || (values[other] == values[mine] && indices[other] < indices[mine]));
                if (isBetter)
                {
                    (values[mine], indices[mine]) = (values[other], indices[other]);
                }
            }

            GroupWork.Sync();
        }

        return indices[0];
    }

    /// <summary>Three sums over the group.</summary>
    private static Three Sum(ulong x, ulong y, ulong z, ArrayView<ulong> scratch)
    {
        GroupWork.Sync();
        var own = 3 * Group.IdxX;
        (scratch[own], scratch[own + 1], scratch[own + 2]) = (x, y, z);
        GroupWork.Sync();
        for (var half = Group.DimX / 2; half > 0; half /= 2)
        {
            for (var i = 0; i < 3 && Group.IdxX < half; i++)
            {
                scratch[own + i] += scratch[own + (3 * half) + i];
            }

            GroupWork.Sync();
        }

        return new() { X = scratch[0], Y = scratch[1], Z = scratch[2] };
    }

    private struct Three
    {
        public ulong X, Y, Z;
    }

    /// <summary>What a logit weighs: 1 for top-k, its unnormalised probability for top-p, 0 below the floor.</summary>
    private struct Weights
    {
        public float Largest, Temperature;
        public uint Floor;
        public int CountsOnly;

        /// <summary>(logit - largest) / temperature, 0 for the largest whatever the temperature.</summary>
        public readonly float Exponent(float logit) => logit == Largest ? 0f : (logit - Largest) / Temperature;

        public readonly ulong Of(float logit)
        {
            var weight = CountsOnly != 0 ? 1UL : (ulong)(XMath.Exp(Exponent(logit)) * WeightUnit);
            return Key(logit) >= Floor ? weight : 0UL;
        }
    }
}
