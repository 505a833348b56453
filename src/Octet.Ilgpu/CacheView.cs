using ILGPU;
using ILGPU.Runtime;

namespace Octet.Ilgpu;

/// <summary>The paged cache of one layer as kernels see it; K pages are [block, head, token, dim], V pages [block, head, dim, token].</summary>
internal struct CacheView<T> where T : unmanaged
{
    public ArrayView<T> K, V;
    public ArrayView<float> KScales, VScales; // [1] or [kv heads]; empty for BF16
    public long KFirst, VFirst;               // index of element 0 in the views; negative if the cache claims blocks before them
    public long Blocks;
    public int KvHeads, BlockSize, HeadDim;

    public readonly bool Holds(long slot) => slot >= 0 && slot < Blocks * BlockSize;

    public readonly float KScale(int head) => Scale(KScales, head);

    public readonly float VScale(int head) => Scale(VScales, head);

    /// <summary>Index in <see cref="K"/> of the first element of a head of a token; its elements follow each other.</summary>
    public readonly long KIndex(long block, int head, long token) =>
        KFirst + (((((block * KvHeads) + head) * BlockSize) + token) * HeadDim);

    /// <summary>Index in <see cref="V"/> of the first element of a head of a token; its elements are BlockSize apart.</summary>
    public readonly long VIndex(long block, int head, long token) =>
        VFirst + (((block * KvHeads) + head) * HeadDim * BlockSize) + token;

    /// <summary>Rounds one element of a head into K or V at a slot the cache holds.</summary>
    public readonly void Write<TElement>(bool isK, long slot, int head, int dim, float value) where TElement : struct, IElement<T>
    {
        var (block, token) = (slot / BlockSize, slot % BlockSize);
        if (isK)
        {
            K[KIndex(block, head, token) + dim] = TElement.Narrow(value, KScale(head));
        }
        else
        {
            V[VIndex(block, head, token) + ((long)dim * BlockSize)] = TElement.Narrow(value, VScale(head));
        }
    }

    private static float Scale(ArrayView<float> scales, int head) =>
        scales.Length == 0 ? 1f : scales[scales.Length == 1 ? 0 : head];
}
