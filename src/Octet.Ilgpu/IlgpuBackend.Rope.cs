using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Rope(DeviceStream stream, in RopeArgs args)
    {
        if (args.Cache.K.DType == DType.BFloat16)
        {
            Rope(stream, in args, _ropeBFloat16);
        }
        else
        {
            Rope(stream, in args, _ropeFloat8);
        }
    }

    private void Rope<T>(DeviceStream stream, in RopeArgs args, IlgpuKernel<RopeKernel<T>> kernel) where T : unmanaged
    {
        var (tokens, heads) = (args.Q.Shape[0], args.Q.Shape[1] + (2 * args.Cache.KvHeads));
        var (cosSin, cosSinFirst) = _memory.Claim<float>(args.CosSin);
        kernel.Launch(Stream(stream), tokens * heads, Math.Min(_shape.Threads, args.Cache.HeadDim / 2), new RopeKernel<T>
        {
            Cache = Cache<T>(args.Cache),
            Q = View<ushort>(args.Q),
            K = View<ushort>(args.K),
            V = View<ushort>(args.V),
            QNorm = View<ushort>(args.QNorm),
            KNorm = View<ushort>(args.KNorm),
            CosSin = cosSin,
            CosSinFirst = cosSinFirst,
            Positions = View<int>(args.Positions),
            Slots = View<long>(args.Slots),
            QOutput = View<ushort>(args.QOutput),
            Tokens = tokens,
            QHeads = args.Q.Shape[1],
            MaxPosition = args.CosSin.Shape[0],
            RotaryDim = (int)args.CosSin.Shape[1],
            NormsProjection = args.NormsProjection ? 1 : 0,
            QStride = args.Q.Strides[0],
            KStride = args.K.Strides[0],
            VStride = args.V.Strides[0],
            QOutputStride = args.QOutput.Strides[0],
            Eps = args.Eps,
        });
    }

    private CacheView<T> Cache<T>(KvCache cache) where T : unmanaged
    {
        var ((k, kFirst), (v, vFirst)) = (_memory.Claim<T>(cache.K), _memory.Claim<T>(cache.V));
        return new()
        {
            K = k,
            V = v,
            KFirst = kFirst,
            VFirst = vFirst,
            KScales = View<float>(cache.KScales),
            VScales = View<float>(cache.VScales),
            Blocks = cache.Blocks,
            KvHeads = cache.KvHeads,
            BlockSize = cache.BlockSize,
            HeadDim = cache.HeadDim,
        };
    }
}

/// <summary>
/// QK-norm, rotary embedding and the write into the cache: a group for each head of a token, q heads first, then k, then v. A
/// thread has elements i and i + rotary_dim/2, which are rotated together, and some of those that are not rotated.
/// </summary>
internal struct RopeKernel<T> where T : unmanaged
{
    private const int MaxHeadDim = 128;

    public CacheView<T> Cache;
    public ArrayView<ushort> Q, K, V;      // [tokens, heads, head_dim] BF16
    public ArrayView<ushort> QNorm, KNorm; // [head_dim], or [heads, head_dim] BF16; empty: no norm
    public ArrayView<float> CosSin;        // [max_position, rotary_dim]
    public ArrayView<int> Positions;       // [tokens]
    public ArrayView<long> Slots;          // [tokens]
    public ArrayView<ushort> QOutput;      // [tokens, q_heads, head_dim] BF16
    public long CosSinFirst;               // index of its first element; negative if it claims rows before
    public long Tokens, QHeads, MaxPosition, QStride, KStride, VStride, QOutputStride;
    public float Eps;
    public int RotaryDim, NormsProjection;

