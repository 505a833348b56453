namespace Octet;

/// <summary>What a router makes of an expert's logit x[e]; the values of <c>octet_scoring</c>.</summary>
public enum MoeScoring
{
    /// <summary>exp(x[e]) / sum of exp(x) over all experts.</summary>
    Softmax = 0,

    /// <summary>1 / (1 + exp(-x[e])), each expert by itself.</summary>
    Sigmoid = 1,
}

/// <summary>Arguments of <see cref="Ops.MoeRoute"/>.</summary>
public struct MoeRouteArgs
{
    /// <summary>[tokens, experts] f32, at most 512 experts; or [segments, tokens, experts]: partial sums, added in order.</summary>
    public required TensorView Logits;

    /// <summary>[tokens, top_k] i32, contiguous; top_k at most 16.</summary>
    public required TensorView Ids;

    /// <summary>[tokens, top_k] f32, contiguous.</summary>
    public required TensorView Weights;

    /// <summary>Whether the chosen weights are divided by their sum.</summary>
    public required bool Renormalize;

    /// <summary>What scores an expert.</summary>
    public MoeScoring Scoring;

    /// <summary>[experts] f32, added to the scores where they choose, not where they weigh (a checkpoint's e_score_correction_bias); left out: the logits choose.</summary>
    public TensorView ScoreBias;

    /// <summary>[local_experts + 1] i32, with <see cref="SlotPairs"/> and <see cref="PairSlots"/>; left out: the pairs are not sorted.</summary>
    public TensorView ExpertOffsets;

    /// <summary>[tokens*top_k] i32, as in <see cref="MoeSortArgs"/>.</summary>
    public TensorView SlotPairs;

    /// <summary>[tokens*top_k] i32, as in <see cref="MoeSortArgs"/>.</summary>
    public TensorView PairSlots;

    /// <summary>The first expert on this device, where the pairs are sorted.</summary>
    public int FirstExpert;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

/// <summary>Arguments of <see cref="Ops.MoeSort"/>.</summary>
public struct MoeSortArgs
{
    /// <summary>[tokens, top_k] i32, contiguous.</summary>
    public required TensorView Ids;

    /// <summary>[local_experts + 1] i32.</summary>
    public required TensorView ExpertOffsets;

    /// <summary>[tokens*top_k] i32: pair of each slot, -1 for none.</summary>
    public required TensorView SlotPairs;

    /// <summary>[tokens*top_k] i32: slot of each pair, -1 where its expert lives elsewhere.</summary>
    public required TensorView PairSlots;

    /// <summary>Experts of the layer.</summary>
    public required int Experts;

    /// <summary>The first expert on this device.</summary>
    public int FirstExpert;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

/// <summary>Arguments of <see cref="Ops.MoeGateUp"/>.</summary>
public struct MoeGateUpArgs
{
    /// <summary>[tokens, hidden] FP8, scales [tokens, ceil(hidden/128)].</summary>
    public required QuantizedTensor X;

    /// <summary>[local_experts, intermediate, hidden].</summary>
    public required Weight Gate;

    /// <summary>[local_experts, intermediate, hidden].</summary>
    public required Weight Up;

    /// <summary>[local_experts + 1] i32.</summary>
    public required TensorView ExpertOffsets;

    /// <summary>[tokens*top_k] i32.</summary>
    public required TensorView SlotPairs;

    /// <summary>Choices per token.</summary>
    public required int TopK;

    /// <summary>Experts of the layer on all devices, for the load to be expected on this one; 0: those here are all.</summary>
    public int LayerExperts;

    /// <summary>[tokens*top_k, intermediate] FP8, scales [tokens*top_k, ceil(intermediate/128)].</summary>
    public required QuantizedTensor Output;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

/// <summary>Arguments of <see cref="Ops.MoeDown"/>.</summary>
public struct MoeDownArgs
{
    /// <summary>[tokens*top_k, intermediate] FP8, scales [tokens*top_k, ceil(intermediate/128)].</summary>
    public required QuantizedTensor X;

