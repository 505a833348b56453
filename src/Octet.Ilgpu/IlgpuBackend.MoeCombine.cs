using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args) =>
        _moeCombine.Launch(Stream(stream), args.Output.Shape[0], _shape.Threads, new MoeCombineKernel
        {
            Sums = new()
            {
                Y = View<ushort>(args.Y),
                PairSlots = View<int>(args.PairSlots),
                PairExperts = View<int>(args.PairExperts),
                Weights = View<float>(args.Weights),
                Slots = args.Y.Shape[0],
                Stride = args.Y.Strides[0],
                TopK = (int)args.Weights.Shape[1],
                FirstExpert = args.FirstExpert,
                LeafExperts = args.LeafExperts,
                Leaves = Math.Max(args.Leaves, 1),
            },
            Output = View<ushort>(args.Output),
            Tokens = args.Output.Shape[0],
            Hidden = args.Output.Shape[1],
            OutputStride = args.Output.Strides[0],
        });
}

/// <summary>output[t] = the sum over the token's slots of weight * y[slot]: a group for each token.</summary>
internal struct MoeCombineKernel
{
    public SlotSums Sums;
    public ArrayView<ushort> Output; // [tokens, hidden] BF16
    public long Tokens, Hidden, OutputStride;

    public static void Run(MoeCombineKernel args)
    {
        var order = SharedMemory.Allocate<int>(SlotSums.OrderLength);
        for (long token = Grid.IdxX; token < args.Tokens; token += Grid.DimX)
        {
            args.Sums.Order(token, order);
            for (long i = Group.IdxX; i < args.Hidden; i += Group.DimX)
            {
                args.Output[(token * args.OutputStride) + i] = BFloat16Element.Narrow(args.Sums.Sum(token, order, i), 1f);
            }
        }
    }
}
