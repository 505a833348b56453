using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void KvCopy(DeviceStream stream, in KvCopyArgs args)
    {
        var ((k, kFirst), (v, vFirst)) = (_memory.Claim<long>(args.Cache.K), _memory.Claim<long>(args.Cache.V));
        var blockElements = (long)args.Cache.KvHeads * args.Cache.BlockSize * args.Cache.HeadDim;
        _kvCopy.Launch(Stream(stream), args.Pairs.Shape[0], _shape.Threads, new KvCopyKernel
        {
            Pairs = View<long>(args.Pairs),
            K = k,
            V = v,
            KFirst = kFirst,
            VFirst = vFirst,
            Count = args.Pairs.Shape[0],
            Blocks = args.Cache.Blocks,
            BlockWords = blockElements * args.Cache.K.DType.SizeInBytes() / sizeof(long),
        });
    }
}

/// <summary>Whole blocks of K and V copied, eight bytes at a time: a group for each pair.</summary>
internal struct KvCopyKernel
{
    public ArrayView<long> Pairs; // [count, 2]: source, destination
    public ArrayView<long> K, V;
    public long KFirst, VFirst, Count, Blocks, BlockWords;

    public static void Run(KvCopyKernel args)
    {
        for (long pair = Grid.IdxX; pair < args.Count; pair += Grid.DimX)
        {
            var (from, to) = (args.Pairs[2 * pair], args.Pairs[(2 * pair) + 1]);
            var isInside = from >= 0 && from < args.Blocks && to >= 0 && to < args.Blocks;
            for (long i = Group.IdxX; i < args.BlockWords && isInside; i += Group.DimX)
            {
                args.K[args.KFirst + (to * args.BlockWords) + i] = args.K[args.KFirst + (from * args.BlockWords) + i];
                args.V[args.VFirst + (to * args.BlockWords) + i] = args.V[args.VFirst + (from * args.BlockWords) + i];
            }
        }
    }
}