    /// <summary>[local_experts, hidden, intermediate].</summary>
    public required Weight Down;

    /// <summary>[local_experts + 1] i32.</summary>
    public required TensorView ExpertOffsets;

    /// <summary>Choices per token.</summary>
    public required int TopK;

    /// <summary>Experts of the layer on all devices, for the load to be expected on this one; 0: those here are all.</summary>
    public int LayerExperts;

    /// <summary>[tokens*top_k, hidden] BF16.</summary>
    public required TensorView Output;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

/// <summary>Arguments of <see cref="Ops.MoeCombine"/>.</summary>
public struct MoeCombineArgs
{
    /// <summary>[tokens*top_k, hidden] BF16.</summary>
    public required TensorView Y;

    /// <summary>[tokens*top_k] i32.</summary>
    public required TensorView PairSlots;

    /// <summary>[tokens, top_k] f32, contiguous.</summary>
    public required TensorView Weights;

    /// <summary>[tokens*top_k] i32: the expert of each pair; left out: with at most one leaf.</summary>
    public TensorView PairExperts;

    /// <summary>The first expert of the first leaf.</summary>
    public int FirstExpert;

    /// <summary>Experts of a leaf: the pair of expert e is in leaf (e - first_expert) / leaf_experts.</summary>
    public int LeafExperts;

    /// <summary>1, 2, 4 or 8 leaves of the tree over experts; 0: as 1, one sum.</summary>
    public int Leaves;

