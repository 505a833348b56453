using System.Runtime.CompilerServices;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Gemm(DeviceStream stream, in GemmArgs args)
    {
        var (m, n, k) = (args.A.Shape[0], args.B.N, args.B.K);
        var panels = (m + CpuKernels.PanelRows - 1) / CpuKernels.PanelRows;

        // Columns of one piece: a row of scales, for which the rows of A are made ready, unless some threads would have none.
        var columns = CpuKernels.BlockColumns;
        while (columns > CpuKernels.BlockColumns / 4 && panels * (n / columns) < 4 * threads.Count)
        {
            columns /= 2;
        }

        var product = Product(args.A, args.AScales, args.B);
        product.Leaves = args.Leaves;
        product.Bias = Pointer<BFloat16>(args.Bias);
        var task = new GemmTask
        {
            Product = product,
            M = m,
            N = n,
            Columns = columns,
            ColumnBlocks = (n + columns - 1) / columns,
            Output = Pointer<byte>(args.Output),
            OutputStride = args.Output.Strides[0],
            OutputIsFloat32 = args.Output.DType == DType.Float32,
        };
        threads.For(panels * task.ColumnBlocks, m * n * k, task);
    }

    public override long GemmWorkspace(in GemmArgs args) => 0;

    private static CpuProduct Product(TensorView a, TensorView aScales, Weight b) => new()
    {
        A = Pointer<byte>(a),
        AScales = Pointer<float>(aScales),
        B = Pointer<byte>(b.Values),
        BScales = Pointer<float>(b.Scales),
        AStride = a.Strides[0],
        AScaleStride = StrideOf(aScales),
        BStride = b.Values.Strides[^2],
        BScaleStride = b.Scales.IsNull ? 0 : b.Scales.Strides[^2],
        K = b.K,
        ScaleRowOffset = b.Scales.IsNull ? 0 : b.ScaleRowOffset,
        ScaleColumnOffset = b.Scales.IsNull ? 0 : b.ScaleColumnOffset,
        Type = b.Values.DType,
    };

    /// <summary>One panel of rows by one block of columns.</summary>
    private struct GemmTask : ICpuTask
    {
        public CpuProduct Product;
        public long M, N, ColumnBlocks, OutputStride;
        public int Columns;
        public byte* Output;
        public bool OutputIsFloat32;

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var (panel, block) = (index / ColumnBlocks, index % ColumnBlocks);
            var (first, column) = (panel * CpuKernels.PanelRows, block * Columns);
            var count = (int)Math.Min(CpuKernels.PanelRows, M - first);
            var columns = (int)Math.Min(Columns, N - column);
            var rows = stackalloc long[CpuKernels.PanelRows];
            for (var r = 0; r < count; r++)
            {
                rows[r] = first + r;
            }

            var result = stackalloc float[CpuKernels.PanelRows * CpuKernels.BlockColumns];
            worker.Kernels.Multiply(worker, in Product, rows, count, panel, column, columns, result);
            for (var r = 0; r < count; r++)
            {
                var begin = ((first + r) * OutputStride) + column;
                var row = result + (r * CpuKernels.BlockColumns);
                if (OutputIsFloat32)
                {
                    new Span<float>(row, columns).CopyTo(new((float*)Output + begin, columns));
                }
                else
                {
                    Round(row, columns, (BFloat16*)Output + begin);
                }
            }
        }
    }
}