    public static void Run<TElement>(RopeKernel<T> args) where TElement : struct, IElement<T>
    {
        var scratch = SharedMemory.Allocate<float>(MaxHeadDim);
        var (dim, heads) = (args.Cache.HeadDim, args.QHeads + (2 * args.Cache.KvHeads));
        for (long work = Grid.IdxX; work < args.Tokens * heads; work += Grid.DimX)
        {
            var (token, head) = (work / heads, work % heads);
            var slot = args.Slots[token];
            if (head < args.QHeads)
            {
                var output = (token * args.QOutputStride) + (head * dim);
                Rotate<TElement>(args, args.Q, token * args.QStride, args.QHeads, head, args.QNorm, token, output, -1, scratch);
            }
            else if (head < args.QHeads + args.Cache.KvHeads)
            {
                var kvHead = (int)(head - args.QHeads);
                Rotate<TElement>(args, args.K, token * args.KStride, args.Cache.KvHeads, kvHead, args.KNorm, token, -1, kvHead, scratch);
            }
            else if (args.Cache.Holds(slot))
            {
                var kvHead = (int)(head - args.QHeads) - args.Cache.KvHeads;
                for (var i = Group.IdxX; i < dim; i += Group.DimX)
                {
                    var value = BFloat16Element.Widen(args.V[(token * args.VStride) + (kvHead * (long)dim) + i]);
                    args.Cache.Write<TElement>(false, slot, kvHead, i, value);
                }
            }
        }
    }

    /// <summary>A head of a token's row, normed and rotated: to QOutput at <paramref name="output"/>, or into K of <paramref name="kvHead"/> if that is not -1.</summary>
    private static void Rotate<TElement>(
        RopeKernel<T> args, ArrayView<ushort> x, long row, long heads, long head, ArrayView<ushort> norm, long token, long output, int kvHead,
        ArrayView<float> scratch)
        where TElement : struct, IElement<T>
    {
        var (dim, half) = (args.Cache.HeadDim, args.RotaryDim / 2);
        var (first, slot) = (row + (head * dim), args.Slots[token]);
        var (inverse, weight) = (1f, 0L); // the weight of the head's first element
        if (norm.Length > 0)
        {
            // Every head of a projection that is normed as a whole sums it up for itself.
            var (begin, count) = args.NormsProjection != 0 ? (row, heads * dim) : (first, dim);
            weight = args.NormsProjection != 0 ? head * dim : 0;
            var squares = 0f;
            for (long i = Group.IdxX; i < count; i += Group.DimX)
            {
                var value = BFloat16Element.Widen(x[begin + i]);
                squares += value * value;
            }

            inverse = 1f / XMath.Sqrt((GroupWork.Sum(squares, scratch) / count) + args.Eps);
        }

        long position = args.Positions[token];
        position = position < 0 ? 0 : position < args.MaxPosition ? position : args.MaxPosition - 1;
        for (var i = Group.IdxX; i < half; i += Group.DimX)
        {
            var (a, b) = (Normed(x, first + i, norm, weight + i, inverse), Normed(x, first + i + half, norm, weight + i + half, inverse));
            var at = args.CosSinFirst + (position * args.RotaryDim) + i;
            var (cos, sin) = (args.CosSin[at], args.CosSin[at + half]);
            Store<TElement>(args, output, slot, kvHead, i, (a * cos) - (b * sin));
            Store<TElement>(args, output, slot, kvHead, i + half, (b * cos) + (a * sin));
        }

        for (var i = args.RotaryDim + Group.IdxX; i < dim; i += Group.DimX)
        {
            Store<TElement>(args, output, slot, kvHead, i, Normed(x, first + i, norm, weight + i, inverse));
        }
    }

    private static float Normed(ArrayView<ushort> x, long at, ArrayView<ushort> norm, long weight, float inverse)
    {
        var value = BFloat16Element.Widen(x[at]);
        return norm.Length > 0 ? value * inverse * BFloat16Element.Widen(norm[weight]) : value;
    }

    private static void Store<TElement>(RopeKernel<T> args, long output, long slot, int kvHead, int dim, float value)
        where TElement : struct, IElement<T>
    {
        if (kvHead < 0)
        {
            args.QOutput[output + dim] = BFloat16Element.Narrow(value, 1f);
        }
        else if (args.Cache.Holds(slot))
        {
            args.Cache.Write<TElement>(true, slot, kvHead, dim, value);
        }
    }
}