    /// <summary>[tokens, hidden] BF16.</summary>
    public required TensorView Output;
}

public static partial class Ops
{
    /// <summary>Router: s = softmax or sigmoid of logits[t]; the top_k experts in descending order weigh their s, optionally divided by the sum of these.</summary>
    /// <remarks>
    /// Chosen and ordered by logit, with <see cref="MoeRouteArgs.ScoreBias"/> by s + bias in f32; ties take the lower expert first; NaN, of a
    /// logit or of a sum with the bias, counts as -infinity. Softmax: logits equal to the largest weigh exp(0), so
    /// +infinity shares all weight with its likes, and a row without a finite logit weighs every expert alike.
    /// Chosen scores whose sum is 0 weigh 1/top_k each where they are renormalised.
    /// Source of sigmoid and bias: DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024, section 2.1.2.
    /// With <see cref="MoeRouteArgs.ExpertOffsets"/> the pairs are sorted as by <see cref="MoeSort"/>, for up to 64 tokens and 128 experts in the same launch,
    /// with sigmoid or a bias for up to 32 tokens and 256 experts.
    /// </remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void MoeRoute(DeviceStream stream, in MoeRouteArgs args)
    {
        var contract = new Contract("moe_route", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.MoeRouteWorkspace(in args));
        stream.Device.Backend.MoeRoute(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="MoeRoute"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long MoeRouteWorkspace(Device device, in MoeRouteArgs args)
    {
        Check(new Contract("moe_route", device), in args);
        return device.Backend.MoeRouteWorkspace(in args);
    }

    private static void Check(in Contract contract, in MoeRouteArgs args)
    {
        contract.Summands("logits", args.Logits, DType.Float32);
        var (tokens, experts) = (args.Logits.Shape[^2], args.Logits.Shape[^1]);
        contract.Tokens("logits", tokens, experts);
        contract.Matrix("ids", args.Ids, DType.Int32);
        contract.Contiguous("ids", args.Ids, DType.Int32);
        var topK = args.Ids.Shape[1];
        contract.Require(
            experts is >= 1 and <= 512 && topK >= 1 && topK <= Math.Min(16, experts) && args.Ids.Shape[0] == tokens,
            $"logits {args.Logits}, ids {args.Ids}: experts 1..512, top_k 1..min(16, experts), the same tokens");
        contract.Matrix("weights", args.Weights, tokens, topK, DType.Float32);
        contract.Contiguous("weights", args.Weights, DType.Float32);
        contract.Require(args.Scoring is MoeScoring.Softmax or MoeScoring.Sigmoid, $"scoring = {args.Scoring} must be Softmax or Sigmoid");
        if (!args.ScoreBias.IsNull)
        {
            contract.Vector("score_bias", args.ScoreBias, DType.Float32, experts);
        }

        var parts = (args.ExpertOffsets.IsNull ? 0 : 1) + (args.SlotPairs.IsNull ? 0 : 1) + (args.PairSlots.IsNull ? 0 : 1);
        contract.Require(parts is 0 or 3, "expert_offsets, slot_pairs and pair_slots go together");
        if (!args.ExpertOffsets.IsNull)
        {
            CheckSlots(contract, args.Ids, args.ExpertOffsets, args.SlotPairs, args.PairSlots, experts, args.FirstExpert);
        }
    }

    private static void CheckSlots(
        in Contract contract, in TensorView ids, in TensorView offsets, in TensorView slotPairs, in TensorView pairSlots, long experts, int first)
    {
        contract.Contiguous("expert_offsets", offsets, DType.Int32);
        var local = offsets.ElementCount - 1;
        contract.Require(
            experts is >= 1 and <= 512 && local >= 1 && first >= 0 && first + local <= experts && ids.Shape[1] is >= 1 and <= 16,
            $"ids {ids}, experts {experts}, first {first}, local {local}: the local ones lie within 1..512 experts, top_k 1..16");
        contract.Vector("slot_pairs", slotPairs, DType.Int32, ids.ElementCount);
        contract.Vector("pair_slots", pairSlots, DType.Int32, ids.ElementCount);
    }

    /// <summary>Stable counting sort of the pairs (token, choice) by expert, for the experts that live on this device.</summary>
    /// <remarks>Pair p = token*top_k + choice. Slots of local expert e are expert_offsets[e] to expert_offsets[e + 1] - 1, pairs ascending within an expert.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void MoeSort(DeviceStream stream, in MoeSortArgs args)
    {
        var contract = new Contract("moe_sort", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.MoeSortWorkspace(in args));
        stream.Device.Backend.MoeSort(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="MoeSort"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long MoeSortWorkspace(Device device, in MoeSortArgs args)
    {
        Check(new Contract("moe_sort", device), in args);
        return device.Backend.MoeSortWorkspace(in args);
    }

    private static void Check(in Contract contract, in MoeSortArgs args)
    {
        contract.Matrix("ids", args.Ids, DType.Int32);
        contract.Contiguous("ids", args.Ids, DType.Int32);
        contract.Tokens("ids", args.Ids.Shape[0], args.Ids.Shape[1]);
        CheckSlots(contract, args.Ids, args.ExpertOffsets, args.SlotPairs, args.PairSlots, args.Experts, args.FirstExpert);
    }

    /// <summary>Grouped GEMM of the first stage: y = silu(x[t] . gate[e]^T) * (x[t] . up[e]^T) for each slot, quantised to FP8 blocks from f32.</summary>
    /// <remarks>Slots without a pair are left untouched.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args)
    {
        var contract = new Contract("moe_gate_up", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.MoeGateUpWorkspace(in args));
        stream.Device.Backend.MoeGateUp(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="MoeGateUp"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long MoeGateUpWorkspace(Device device, in MoeGateUpArgs args)
    {
        Check(new Contract("moe_gate_up", device), in args);
        return device.Backend.MoeGateUpWorkspace(in args);
    }

    private static void Check(in Contract contract, in MoeGateUpArgs args)
    {
        contract.OnDevice("x", args.X.Values, contract.Float8);
        contract.Require(args.X.Values.Rank == 2, $"x {args.X.Values} must have two dimensions");
        var (tokens, hidden) = (args.X.Values.Shape[0], args.X.Values.Shape[1]);
        contract.Quantized("x", args.X, tokens, hidden);
        contract.Experts("gate", args.Gate);
        contract.Experts("up", args.Up);
        var (experts, intermediate) = (args.Gate.Experts, args.Gate.N);
        contract.WeightShape("gate", args.Gate, intermediate, hidden, experts);
        contract.WeightShape("up", args.Up, intermediate, hidden, experts);
        contract.Require(
            args.Gate.ScaleColumnOffset == args.Up.ScaleColumnOffset,
            $"gate and up begin {args.Gate.ScaleColumnOffset} and {args.Up.ScaleColumnOffset} columns into a scale block: these must be equal");
        contract.Slots(tokens, args.TopK, experts, args.ExpertOffsets, args.LayerExperts);
        contract.Tokens("output", tokens, args.TopK * intermediate);
        contract.Vector("slot_pairs", args.SlotPairs, DType.Int32, tokens * args.TopK);
        contract.Quantized("output", args.Output, tokens * args.TopK, intermediate);
    }

    /// <summary>Grouped GEMM of the second stage: output[s] = x[s] . down[e]^T for each slot.</summary>
    /// <remarks>Slots without a pair are left untouched.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void MoeDown(DeviceStream stream, in MoeDownArgs args)
    {
        var contract = new Contract("moe_down", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.MoeDownWorkspace(in args));
        stream.Device.Backend.MoeDown(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="MoeDown"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long MoeDownWorkspace(Device device, in MoeDownArgs args)
    {
        Check(new Contract("moe_down", device), in args);
        return device.Backend.MoeDownWorkspace(in args);
    }

    private static void Check(in Contract contract, in MoeDownArgs args)
    {
        contract.OnDevice("x", args.X.Values, contract.Float8);
        contract.Require(args.X.Values.Rank == 2, $"x {args.X.Values} must have two dimensions");
        var (slots, intermediate) = (args.X.Values.Shape[0], args.X.Values.Shape[1]);
        contract.Quantized("x", args.X, slots, intermediate);
        contract.Experts("down", args.Down);
        contract.WeightShape("down", args.Down, args.Down.N, intermediate, args.Down.Experts);
        contract.Require(args.TopK >= 1 && slots % args.TopK == 0, $"x {args.X.Values}: rows must be tokens * top_k, top_k = {args.TopK}");
        contract.Slots(slots / args.TopK, args.TopK, args.Down.Experts, args.ExpertOffsets, args.LayerExperts);
        contract.Tokens("output", slots / args.TopK, args.TopK * args.Down.N);
        contract.Matrix("output", args.Output, slots, args.Down.N, DType.BFloat16);
    }

    /// <summary>output[t] = sum over choices c, by ascending slot, of weights[t, c] * y[pair_slots[t*top_k + c]]; pairs without a slot add nothing.</summary>
    /// <remarks>With <see cref="MoeCombineArgs.Leaves"/> the sum is a tree over groups of neighbouring experts, every node rounded to BF16; a leaf without a pair is +0. Slots must then ascend with experts, as <see cref="MoeSort"/> gives them.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void MoeCombine(DeviceStream stream, in MoeCombineArgs args)
    {
        var contract = new Contract("moe_combine", stream);
        Check(contract, in args);
        stream.Device.Backend.MoeCombine(stream, in args);
    }

    private static void Check(in Contract contract, in MoeCombineArgs args)
    {
        contract.Matrix("output", args.Output, DType.BFloat16);
        contract.Matrix("weights", args.Weights, DType.Float32);
        contract.Contiguous("weights", args.Weights, DType.Float32);
        var (tokens, topK) = (args.Weights.Shape[0], args.Weights.Shape[1]);
        contract.Require(args.Output.Shape[0] == tokens && topK is >= 1 and <= 16, $"output {args.Output}, weights {args.Weights}: the same tokens, top_k 1..16");
        contract.Tokens("output", tokens, args.Output.Shape[1]);
        contract.Vector("pair_slots", args.PairSlots, DType.Int32, tokens * topK);
        contract.ExpertLeaves(args.PairExperts, args.FirstExpert, args.LeafExperts, args.Leaves, tokens * topK);
        contract.Matrix("y", args.Y, tokens * topK, args.Output.Shape[1], DType.BFloat16);
    }
}
