using System.Runtime.CompilerServices;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void KvWrite(DeviceStream stream, in KvWriteArgs args)
    {
        var task = new KvWriteTask
        {
            Cache = new CacheWriter(args.Cache),
            K = Pointer<BFloat16>(args.K),
            V = Pointer<BFloat16>(args.V),
            Slots = Pointer<long>(args.Slots),
            KStride = args.K.Strides[0],
            VStride = args.V.Strides[0],
        };
        threads.For(args.K.Shape[0], args.K.ElementCount * 8, task);
    }

    public override void KvCopy(DeviceStream stream, in KvCopyArgs args)
    {
        var pairs = Pointer<long>(args.Pairs);
        var blocks = args.Cache.Blocks;
        var blockSizeInBytes = args.Cache.KvHeads * (long)args.Cache.BlockSize * args.Cache.HeadDim * args.Cache.K.DType.SizeInBytes();
        var k = Pointer<byte>(args.Cache.K);
        var v = Pointer<byte>(args.Cache.V);
        for (long i = 0; i < args.Pairs.Shape[0]; i++)
        {
            var (from, to) = (pairs[2 * i], pairs[(2 * i) + 1]);
            if (from >= 0 && from < blocks && to >= 0 && to < blocks)
            {
                Buffer.MemoryCopy(k + (from * blockSizeInBytes), k + (to * blockSizeInBytes), blockSizeInBytes, blockSizeInBytes);
                Buffer.MemoryCopy(v + (from * blockSizeInBytes), v + (to * blockSizeInBytes), blockSizeInBytes, blockSizeInBytes);
            }
        }
    }

    /// <summary>One token.</summary>
    private struct KvWriteTask : ICpuTask
    {
        public CacheWriter Cache;
        public BFloat16* K, V;
        public long* Slots;
        public long KStride, VStride;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var dim = Cache.HeadDim;
            var x = stackalloc float[Octet.Float8.Block];
            for (var head = 0; head < Cache.KvHeads && Cache.Holds(Slots[index]); head++)
            {
                var k = K + (index * KStride) + ((long)head * dim);
                var v = V + (index * VStride) + ((long)head * dim);
                for (var i = 0; i < dim; i++)
                {
                    x[i] = k[i];
                }

                Cache.WriteK(Slots[index], head, x);
                for (var i = 0; i < dim; i++)
                {
                    x[i] = v[i];
                }

                Cache.WriteV(Slots[index], head, x);
            }
        }
    }

    /// <summary>Rounds heads into the paged cache: BF16, or FP8 of x / scale, saturated, NaN and infinities as the NaN code.</summary>
    private readonly struct CacheWriter(KvCache cache)
    {
        public readonly int KvHeads = cache.KvHeads, HeadDim = cache.HeadDim;
        private readonly byte* _k = Pointer<byte>(cache.K), _v = Pointer<byte>(cache.V);
        private readonly float* _kScales = Pointer<float>(cache.KScales), _vScales = Pointer<float>(cache.VScales);
        private readonly long _slots = cache.Blocks * cache.BlockSize;
        private readonly int _blockSize = cache.BlockSize;
        private readonly bool _scalePerHead = cache.KScales.ElementCount > 1;
        private readonly DType _type = cache.K.DType;

        public bool Holds(long slot) => slot >= 0 && slot < _slots;

        public void WriteK(long slot, int head, float* x)
        {
            var first = ((((slot / _blockSize) * KvHeads) + head) * _blockSize) + (slot % _blockSize);
            Write(_k, first * HeadDim, 1, x, _kScales, head);
        }

        public void WriteV(long slot, int head, float* x)
        {
            var first = ((slot / _blockSize) * KvHeads) + head;
            Write(_v, (first * HeadDim * _blockSize) + (slot % _blockSize), _blockSize, x, _vScales, head);
        }

        private void Write(byte* destination, long first, long stride, float* x, float* scales, int head)
        {
            if (_type == DType.BFloat16)
            {
                for (var i = 0; i < HeadDim; i++)
                {
                    ((BFloat16*)destination)[first + (i * stride)] = (BFloat16)x[i];
                }

                return;
            }

            var scale = scales[_scalePerHead ? head : 0];
            var codes = stackalloc byte[Octet.Float8.Block];
            Narrow(x, HeadDim, scale, _type, codes);
            for (var i = 0; i < HeadDim; i++)
            {
                destination[first + (i * stride)] = codes[i];
            }
        }
    }
}
