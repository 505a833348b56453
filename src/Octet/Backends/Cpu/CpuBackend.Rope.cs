using System.Runtime.CompilerServices;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Rope(DeviceStream stream, in RopeArgs args)
    {
        var task = new RopeTask
        {
            Cache = new CacheWriter(args.Cache),
            Q = Pointer<BFloat16>(args.Q),
            K = Pointer<BFloat16>(args.K),
            V = Pointer<BFloat16>(args.V),
            QNorm = Pointer<BFloat16>(args.QNorm),
            KNorm = Pointer<BFloat16>(args.KNorm),
            CosSin = Pointer<float>(args.CosSin),
            Positions = Pointer<int>(args.Positions),
            Slots = Pointer<long>(args.Slots),
            QOutput = Pointer<BFloat16>(args.QOutput),
            QStride = args.Q.Strides[0],
            KStride = args.K.Strides[0],
            VStride = args.V.Strides[0],
            QOutputStride = args.QOutput.Strides[0],
            QHeads = args.Q.Shape[1],
            MaxPosition = args.CosSin.Shape[0],
            RotaryDim = (int)args.CosSin.Shape[1],
            NormsProjection = args.NormsProjection,
            Eps = args.Eps,
        };
        threads.For(args.Q.Shape[0], (args.Q.ElementCount + (2 * args.K.ElementCount)) * 4, task);
    }

    /// <summary>One token: its q heads, then k and v of its KV heads.</summary>
    private struct RopeTask : ICpuTask
    {
        public CacheWriter Cache;
        public BFloat16* Q, K, V, QNorm, KNorm, QOutput;
        public float* CosSin;
        public int* Positions;
        public long* Slots;
        public long QStride, KStride, VStride, QOutputStride, QHeads, MaxPosition;
        public int RotaryDim;
        public bool NormsProjection;
        public float Eps;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var dim = Cache.HeadDim;
            var cosSin = CosSin + (Math.Clamp(Positions[index], 0, MaxPosition - 1) * RotaryDim);
            var x = stackalloc float[Octet.Float8.Block];
            var q = Q + (index * QStride);
            var k = K + (index * KStride);
            var v = V + (index * VStride);
            var inverse = ProjectionInverse(q, QNorm, QHeads * dim, worker);
            for (long head = 0; head < QHeads; head++)
            {
                Rotate(q + (head * dim), WeightOf(QNorm, head), inverse, cosSin, x);
                Round(x, dim, QOutput + (index * QOutputStride) + (head * dim));
            }

            if (!Cache.Holds(Slots[index]))
            {
                return;
            }

            inverse = ProjectionInverse(k, KNorm, Cache.KvHeads * (long)dim, worker);
            for (var head = 0; head < Cache.KvHeads; head++)
            {
                Rotate(k + ((long)head * dim), WeightOf(KNorm, head), inverse, cosSin, x);
                Cache.WriteK(Slots[index], head, x);
                Widen(v + ((long)head * dim), dim, x);
                Cache.WriteV(Slots[index], head, x);
            }
        }

        private readonly BFloat16* WeightOf(BFloat16* norm, long head) => norm + (NormsProjection && norm is not null ? head * Cache.HeadDim : 0);

        /// <summary>1 / sqrt(mean(x^2) + eps) over all heads of a row; null: each head has its own, or there is no norm.</summary>
        private readonly float? ProjectionInverse(BFloat16* row, BFloat16* norm, long count, CpuWorker worker)
        {
            if (!NormsProjection || norm is null)
            {
                return null;
            }

            var x = worker.Scratch(count);
            Widen(row, count, x);
            return InverseRootMeanSquare(x, count, Eps);
        }

        /// <summary>x = the head, normalised if there is a weight, its first RotaryDim elements rotated: i and i + RotaryDim/2 are a pair.</summary>
        private readonly void Rotate(BFloat16* head, BFloat16* weight, float? projectionInverse, float* cosSin, float* x)
        {
            var (dim, half) = (Cache.HeadDim, RotaryDim / 2);
            Widen(head, dim, x);
            if (weight is not null)
            {
                var inverse = projectionInverse ?? InverseRootMeanSquare(x, dim, Eps);
                for (var i = 0; i < dim; i++)
                {
                    x[i] = x[i] * inverse * weight[i];
                }
            }

            for (var i = 0; i < half; i++)
            {
                var (a, b, cos, sin) = (x[i], x[i + half], cosSin[i], cosSin[i + half]);
                x[i] = (a * cos) - (b * sin);
                x[i + half] = (b * cos) + (a * sin);
            }
        }
    }
}
