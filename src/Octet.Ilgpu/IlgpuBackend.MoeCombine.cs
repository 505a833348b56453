using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args) =>
        _moeCombine.Launch(Stream(stream), args.Output.Shape[0], _shape.Threads, new MoeCombineKernel
        {
            Sums = Sums(args.Y, args.PairSlots, args.PairExperts, args.Weights, args.FirstExpert, args.LeafExperts, args.Leaves),
            Output = View<ushort>(args.Output),
            Tokens = args.Output.Shape[0],
            Hidden = args.Output.Shape[1],
            OutputStride = args.Output.Strides[0],
        });

    private SlotSums Sums(
        in TensorView y, in TensorView pairSlots, in TensorView pairExperts, in TensorView weights, int firstExpert, int leafExperts, int leaves) => new()
    {
        Y = View<ushort>(y),
        PairSlots = View<int>(pairSlots),
        PairExperts = View<int>(pairExperts),
        Weights = View<float>(weights),
        Slots = y.Shape[0],
        Stride = y.Strides[0],
        TopK = (int)weights.Shape[1],
        FirstExpert = firstExpert,
        LeafExperts = leafExperts,
        Leaves = Math.Max(leaves, 1),
    };
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
