using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

/// <summary>The weighted sum of each token's slots: within a leaf in ascending order of slot, over leaves by the tree.</summary>
internal unsafe struct CpuSlotSums
{
    private const int MaxTopK = 16;

    public BFloat16* Y;
    public int* PairSlots, PairExperts;
    public float* Weights;
    public long Slots, Hidden, YStride;
    public int TopK, FirstExpert, LeafExperts, Leaves;

    /// <summary>A token's sum, rounded to BF16.</summary>
    /// <param name="token">The token.</param>
    /// <param name="sum">[leaves, hidden]: the first row gets the sum, the others are room for leaves.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Load(long token, float* sum)
    {
        var first = token * TopK;
        var pairs = stackalloc long[MaxTopK];
        var count = 0;
        for (var pair = first; pair < first + TopK; pair++)
        {
            if (PairSlots[pair] < 0 || PairSlots[pair] >= Slots)
            {
                continue;
            }

            // Stable: of equal slots the lower choice comes first.
            var at = count++;
            for (; at > 0 && PairSlots[pairs[at - 1]] > PairSlots[pair]; at--)
            {
                pairs[at] = pairs[at - 1];
            }

            pairs[at] = pair;
        }

        new Span<float>(sum, checked((int)(Leaves * Hidden))).Clear();
        for (var i = 0; i < count; i++)
        {
            var pair = pairs[i];
            var leaf = Leaves == 1 ? 0 : LeafOf(PairExperts[pair]);
            if (leaf >= 0 && leaf < Leaves)
            {
                Add(Y + (PairSlots[pair] * YStride), Weights[pair], Hidden, sum + (leaf * Hidden));
            }
        }

        CpuTree.Root(sum, Hidden, Leaves, Hidden, sum);
    }

    private readonly long LeafOf(int expert) => expert < FirstExpert ? -1 : ((long)expert - FirstExpert) / LeafExperts;

    /// <summary>sum += weight * y, rounded after each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add(BFloat16* y, float weight, long length, float* sum)
    {
        var weights = Vector256.Create(weight);
        long i = 0;
        for (; i + Vector256<float>.Count <= length; i += Vector256<float>.Count)
        {
            var (low, high) = Vector128.Widen(Vector128.Load((ushort*)y + i));
            var values = Vector256.ShiftLeft(Vector256.Create(low, high), 16).AsSingle();
            (Vector256.Load(sum + i) + (weights * values)).Store(sum + i);
        }

        for (; i < length; i++)
        {
            sum[i] += weight * y[i];
        }
    }
}
