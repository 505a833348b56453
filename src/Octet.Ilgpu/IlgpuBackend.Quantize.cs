using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Quantize(DeviceStream stream, in QuantizeArgs args) =>
        Quantize(stream, args.X, args.Output.Values, args.Output.Scales, 1);

    private void Quantize(DeviceStream stream, TensorView x, TensorView codes, TensorView scales, int blockRows)
    {
        if (x.DType == DType.Float32)
        {
            Launch(_quantizeSingle);
        }
        else
        {
            Launch(_quantizeBFloat16);
        }

        void Launch<T>(IlgpuKernel<QuantizeKernel<T>> kernel) where T : unmanaged
        {
            var args = new QuantizeKernel<T>
            {
                X = View<T>(x),
                Codes = View<byte>(codes),
                Scales = View<float>(scales),
                Rows = x.Shape[0],
                Columns = x.Shape[1],
                RowBlocks = (x.Shape[0] + blockRows - 1) / blockRows,
                ColumnBlocks = Blocks(x.Shape[1]),
                XStride = x.Strides[0],
                CodeStride = codes.Strides[^2],
                ScaleStride = scales.Strides[^2],
                BlockRows = blockRows,
            };
            kernel.Launch(Stream(stream), args.RowBlocks * args.ColumnBlocks, _shape.Threads, args);
        }
    }
}

/// <summary>FP8 with one scale for each block of BlockRows x 128: 1 row for activations, 128 for weights. A group for each block.</summary>
internal struct QuantizeKernel<T> where T : unmanaged
{
    public ArrayView<T> X;          // [rows, columns]
    public ArrayView<byte> Codes;   // [rows, columns] FP8
    public ArrayView<float> Scales; // [RowBlocks, ColumnBlocks]
    public long Rows, Columns, RowBlocks, ColumnBlocks, XStride, CodeStride, ScaleStride;
    public int BlockRows;

    public static void Run<TElement>(QuantizeKernel<T> args) where TElement : struct, IElement<T>
    {
        var scratch = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        for (long block = Grid.IdxX; block < args.RowBlocks * args.ColumnBlocks; block += Grid.DimX)
        {
            var (rowBlock, columnBlock) = (block / args.ColumnBlocks, block % args.ColumnBlocks);
            var (firstRow, firstColumn) = (rowBlock * args.BlockRows, columnBlock * Octet.Float8.Block);
            var endRow = firstRow + args.BlockRows < args.Rows ? firstRow + args.BlockRows : args.Rows;
            var endColumn = firstColumn + Octet.Float8.Block < args.Columns ? firstColumn + Octet.Float8.Block : args.Columns;
            var amax = 0f;
            for (var row = firstRow; row < endRow; row++)
            {
                for (var column = firstColumn + Group.IdxX; column < endColumn; column += Group.DimX)
                {
                    amax = GroupWork.Amax(amax, TElement.Widen(args.X[(row * args.XStride) + column]));
                }
            }

            var scale = Float8Element.Scale(GroupWork.Largest(amax, scratch));
            for (var row = firstRow; row < endRow; row++)
            {
                for (var column = firstColumn + Group.IdxX; column < endColumn; column += Group.DimX)
                {
                    var x = TElement.Widen(args.X[(row * args.XStride) + column]);
                    args.Codes[(row * args.CodeStride) + column] = Float8Element.Narrow(x, scale);
                }
            }

            if (Group.IdxX == 0)
            {
                args.Scales[(rowBlock * args.ScaleStride) + columnBlock] = scale;
            }
        }
    }
}
