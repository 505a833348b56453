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
            PairSlots = View<int>(args.PairSlots),
            PairWeights = View<float>(args.PairWeights),
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
            TopK = args.PairWeights.IsNull ? 0 : (int)args.PairWeights.Shape[1],
            ResidualStride = StrideOf(args.Residual),
            OutputStride = StrideOf(args.Output),
            CodeStride = args.Quantized?.Values.Strides[0] ?? 0,
            ScaleStride = args.Quantized?.Scales.Strides[0] ?? 0,
            Eps = args.Eps,
        };
        _norm.Launch(Stream(stream), kernel.Tokens, _shape.Threads, kernel);
    }
}

/// <summary>
/// h = x (+ residual); y = h / sqrt(mean(h^2) + eps) * weight: a group for each token, which goes over the row twice. A thread has
/// the same elements both times, so the residual it reads back is its own.
/// </summary>
internal struct NormKernel
{
    public ArrayView<ushort> X;        // [tokens, hidden] BF16, or with PairSlots [tokens*top_k, hidden]; empty with Partials
    public ArrayView<float> Partials;  // [segments, tokens, hidden]; empty: none
    public ArrayView<int> PairSlots;   // [tokens*top_k]; empty: none
    public ArrayView<float> PairWeights;
    public ArrayView<ushort> Residual; // [tokens, hidden] BF16, written; empty: none
    public ArrayView<ushort> Weight;   // [hidden] BF16
    public ArrayView<ushort> Output;   // [tokens, hidden] BF16; empty: not wanted
    public ArrayView<byte> Codes;      // [tokens, hidden] FP8; empty: not wanted
    public ArrayView<float> Scales;    // [tokens, ceil(hidden/128)]
    public long Tokens, Hidden, Segments, SegmentStride, XStride, ResidualStride, OutputStride, CodeStride, ScaleStride;
    public int TopK;
    public float Eps;

    public static void Run(NormKernel args)
    {
        var scratch = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        for (long token = Grid.IdxX; token < args.Tokens; token += Grid.DimX)
        {
            // Summed block by block: what one thread adds up alone stays short.
            var sum = 0f;
            for (long block = 0; block < args.Hidden; block += Octet.Float8.Block)
            {
                var end = block + Octet.Float8.Block < args.Hidden ? block + Octet.Float8.Block : args.Hidden;
                var squares = 0f;
                for (var i = block + Group.IdxX; i < end; i += Group.DimX)
                {
                    var h = args.Input(token, i);
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
                    var y = Value(args, token, i, inverse);
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
                        args.Codes[(token * args.CodeStride) + i] = Float8Element.Narrow(Value(args, token, i, inverse), scale);
                    }

                    if (Group.IdxX == 0)
                    {
                        args.Scales[(token * args.ScaleStride) + (block / Octet.Float8.Block)] = scale;
                    }
                }
            }
        }
    }

    private static float Value(NormKernel args, long token, long i, float inverse)
    {
        var h = args.Residual.Length > 0
            ? BFloat16Element.Widen(args.Residual[(token * args.ResidualStride) + i]) : args.Input(token, i);
        return h * inverse * BFloat16Element.Widen(args.Weight[i]);
    }

    /// <summary>x, rounded to BF16 where it is a sum.</summary>
    private readonly float Input(long token, long i)
    {
        if (TopK == 0 && Segments == 0)
        {
            return BFloat16Element.Widen(X[(token * XStride) + i]);
        }

        var sum = 0f;
        for (long segment = 0; segment < Segments; segment++)
        {
            sum += Partials[(segment * SegmentStride) + (token * XStride) + i];
        }

        for (var choice = 0; choice < TopK; choice++)
        {
            var slot = PairSlots[(token * TopK) + choice];
            if (slot >= 0 && slot < Tokens * TopK)
            {
                sum += PairWeights[(token * TopK) + choice] * BFloat16Element.Widen(X[(slot * XStride) + i]);
            }
        }

        return BFloat16Element.Widen(BFloat16Element.Narrow(sum, 1f));
    }
}
