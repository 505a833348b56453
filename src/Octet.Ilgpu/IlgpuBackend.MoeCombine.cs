using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args) =>
        _moeCombine.Launch(Stream(stream), args.Output.Shape[0], _shape.Threads, new MoeCombineKernel
        {
            Y = View<ushort>(args.Y),
            PairSlots = View<int>(args.PairSlots),
            Weights = View<float>(args.Weights),
            Output = View<ushort>(args.Output),
            Tokens = args.Output.Shape[0],
            Hidden = args.Output.Shape[1],
            Slots = args.Y.Shape[0],
            YStride = args.Y.Strides[0],
            OutputStride = args.Output.Strides[0],
            TopK = (int)args.Weights.Shape[1],
        });
}

/// <summary>output[t] = sum over the choices, in order, of weight * y[slot]: a group for each token.</summary>
internal struct MoeCombineKernel
{
    public ArrayView<ushort> Y;      // [slots, hidden] BF16
    public ArrayView<int> PairSlots; // [tokens * top_k]
    public ArrayView<float> Weights; // [tokens, top_k]
    public ArrayView<ushort> Output; // [tokens, hidden] BF16
    public long Tokens, Hidden, Slots, YStride, OutputStride;
    public int TopK;

    public static void Run(MoeCombineKernel args)
    {
        for (long token = Grid.IdxX; token < args.Tokens; token += Grid.DimX)
        {
            for (long i = Group.IdxX; i < args.Hidden; i += Group.DimX)
            {
                var sum = 0f;
                for (var choice = 0; choice < args.TopK; choice++)
                {
                    var slot = args.PairSlots[(token * args.TopK) + choice];
                    if (slot >= 0 && slot < args.Slots)
                    {
                        sum += args.Weights[(token * args.TopK) + choice] * BFloat16Element.Widen(args.Y[(slot * args.YStride) + i]);
                    }
                }

                args.Output[(token * args.OutputStride) + i] = BFloat16Element.Narrow(sum, 1f);
            }
        }
    }
}
