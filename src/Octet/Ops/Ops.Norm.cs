namespace Octet;

/// <summary>Arguments of <see cref="Ops.Norm"/>.</summary>
public struct NormArgs
{
    /// <summary>
    /// [tokens, hidden] BF16. Or what x is the BF16 of: [segments, tokens, hidden] f32 partial sums, added in order; or, with
    /// <see cref="PairSlots"/>, [tokens*top_k, hidden] BF16 slots, combined as by <see cref="Ops.MoeCombine"/>.
    /// </summary>
    public required TensorView X;

    /// <summary>
    /// 1, 2, 4 or 8 leaves of partial sums, as <see cref="GemmArgs.Leaves"/>: the segments are a multiple, so many neighbours make a leaf; or it
    /// is a multiple of the segments, which then are nodes of the tree. 0: one sum, rounded once.
    /// </summary>
    public int XLeaves;

    /// <summary>2, 4 or 8 of [tokens, hidden] BF16, rows equally far apart, <see cref="X"/> the first: x is the root of the tree over them. A peer's memory may be among them. Null: it is not.</summary>
    public IReadOnlyList<TensorView>? Nodes;

    /// <summary>[tokens*top_k] i32: slot of each pair, -1 for none; left out: x is not slots.</summary>
    public TensorView PairSlots;

    /// <summary>[tokens, top_k] f32, contiguous; with <see cref="PairSlots"/>.</summary>
    public TensorView PairWeights;

    /// <summary>[tokens*top_k] i32: the expert of each pair; left out: with at most one leaf.</summary>
    public TensorView PairExperts;

    /// <summary>The first expert of the first leaf.</summary>
    public int FirstExpert;

    /// <summary>Experts of a leaf: the pair of expert e is in leaf (e - first_expert) / leaf_experts.</summary>
    public int LeafExperts;

    /// <summary>1, 2, 4 or 8 leaves of the tree over experts; 0: as 1, one sum.</summary>
    public int Leaves;

    /// <summary>[tokens, hidden] BF16, read and written; left out: none.</summary>
    public TensorView Residual;

    /// <summary>[hidden] BF16.</summary>
    public required TensorView Weight;

    /// <summary>Added to the mean square.</summary>
    public required float Eps;

    /// <summary>[tokens, hidden] BF16; left out: not wanted.</summary>
    public TensorView Output;

    /// <summary>[tokens, hidden] FP8 of the device, scales [tokens, ceil(hidden/128)]; left out: not wanted.</summary>
    public QuantizedTensor? Quantized;

    internal readonly long Tokens => PairWeights.IsNull ? X.Shape[^2] : PairWeights.Shape[0];
}

public static partial class Ops
{
    /// <summary>RMSNorm: h = x (+ residual, rounded to BF16 and written back); y = h / sqrt(mean(h^2) + eps) * weight, as BF16, as FP8 blocks, or both.</summary>
    /// <remarks>Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019. The FP8 codes come from y in f32.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Norm(DeviceStream stream, in NormArgs args)
    {
        var contract = new Contract("norm", stream);
        Check(contract, in args);
        stream.Device.Backend.Norm(stream, in args);
    }

    // What x is: rows, partial sums, slots or nodes.
    private static void CheckSource(in Contract contract, in NormArgs args)
    {
        if (args.Nodes is null)
        {
            contract.Summands("x", args.X, DType.BFloat16);
        }
        else
        {
            contract.Require(args.Nodes.Count is 2 or 4 or 8 && args.Nodes[0] == args.X, $"{args.Nodes.Count} nodes must be 2, 4 or 8, the first of them x");
            contract.Require(args.PairSlots.IsNull, "nodes and pair_slots exclude each other");
            for (var i = 0; i < args.Nodes.Count; i++)
            {
                contract.Node(args.Nodes[i], i, args.X);
            }
        }
    }

    private static void CheckLeaves(in Contract contract, in NormArgs args)
    {
        var segments = args.X.Rank == 3 ? (int)args.X.Shape[0] : 0;
        contract.Require(
            args.XLeaves == 0 || (SumTree.IsLeafCount(args.XLeaves) && segments > 0 && (segments % args.XLeaves == 0 || args.XLeaves % segments == 0)),
            $"x_leaves = {args.XLeaves}: 0, or 1, 2, 4 or 8 that divide, or are a multiple of, the partial sums of x {args.X}");
        contract.Require(!args.PairSlots.IsNull || (args.PairExperts.IsNull && args.Leaves == 0), "pair_experts and leaves go with pair_slots");
        contract.ExpertLeaves(args.PairExperts, args.FirstExpert, args.LeafExperts, args.Leaves, args.PairWeights.ElementCount);
    }

    private static void Check(in Contract contract, in NormArgs args)
    {
        CheckSource(contract, in args);
        contract.Require((args.PairSlots.IsNull) == (args.PairWeights.IsNull), "pair_slots and pair_weights go together");
        if (!args.PairWeights.IsNull)
        {
            contract.Matrix("pair_weights", args.PairWeights, DType.Float32);
            contract.Contiguous("pair_weights", args.PairWeights, DType.Float32);
            contract.Require(args.PairWeights.Shape[1] is >= 1 and <= 16, $"pair_weights {args.PairWeights}: top_k 1..16");
            contract.Vector("pair_slots", args.PairSlots, DType.Int32, args.PairWeights.ElementCount);
            contract.Matrix("x", args.X, args.PairWeights.ElementCount, args.X.Shape[^1], DType.BFloat16);
        }

        CheckLeaves(contract, in args);
        var (tokens, hidden) = (args.Tokens, args.X.Shape[^1]);
        contract.Tokens("x", tokens, hidden);
        contract.Vector("weight", args.Weight, DType.BFloat16, hidden);
        contract.Require(float.IsFinite(args.Eps) && args.Eps >= 0, $"eps = {args.Eps} must be finite and not negative");
        contract.Require(!args.Output.IsNull || args.Quantized is not null, "output and quantized are both null");
        if (!args.Residual.IsNull)
        {
            contract.Matrix("residual", args.Residual, tokens, hidden, DType.BFloat16);
        }

        if (!args.Output.IsNull)
        {
            contract.Matrix("output", args.Output, tokens, hidden, DType.BFloat16);
        }

        if (args.Quantized is { } quantized)
        {
            contract.Quantized("quantized", quantized, tokens, hidden);
        }
    }
}
