using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

/// <summary>The tree of <see cref="SumTree"/> over rows of singles, as many sums at a time as a vector has lanes: every node is rounded to BF16 and widened again.</summary>
internal static unsafe class CpuTree
{
    /// <summary>root[i] = the tree over leaf[0][i], leaf[1][i], ..., each rounded first; the leaves are not kept.</summary>
    /// <param name="leaves">[count, length], rows <paramref name="stride"/> apart.</param>
    /// <param name="stride">Singles between leaves.</param>
    /// <param name="count">1, 2, 4 or 8.</param>
    /// <param name="length">Sums.</param>
    /// <param name="root">[length]; may be the first leaf.</param>
    public static void Root(float* leaves, long stride, int count, long length, float* root)
    {
        if (count == 1)
        {
            Round(leaves, length, root);
        }

        for (var step = 1; step < count; step *= 2)
        {
            for (var node = 0; node < count; node += 2 * step)
            {
                var left = leaves + (node * stride);
                Add(left, left + (step * stride), length, 2 * step == count ? root : left);
            }
        }
    }

    // node[i] = left[i] + right[i]. A node that is rounded again stays as it is.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add(float* left, float* right, long length, float* node)
    {
        long i = 0;
        for (; Vector512.IsHardwareAccelerated && i + Vector512<float>.Count <= length; i += Vector512<float>.Count)
        {
            Round(Round(Vector512.Load(left + i)) + Round(Vector512.Load(right + i))).Store(node + i);
        }

        for (; i + Vector256<float>.Count <= length; i += Vector256<float>.Count)
        {
            Round(Round(Vector256.Load(left + i)) + Round(Vector256.Load(right + i))).Store(node + i);
        }

        for (; i < length; i++)
        {
            node[i] = SumTree.Node((BFloat16)left[i], (BFloat16)right[i]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Round(float* x, long length, float* rounded)
    {
        long i = 0;
        for (; i + Vector256<float>.Count <= length; i += Vector256<float>.Count)
        {
            Round(Vector256.Load(x + i)).Store(rounded + i);
        }

        for (; i < length; i++)
        {
            rounded[i] = (BFloat16)x[i];
        }
    }

    /// <summary>To BF16, to the nearest, ties to even, and back; NaN keeps its sign and upper bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Round(Vector256<float> x)
    {
        var bits = x.AsUInt32();
        var odd = Vector256.ShiftRightLogical(bits, 16) & Vector256<uint>.One;
        var rounded = Vector256.ConditionalSelect(
            Vector256.Equals(x, x).AsUInt32(), bits + Vector256.Create(0x7FFFu) + odd, bits | Vector256.Create(0x400000u));
        return (rounded & Vector256.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Round(Vector512<float> x)
    {
        var bits = x.AsUInt32();
        var odd = Vector512.ShiftRightLogical(bits, 16) & Vector512<uint>.One;
        var rounded = Vector512.ConditionalSelect(
            Vector512.Equals(x, x).AsUInt32(), bits + Vector512.Create(0x7FFFu) + odd, bits | Vector512.Create(0x400000u));
        return (rounded & Vector512.Create(0xFFFF0000u)).AsSingle();
    }
}
