using System.Runtime.CompilerServices;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Activation(DeviceStream stream, in ActivationArgs args)
    {
        var task = new ActivationTask
        {
            Gate = Pointer<BFloat16>(args.Gate),
            Up = Pointer<BFloat16>(args.Up),
            Output = Pointer<byte>(args.Output),
            Scales = Pointer<float>(args.Scales),
            Columns = args.Gate.Shape[1],
            GateStride = args.Gate.Strides[0],
            UpStride = args.Up.Strides[0],
            OutputStride = args.Output.Strides[0],
            ScaleStride = StrideOf(args.Scales),
            OutputType = args.Output.DType,
        };
        threads.For(args.Gate.Shape[0], args.Gate.ElementCount * 16, task);
    }

    /// <summary>silu(gate) * up.</summary>
    private static float GatedSilu(float gate, float up) => gate / (1f + MathF.Exp(-gate)) * up;

    /// <summary>One row.</summary>
    private struct ActivationTask : ICpuTask
    {
        public BFloat16* Gate, Up;
        public byte* Output;
        public float* Scales;
        public long Columns, GateStride, UpStride, OutputStride, ScaleStride;
        public DType OutputType;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var y = worker.Scratch(Columns);
            for (long i = 0; i < Columns; i++)
            {
                y[i] = GatedSilu(Gate[(index * GateStride) + i], Up[(index * UpStride) + i]);
            }

            if (Scales is not null)
            {
                QuantizeRow(y, Columns, OutputType, Output + (index * OutputStride), Scales + (index * ScaleStride));
                return;
            }

            Round(y, Columns, (BFloat16*)Output + (index * OutputStride));
        }
    }
}
