using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Norm(DeviceStream stream, in NormArgs args)
    {
        var isSum = args.X.Rank == 3;
        var kernel = new NormKernel
        {
            X = isSum ? ArrayView<ushort>.Empty : View<ushort>(args.X),
            Partials = isSum ? View<float>(args.X) : ArrayView<float>.Empty,
            Residual = View<ushort>(args.Residual),
            Weight = View<ushort>(args.Weight),
            Output = View<ushort>(args.Output),
            Codes = View<byte>(args.Quantized?.Values ?? default),
            Scales = View<float>(args.Quantized?.Scales ?? default),
            Tokens = args.PairWeights.IsNull ? args.X.Shape[^2] : args.PairWeights.Shape[0],
            Hidden = args.X.Shape[^1],
            XStride = args.X.Strides[^2],
            SegmentStride = args.X.Strides[0],
            Segments = isSum ? args.X.Shape[0] : 0,
            Leaves = isSum ? (int)Math.Min(Math.Max(args.XLeaves, 1), args.X.Shape[0]) : 1,
            NodeCount = args.Nodes?.Count ?? 0,
            Node1 = Node(in args, 1),
            Node2 = Node(in args, 2),
            Node3 = Node(in args, 3),
            Node4 = Node(in args, 4),
            Node5 = Node(in args, 5),
            Node6 = Node(in args, 6),
            Node7 = Node(in args, 7),
            ResidualStride = StrideOf(args.Residual),
            OutputStride = StrideOf(args.Output),
            CodeStride = args.Quantized?.Values.Strides[0] ?? 0,
            ScaleStride = args.Quantized?.Scales.Strides[0] ?? 0,
            Eps = args.Eps,
        };
        if (!args.PairSlots.IsNull)
        {
            kernel.Sums = Sums(args.X, args.PairSlots, args.PairExperts, args.PairWeights, args.FirstExpert, args.LeafExperts, args.Leaves);
        }

        _norm.Launch(Stream(stream), kernel.Tokens, _shape.Threads, kernel);
    }

    private ArrayView<ushort> Node(in NormArgs args, int node) =>
        node < args.Nodes?.Count ? View<ushort>(args.Nodes[node]) : ArrayView<ushort>.Empty;
}

/// <summary>
/// h = x (+ residual); y = h / sqrt(mean(h^2) + eps) * weight: a group for each token, which goes over the row twice. A thread has
/// the same elements both times, so the residual it reads back is its own.
/// </summary>
internal struct NormKernel
{
    public ArrayView<ushort> X;        // [tokens, hidden] BF16, the first of nodes, or the slots of Sums; empty with Partials
    public ArrayView<ushort> Node1, Node2, Node3, Node4, Node5, Node6, Node7;
    public ArrayView<float> Partials;  // [segments, tokens, hidden]; empty: none
    public SlotSums Sums;
    public ArrayView<ushort> Residual; // [tokens, hidden] BF16, written; empty: none
    public ArrayView<ushort> Weight;   // [hidden] BF16
    public ArrayView<ushort> Output;   // [tokens, hidden] BF16; empty: not wanted
    public ArrayView<byte> Codes;      // [tokens, hidden] FP8; empty: not wanted
    public ArrayView<float> Scales;    // [tokens, ceil(hidden/128)]
    public long Tokens, Hidden, Segments, SegmentStride, XStride, ResidualStride, OutputStride, CodeStride, ScaleStride;
    public int Leaves, NodeCount;      // leaves of the partial sums; 0 nodes: none
    public float Eps;

    public static void Run(NormKernel args)
    {
        var scratch = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        var order = SharedMemory.Allocate<int>(SlotSums.OrderLength);
        for (long token = Grid.IdxX; token < args.Tokens; token += Grid.DimX)
        {
            if (args.Sums.TopK > 0)
            {
                args.Sums.Order(token, order);
            }

            // Summed block by block: what one thread adds up alone stays short.
            var sum = 0f;
            for (long block = 0; block < args.Hidden; block += Octet.Float8.Block)
            {
                var end = block + Octet.Float8.Block < args.Hidden ? block + Octet.Float8.Block : args.Hidden;
                var squares = 0f;
                for (var i = block + Group.IdxX; i < end; i += Group.DimX)
                {
                    var h = args.Input(token, order, i);
                    if (args.Residual.Length > 0)
                    {
                        var at = (token * args.ResidualStride) + i;
                        var rounded = BFloat16Element.Narrow(h + BFloat16Element.Widen(args.Residual[at]), 1f);
                        args.Residual[at] = rounded;
                        h = BFloat16Element.Widen(rounded);
                    }

                    squares += h * h;
                }

                sum += squares;
            }

            var inverse = 1f / XMath.Sqrt((GroupWork.Sum(sum, scratch) / args.Hidden) + args.Eps);
            for (long block = 0; block < args.Hidden; block += Octet.Float8.Block)
            {
                var end = block + Octet.Float8.Block < args.Hidden ? block + Octet.Float8.Block : args.Hidden;
                var amax = 0f;
                for (var i = block + Group.IdxX; i < end; i += Group.DimX)
                {
                    var y = Value(args, token, order, i, inverse);
                    amax = GroupWork.Amax(amax, y);
                    if (args.Output.Length > 0)
                    {
                        args.Output[(token * args.OutputStride) + i] = BFloat16Element.Narrow(y, 1f);
                    }
                }

                if (args.Codes.Length > 0)
                {
                    var scale = Float8Element.Scale(GroupWork.Largest(amax, scratch));
                    for (var i = block + Group.IdxX; i < end; i += Group.DimX)
                    {
                        args.Codes[(token * args.CodeStride) + i] = Float8Element.Narrow(Value(args, token, order, i, inverse), scale);
                    }

                    if (Group.IdxX == 0)
                    {
                        args.Scales[(token * args.ScaleStride) + (block / Octet.Float8.Block)] = scale;
                    }
                }
            }
        }
    }

    private static float Value(NormKernel args, long token, ArrayView<int> order, long i, float inverse)
    {
        var h = args.Residual.Length > 0
            ? BFloat16Element.Widen(args.Residual[(token * args.ResidualStride) + i]) : args.Input(token, order, i);
        return h * inverse * BFloat16Element.Widen(args.Weight[i]);
    }

    /// <summary>x, where it is a sum the root of its tree.</summary>
    private readonly float Input(long token, ArrayView<int> order, long i)
    {
        if (Sums.TopK > 0)
        {
            return Sums.Sum(token, order, i);
        }

        var at = (token * XStride) + i;
        if (Segments == 0 && NodeCount == 0)
        {
            return BFloat16Element.Widen(X[at]);
        }

        var nodes = default(TreeNodes);
        for (var node = 0; node < NodeCount; node++)
        {
            nodes = nodes.Add(BFloat16Element.Widen(Node(node, at)));
        }

        if (NodeCount > 0)
        {
            return nodes.Root(NodeCount);
        }

        for (var leaf = 0; leaf < Leaves; leaf++)
        {
            var sum = 0f;
            for (var segment = leaf * (Segments / Leaves); segment < (leaf + 1) * (Segments / Leaves); segment++)
            {
                sum += Partials[(segment * SegmentStride) + at];
            }

            nodes = nodes.Add(sum);
        }

        return nodes.Root(Leaves);
    }

    private readonly ushort Node(int node, long at) => node switch
    {
        0 => X[at],
        1 => Node1[at],
        2 => Node2[at],
        3 => Node3[at],
        4 => Node4[at],
        5 => Node5[at],
        6 => Node6[at],
        _ => Node7[at],
    };
}
