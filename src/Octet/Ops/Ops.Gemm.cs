namespace Octet;

/// <summary>Arguments of <see cref="Ops.Gemm"/>.</summary>
public struct GemmArgs
{
    /// <summary>[m, k] of B's element type; k contiguous.</summary>
    public required TensorView A;

    /// <summary>[m, ceil(k/128)] f32; left out for BF16.</summary>
    public TensorView AScales;

    /// <summary>[n, k].</summary>
    public required Weight B;

    /// <summary>[n] BF16; left out: none.</summary>
    public TensorView Bias;

    /// <summary>
    /// [m, n] BF16 or f32; n contiguous. Or [segments, m, n] f32 for the <see cref="Ops.GemmSegments"/> partial sums, which the next
    /// op adds in order (<see cref="NormArgs.X"/>, <see cref="MoeRouteArgs.Logits"/>); without bias. With <see cref="Leaves"/> they are
    /// what <see cref="NormArgs.XLeaves"/> of as many makes the node of.
    /// </summary>
    public required TensorView Output;

    /// <summary>Output features of the matrix of which <see cref="B"/> is a rank's part: with <see cref="FullK"/> it decides the order of the sum; 0: those of B.</summary>
    public long FullN;

    /// <summary>Input features of the matrix of which <see cref="B"/> is a rank's part; 0: those of B.</summary>
    public long FullK;

    /// <summary>
    /// 1, 2, 4 or 8: B's k is so many leaves of the tree over <see cref="FullK"/>, and the output, BF16, is the node they make. In all there are
    /// as many as the largest of 8, 4, 2 and 1 that divides FullK/128 (1 where 128 does not divide FullK). 0: a plain sum.
    /// </summary>
    public int Leaves;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

public static partial class Ops
{
    /// <summary>output[i, j] = sum over k of a[i, k] * b[j, k] (+ bias[j]): block-scaled FP8, or BF16; accumulated in f32.</summary>
    /// <remarks>The scale pair is applied once per 128-wide k block. The order of the sum depends on n, k and the device only, so a row has the same bits whatever m.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Gemm(DeviceStream stream, in GemmArgs args)
    {
        var contract = new Contract("gemm", stream);
        Check(contract, in args);
        if (args.Output.Rank == 3)
        {
            var segments = stream.Device.Backend.GemmSegments(in args);
            contract.Require(
                args.Output.Shape[0] == segments, $"partial sums {args.Output}: this product leaves {segments} on {stream.Device.Name}");
        }

        contract.Workspace(args.Workspace, stream.Device.Backend.GemmWorkspace(in args));
        stream.Device.Backend.Gemm(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="Gemm"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long GemmWorkspace(Device device, in GemmArgs args)
    {
        Check(new Contract("gemm", device), in args);
        return device.Backend.GemmWorkspace(in args);
    }

    /// <summary>
    /// How many partial sums a product of these shapes can leave to the op that takes it in, which saves the launch that would add
    /// them; 0: it is not split over k. The shape of <see cref="GemmArgs.Output"/> is ignored.
    /// </summary>
    public static int GemmSegments(Device device, in GemmArgs args)
    {
        var contract = new Contract("gemm", device);
        CheckFactors(contract, in args);
        contract.OnDevice("output", args.Output, DType.BFloat16, DType.Float32);
        contract.Require(args.Output.Rank is 2 or 3, $"output {args.Output} must have two or three dimensions");
        return device.Backend.GemmSegments(in args);
    }

    private static void Check(in Contract contract, in GemmArgs args)
    {
        CheckFactors(contract, in args);
        contract.OnDevice("output", args.Output, DType.BFloat16, DType.Float32);
        var (m, n, output) = (args.A.Shape[0], args.B.N, args.Output);
        if (output.Rank == 3)
        {
            contract.Summands("output", output, DType.Float32);
            contract.Require(
                output.Shape[1] == m && output.Shape[2] == n && args.Bias.IsNull,
                $"partial sums {output} must be [segments, {m}, {n}], without bias");
            contract.Require(
                output.Strides[1] % 4 == 0 && output.Strides[0] % 4 == 0 && output.Strides[0] >= ((m - 1) * output.Strides[1]) + n,
                $"partial sums {output}: {output.Strides[0]} elements apart, in rows {output.Strides[1]} apart, must be multiples of 4 that do not overlap");
        }
        else
        {
            contract.Matrix("output", output, m, n, DType.BFloat16, DType.Float32);
        }

        CheckLeaves(contract, in args);
    }

    // Whether the parts of the product lie in the whole one as its leaves do.
    private static void CheckLeaves(in Contract contract, in GemmArgs args)
    {
        var (n, k) = (args.B.N, args.B.K);
        contract.Require(
            (args.FullN == 0 || args.FullN >= n) && (args.FullK == 0 || args.FullK >= k)
            && args.FullN <= int.MaxValue && args.FullK <= Contract.MaxInputs,
            $"full_n = {args.FullN}, full_k = {args.FullK}: 0, or at least b's [{n}, {k}] and at most [{int.MaxValue}, {Contract.MaxInputs}]");
        if (args.Leaves == 0)
        {
            return;
        }

        var full = args.FullK == 0 ? k : args.FullK;
        var leaves = SumTree.LeavesOfProduct(full);
        contract.Require(
            SumTree.IsLeafCount(args.Leaves) && args.Leaves <= leaves && k * leaves == full * args.Leaves,
            $"leaves = {args.Leaves}: 0, or the 1, 2, 4 or 8 leaves that k = {k} has of the {leaves} of full_k = {full}");
        contract.Require(
            args.Output.DType == DType.BFloat16 || args.Output.Rank == 3, $"output {args.Output} of a tree must be {DType.BFloat16}");
    }

    // All but the output.
    private static void CheckFactors(in Contract contract, in GemmArgs args)
    {
        contract.Weight("b", args.B);
        contract.Matrix("a", args.A, args.B.Values.DType, mayOverlap: true);
        var (m, k) = (args.A.Shape[0], args.A.Shape[1]);
        contract.WeightShape("b", args.B, args.B.N, k, 1);
        contract.Tokens("output", m, args.B.N);
        contract.Require(
            (!args.AScales.IsNull) == args.B.Values.DType.IsFloat8(), $"a scales go with FP8 only, b is {args.B.Values.DType}");
        if (!args.AScales.IsNull)
        {
            contract.Matrix("a scales", args.AScales, m, Contract.Blocks(k), DType.Float32);
        }

        if (!args.Bias.IsNull)
        {
            contract.Vector("bias", args.Bias, DType.BFloat16, args.B.N);
        }
    }
}
