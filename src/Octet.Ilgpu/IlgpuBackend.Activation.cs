using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Activation(DeviceStream stream, in ActivationArgs args)
    {
        var kernel = new ActivationKernel
        {
            Gate = View<ushort>(args.Gate),
            Up = View<ushort>(args.Up),
            Output = args.Scales.IsNull ? View<ushort>(args.Output) : ArrayView<ushort>.Empty,
            Codes = args.Scales.IsNull ? ArrayView<byte>.Empty : View<byte>(args.Output),
            Scales = View<float>(args.Scales),
            Rows = args.Gate.Shape[0],
            Columns = args.Gate.Shape[1],
            ColumnBlocks = Blocks(args.Gate.Shape[1]),
            GateStride = args.Gate.Strides[0],
            UpStride = args.Up.Strides[0],
            OutputStride = args.Output.Strides[0],
            ScaleStride = StrideOf(args.Scales),
        };
        _activation.Launch(Stream(stream), kernel.Rows * kernel.ColumnBlocks, _shape.Threads, kernel);
    }
}

/// <summary>silu(gate) * up, as BF16 or as FP8 blocks. A group for each 128 columns of a row.</summary>
internal struct ActivationKernel
{
    public ArrayView<ushort> Gate, Up; // [rows, columns] BF16
    public ArrayView<ushort> Output;   // [rows, columns] BF16; empty with FP8
    public ArrayView<byte> Codes;      // [rows, columns] FP8; empty with BF16
    public ArrayView<float> Scales;    // [rows, ColumnBlocks]
    public long Rows, Columns, ColumnBlocks, GateStride, UpStride, OutputStride, ScaleStride;

    public static void Run(ActivationKernel args)
    {
        var scratch = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        var y = SharedMemory.Allocate<float>(Octet.Float8.Block);
        for (long block = Grid.IdxX; block < args.Rows * args.ColumnBlocks; block += Grid.DimX)
        {
            var (row, columnBlock) = (block / args.ColumnBlocks, block % args.ColumnBlocks);
            var first = columnBlock * Octet.Float8.Block;
            var count = first + Octet.Float8.Block < args.Columns ? Octet.Float8.Block : args.Columns - first;
            var amax = 0f;
            for (var i = Group.IdxX; i < count; i += Group.DimX)
            {
                // A thread reads back only what it wrote itself.
                y[i] = GroupWork.GatedSilu(
                    BFloat16Element.Widen(args.Gate[(row * args.GateStride) + first + i]),
                    BFloat16Element.Widen(args.Up[(row * args.UpStride) + first + i]));
                amax = GroupWork.Amax(amax, y[i]);
            }

            if (args.Output.Length > 0)
            {
                for (var i = Group.IdxX; i < count; i += Group.DimX)
                {
                    args.Output[(row * args.OutputStride) + first + i] = BFloat16Element.Narrow(y[i], 1f);
                }
            }
            else
            {
                var scale = Float8Element.Scale(GroupWork.Largest(amax, scratch));
                for (var i = Group.IdxX; i < count; i += Group.DimX)
                {
                    args.Codes[(row * args.OutputStride) + first + i] = Float8Element.Narrow(y[i], scale);
                }

                if (Group.IdxX == 0)
                {
                    args.Scales[(row * args.ScaleStride) + columnBlock] = scale;
                }
            }
        }
    }
}
