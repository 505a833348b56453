using System.Runtime.CompilerServices;

namespace Octet.Backends;

// The grouped products of the experts: a piece is one panel of an expert's slots by one block of columns.
internal sealed unsafe partial class CpuBackend
{
    public override void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args)
    {
        var gate = Product(args.X.Values, args.X.Scales, args.Gate);
        var up = Product(args.X.Values, args.X.Scales, args.Up);
        var task = new GateUpTask
        {
            Slots = Slots(args.ExpertOffsets, args.Output.Values.Shape[0]),
            Gate = new ExpertWeight(gate, args.Gate),
            Up = new ExpertWeight(up, args.Up),
            SlotPairs = Pointer<int>(args.SlotPairs),
            Output = Pointer<byte>(args.Output.Values),
            Scales = Pointer<float>(args.Output.Scales),
            OutputStride = args.Output.Values.Strides[0],
            ScaleStride = args.Output.Scales.Strides[0],
            Intermediate = args.Gate.N,
            ColumnBlocks = Blocks(args.Gate.N),
            TopK = args.TopK,
            Float8 = Properties.Float8,
        };
        threads.For(task.Slots.Panels * task.ColumnBlocks, task.Slots.Count * 2 * args.Gate.N * args.Gate.K, task);
    }

    public override long MoeGateUpWorkspace(in MoeGateUpArgs args) => 0;

    public override void MoeDown(DeviceStream stream, in MoeDownArgs args)
    {
        var task = new DownTask
        {
            Slots = Slots(args.ExpertOffsets, args.Output.Shape[0]),
            Down = new ExpertWeight(Product(args.X.Values, args.X.Scales, args.Down), args.Down),
            Output = Pointer<BFloat16>(args.Output),
            OutputStride = args.Output.Strides[0],
            Hidden = args.Down.N,
            ColumnBlocks = Blocks(args.Down.N),
        };
        threads.For(task.Slots.Panels * task.ColumnBlocks, task.Slots.Count * args.Down.N * args.Down.K, task);
    }

    public override long MoeDownWorkspace(in MoeDownArgs args) => 0;

    private static ExpertSlots Slots(TensorView offsets, long slots)
    {
        var result = new ExpertSlots { Offsets = Pointer<int>(offsets), Experts = (int)offsets.ElementCount - 1, Slots = slots };
        for (var expert = 0; expert < result.Experts; expert++)
        {
            var (begin, end) = result.Range(expert);
            result.Panels += ExpertSlots.PanelsOf(begin, end);
            result.Count += end - begin;
        }

        return result;
    }

    /// <summary>How the slots of the experts are cut into panels of rows.</summary>
    private struct ExpertSlots
    {
        public int* Offsets;
        public int Experts;
        public long Slots, Panels, Count;

        public static long PanelsOf(long begin, long end) => (end - begin + CpuKernels.PanelRows - 1) / CpuKernels.PanelRows;

        /// <summary>The slots of an expert; whatever the offsets are, none outside the buffers.</summary>
        public readonly (long Begin, long End) Range(int expert)
        {
            var begin = Math.Clamp(Offsets[expert], 0, Slots);
            return (begin, Math.Clamp(Offsets[expert + 1], begin, Slots));
        }

        /// <summary>The expert and the slots of a panel.</summary>
        public readonly (int Expert, long First, int Count) Panel(long panel)
        {
            for (var expert = 0; ; expert++)
            {
                var (begin, end) = Range(expert);
                if (panel < PanelsOf(begin, end))
                {
                    var first = begin + (panel * CpuKernels.PanelRows);
                    return (expert, first, (int)Math.Min(CpuKernels.PanelRows, end - first));
                }

                panel -= PanelsOf(begin, end);
            }
        }
    }

    /// <summary>A stack of experts' weights with the activations they are multiplied with.</summary>
    private readonly struct ExpertWeight(CpuProduct product, Weight weight)
    {
        private readonly CpuProduct _product = product;
        private readonly long _stride = weight.Values.Rank == 3 ? weight.Values.Strides[0] : 0;
        private readonly nint* _addresses = Pointer<nint>(weight.ExpertAddresses);
        private readonly long _scaleStride = weight.Scales is { Rank: 3 } ? weight.Scales.Strides[0] : 0;

        public CpuProduct Of(int expert)
        {
            var one = _product;
            one.B = _addresses is null ? one.B + (expert * _stride) : (byte*)_addresses[expert];
            one.BScales += expert * _scaleStride;
            return one;
        }
    }

    private struct GateUpTask : ICpuTask
    {
        public ExpertSlots Slots;
        public ExpertWeight Gate, Up;
        public int* SlotPairs;
        public byte* Output;
        public float* Scales;
        public long OutputStride, ScaleStride, Intermediate, ColumnBlocks;
        public int TopK;
        public DType Float8;

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var (panel, block) = (index / ColumnBlocks, index % ColumnBlocks);
            var (expert, first, count) = Slots.Panel(panel);
            var column = block * CpuKernels.BlockColumns;
            var columns = (int)Math.Min(CpuKernels.BlockColumns, Intermediate - column);

            // A slot without a pair stays as it is.
            var rows = stackalloc long[CpuKernels.PanelRows];
            var slots = stackalloc long[CpuKernels.PanelRows];
            var used = 0;
            for (var slot = first; slot < first + count; slot++)
            {
                var pair = SlotPairs[slot];
                if (pair >= 0 && pair < Slots.Slots)
                {
                    (rows[used], slots[used]) = (pair / TopK, slot);
                    used++;
                }
            }

            var gates = stackalloc float[CpuKernels.PanelRows * CpuKernels.BlockColumns];
            var ups = stackalloc float[CpuKernels.PanelRows * CpuKernels.BlockColumns];
            worker.Kernels.Multiply(worker, Gate.Of(expert), rows, used, panel, column, columns, gates);
            worker.Kernels.Multiply(worker, Up.Of(expert), rows, used, panel, column, columns, ups);
            for (var r = 0; r < used; r++)
            {
                var gate = gates + (r * CpuKernels.BlockColumns);
                var up = ups + (r * CpuKernels.BlockColumns);
                for (var c = 0; c < columns; c++)
                {
                    gate[c] = GatedSilu(gate[c], up[c]);
                }

                QuantizeRow(gate, columns, Float8, Output + (slots[r] * OutputStride) + column, Scales + (slots[r] * ScaleStride) + block);
            }
        }
    }

    private struct DownTask : ICpuTask
    {
        public ExpertSlots Slots;
        public ExpertWeight Down;
        public BFloat16* Output;
        public long OutputStride, Hidden, ColumnBlocks;

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var (panel, block) = (index / ColumnBlocks, index % ColumnBlocks);
            var (expert, first, count) = Slots.Panel(panel);
            var column = block * CpuKernels.BlockColumns;
            var columns = (int)Math.Min(CpuKernels.BlockColumns, Hidden - column);
            var rows = stackalloc long[CpuKernels.PanelRows];
            for (var r = 0; r < count; r++)
            {
                rows[r] = first + r;
            }

            var result = stackalloc float[CpuKernels.PanelRows * CpuKernels.BlockColumns];
            worker.Kernels.Multiply(worker, Down.Of(expert), rows, count, panel, column, columns, result);
            for (var r = 0; r < count; r++)
            {
                Round(result + (r * CpuKernels.BlockColumns), columns, Output + ((first + r) * OutputStride) + column);
            }
        }
    }
}
