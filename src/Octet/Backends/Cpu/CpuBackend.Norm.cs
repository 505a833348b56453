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
            XLeaves = args.X.Rank == 3 ? (int)Math.Min(Math.Max(args.XLeaves, 1), args.X.Shape[0]) : args.Nodes?.Count ?? Math.Max(args.Leaves, 1),
            ResidualStride = StrideOf(args.Residual),
            OutputStride = StrideOf(args.Output),
            QuantizedStride = args.Quantized?.Values.Strides[0] ?? 0,
            ScaleStride = args.Quantized?.Scales.Strides[0] ?? 0,
            Eps = args.Eps,
            Float8 = Properties.Float8,
        };
        for (var node = 0; node < args.Nodes?.Count; node++)
        {
            task.Nodes[node] = args.Nodes[node].Address;
        }

        if (!args.PairSlots.IsNull)
        {
            task.Sums = new()
            {
                Y = task.X,
                PairSlots = Pointer<int>(args.PairSlots),
                PairExperts = Pointer<int>(args.PairExperts),
                Weights = Pointer<float>(args.PairWeights),
                Slots = args.X.Shape[0],
                Hidden = task.Hidden,
                YStride = task.XStride,
                TopK = (int)args.PairWeights.Shape[1],
                FirstExpert = args.FirstExpert,
                LeafExperts = args.LeafExperts,
                Leaves = task.XLeaves,
            };
        }

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
        public float* Partials;
        public CpuSlotSums Sums;
        public fixed long Nodes[SumTree.MaxLeaves];
        public int XLeaves;
        public long Tokens, Hidden, Segments, XSegmentStride, XStride, ResidualStride, OutputStride, QuantizedStride, ScaleStride;
        public float Eps;
        public DType Float8;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var h = worker.Scratch(Hidden * XLeaves);
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

        // x of a token, where it is a sum the root of its tree. x: [leaves, hidden], of which the first row is asked for.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Load(long token, float* x)
        {
            if (Sums.PairSlots is not null)
            {
                Sums.Load(token, x);
                return;
            }

            if (Partials is not null)
            {
                new Span<float>(x, checked((int)(Hidden * XLeaves))).Clear();
                for (long segment = 0; segment < Segments; segment++)
                {
                    Add(Partials + (segment * XSegmentStride) + (token * XStride), Hidden, x + (segment / (Segments / XLeaves) * Hidden));
                }

                CpuTree.Root(x, Hidden, XLeaves, Hidden, x);
                return;
            }

            if (Nodes[0] == 0)
            {
                Widen(X + (token * XStride), Hidden, x);
                return;
            }

            for (var node = 0; node < XLeaves; node++)
            {
                Widen((BFloat16*)Nodes[node] + (token * XStride), Hidden, x + (node * Hidden));
            }

            CpuTree.Root(x, Hidden, XLeaves, Hidden, x);
        }

        private static void Add(float* part, long length, float* sum)
        {
            for (long i = 0; i < length; i++)
            {
                sum[i] += part[i];
            }
        }
    }
}
