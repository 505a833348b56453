using System.Runtime.CompilerServices;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Norm(DeviceStream stream, in NormArgs args)
    {
        var task = new NormTask
        {
            X = Pointer<BFloat16>(args.X.Rank == 2 ? args.X : default),
            Partials = Pointer<float>(args.X.Rank == 3 ? args.X : default),
            PairSlots = Pointer<int>(args.PairSlots),
            PairWeights = Pointer<float>(args.PairWeights),
            Residual = Pointer<BFloat16>(args.Residual),
            Weight = Pointer<BFloat16>(args.Weight),
            Output = Pointer<BFloat16>(args.Output),
            Quantized = Pointer<byte>(args.Quantized?.Values ?? default),
            Scales = Pointer<float>(args.Quantized?.Scales ?? default),
            Tokens = args.Tokens,
            Hidden = args.X.Shape[^1],
            XStride = args.X.Strides[^2],
            XSegmentStride = args.X.Strides[0],
            Segments = args.X.Shape[0],
            TopK = args.PairWeights.IsNull ? 0 : (int)args.PairWeights.Shape[1],
            ResidualStride = StrideOf(args.Residual),
            OutputStride = StrideOf(args.Output),
            QuantizedStride = args.Quantized?.Values.Strides[0] ?? 0,
            ScaleStride = args.Quantized?.Scales.Strides[0] ?? 0,
            Eps = args.Eps,
            Float8 = Properties.Float8,
        };
        threads.For(task.Tokens, args.X.ElementCount * 8, task);
    }

    /// <summary>1 / sqrt(mean(x^2) + eps), summed in f64: one order, and closer than f32 to what the formula says.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float InverseRootMeanSquare(float* x, long count, float eps)
    {
        var sum = 0.0;
        for (long i = 0; i < count; i++)
        {
            sum += (double)x[i] * x[i];
        }

        return (float)(1 / Math.Sqrt((sum / count) + eps));
    }

    /// <summary>One token.</summary>
    private struct NormTask : ICpuTask
    {
        public BFloat16* X, Residual, Weight, Output;
        public byte* Quantized;
        public float* Scales;
        public float* Partials, PairWeights;
        public int* PairSlots;
        public int TopK;
        public long Tokens, Hidden, Segments, XSegmentStride, XStride, ResidualStride, OutputStride, QuantizedStride, ScaleStride;
        public float Eps;
        public DType Float8;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var h = worker.Scratch(Hidden);
            var residual = Residual is null ? null : Residual + (index * ResidualStride);
            Load(index, h);
            if (residual is not null)
            {
                for (long i = 0; i < Hidden; i++)
                {
                    h[i] += residual[i];
                }

                Round(h, Hidden, residual);
                Widen(residual, Hidden, h);
            }

            var inverse = InverseRootMeanSquare(h, Hidden, Eps);
            for (long i = 0; i < Hidden; i++)
            {
                h[i] = h[i] * inverse * Weight[i];
            }

            if (Output is not null)
            {
                Round(h, Hidden, Output + (index * OutputStride));
            }

            if (Quantized is not null)
            {
                QuantizeRow(h, Hidden, Float8, Quantized + (index * QuantizedStride), Scales + (index * ScaleStride));
            }
        }

        // x of a token, rounded to BF16 where it is a sum.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Load(long token, float* x)
        {
            if (Partials is null && PairSlots is null)
            {
                Widen(X + (token * XStride), Hidden, x);
                return;
            }

            new Span<float>(x, checked((int)Hidden)).Clear();
            for (long segment = 0; Partials is not null && segment < Segments; segment++)
            {
                var part = Partials + (segment * XSegmentStride) + (token * XStride);
                for (long i = 0; i < Hidden; i++)
                {
                    x[i] += part[i];
                }
            }

            if (PairSlots is not null)
            {
                AddSlots(X, XStride, PairSlots + (token * TopK), PairWeights + (token * TopK), TopK, Tokens * TopK, Hidden, x);
            }

            for (long i = 0; i < Hidden; i++)
            {
                x[i] = (float)(BFloat16)x[i];
            }
        }
    }
}
