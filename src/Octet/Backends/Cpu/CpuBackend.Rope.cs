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
        public float Eps;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var dim = Cache.HeadDim;
            var cosSin = CosSin + (Math.Clamp(Positions[index], 0, MaxPosition - 1) * dim);
            var x = stackalloc float[Octet.Float8.Block];
            for (long head = 0; head < QHeads; head++)
            {
                Rotate(Q + (index * QStride) + (head * dim), QNorm, cosSin, x);
                var output = QOutput + (index * QOutputStride) + (head * dim);
                Round(x, dim, output);
            }

            for (var head = 0; head < Cache.KvHeads && Cache.Holds(Slots[index]); head++)
            {
                Rotate(K + (index * KStride) + ((long)head * dim), KNorm, cosSin, x);
                Cache.WriteK(Slots[index], head, x);
                Widen(V + (index * VStride) + ((long)head * dim), dim, x);
                Cache.WriteV(Slots[index], head, x);
            }
        }

        /// <summary>x = the head, normalised if there is a weight, and rotated: elements i and i + dim/2 are a pair.</summary>
        private readonly void Rotate(BFloat16* head, BFloat16* weight, float* cosSin, float* x)
        {
            var (dim, half) = (Cache.HeadDim, Cache.HeadDim / 2);
            Widen(head, dim, x);
            if (weight is not null)
            {
                var inverse = InverseRootMeanSquare(x, dim, Eps);
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
