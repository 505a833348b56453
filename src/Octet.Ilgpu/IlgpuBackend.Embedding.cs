using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Embedding(DeviceStream stream, in EmbeddingArgs args) =>
        _embedding.Launch(Stream(stream), args.Output.Shape[0], _shape.Threads, new EmbeddingKernel
        {
            Table = View<ushort>(args.Table),
            Ids = View<int>(args.Ids),
            Output = View<ushort>(args.Output),
            Tokens = args.Output.Shape[0],
            Vocabulary = args.Table.Shape[0],
            Hidden = args.Table.Shape[1],
            OutputStride = args.Output.Strides[0],
        });
}

/// <summary>output[t] = table[ids[t]]: a group for each token.</summary>
internal struct EmbeddingKernel
{
    public ArrayView<ushort> Table;  // [vocabulary, hidden] BF16
    public ArrayView<int> Ids;       // [tokens]
    public ArrayView<ushort> Output; // [tokens, hidden] BF16
    public long Tokens, Vocabulary, Hidden, OutputStride;

    public static void Run(EmbeddingKernel args)
    {
        for (long token = Grid.IdxX; token < args.Tokens; token += Grid.DimX)
        {
            var id = args.Ids[token];
            var isKnown = id >= 0 && id < args.Vocabulary;
            for (long i = Group.IdxX; i < args.Hidden; i += Group.DimX)
            {
                args.Output[(token * args.OutputStride) + i] = isKnown ? args.Table[(id * args.Hidden) + i] : (ushort)0;
            }
        }
    }
}
