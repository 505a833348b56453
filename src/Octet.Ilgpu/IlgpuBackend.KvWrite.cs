using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void KvWrite(DeviceStream stream, in KvWriteArgs args)
    {
        if (args.Cache.K.DType == DType.BFloat16)
        {
            KvWrite(stream, in args, _kvWriteBFloat16);
        }
        else
        {
            KvWrite(stream, in args, _kvWriteFloat8);
        }
    }

    private void KvWrite<T>(DeviceStream stream, in KvWriteArgs args, IlgpuKernel<KvWriteKernel<T>> kernel) where T : unmanaged =>
        kernel.Launch(Stream(stream), args.K.Shape[0] * args.Cache.KvHeads, _shape.Threads, new KvWriteKernel<T>
        {
            Cache = Cache<T>(args.Cache),
            K = View<ushort>(args.K),
            V = View<ushort>(args.V),
            Slots = View<long>(args.Slots),
            Tokens = args.K.Shape[0],
            KStride = args.K.Strides[0],
            VStride = args.V.Strides[0],
        });
}

/// <summary>K and V rounded into the cache: a group for each head of a token.</summary>
internal struct KvWriteKernel<T> where T : unmanaged
{
    public CacheView<T> Cache;
    public ArrayView<ushort> K, V; // [tokens, kv_heads, head_dim] BF16
    public ArrayView<long> Slots;  // [tokens]
    public long Tokens, KStride, VStride;

    public static void Run<TElement>(KvWriteKernel<T> args) where TElement : struct, IElement<T>
    {
        for (long work = Grid.IdxX; work < args.Tokens * args.Cache.KvHeads; work += Grid.DimX)
        {
            var (token, head) = (work / args.Cache.KvHeads, (int)(work % args.Cache.KvHeads));
            var slot = args.Slots[token];
            for (var i = Group.IdxX; i < args.Cache.HeadDim && args.Cache.Holds(slot); i += Group.DimX)
            {
                var at = ((long)head * args.Cache.HeadDim) + i;
                args.Cache.Write<TElement>(true, slot, head, i, BFloat16Element.Widen(args.K[(token * args.KStride) + at]));
                args.Cache.Write<TElement>(false, slot, head, i, BFloat16Element.Widen(args.V[(token * args.VStride) + at]));
            }
        }
    }
}
