using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

// Prefill and decode sum alike: the context is cut into splits of a fixed number of positions, each gives a partial result, and
// the partial results are joined in order. Prefill joins them as it goes; decode spreads them over the threads and joins after.
internal sealed unsafe partial class CpuBackend
{
    public override void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args)
    {
        var attention = Attention(args.Q, args.Cache, args.BlockTable, args.Sinks, args.Output, args.MaxContext, args.Scale, args.Window);
        var queries = CpuKernels.AttentionRows / attention.Group;
        var task = new PrefillTask
        {
            Attention = attention,
            QueryStarts = Pointer<int>(args.QueryStarts),
            ContextLengths = Pointer<int>(args.ContextLengths),
            Rows = args.Q.Shape[0],
            MaxQueries = args.MaxQueries,
            Queries = queries,
            Panels = (args.MaxQueries + queries - 1) / queries,
        };
        var sequences = args.ContextLengths.ElementCount;
        threads.For(
            sequences * task.Panels * attention.KvHeads, args.Q.ElementCount * Math.Max(args.MaxContext, 1), task);
    }

    public override long AttentionPrefillWorkspace(in AttentionPrefillArgs args) => 0;

    public override void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args)
    {
        var attention = Attention(args.Q, args.Cache, args.BlockTable, args.Sinks, args.Output, args.MaxContext, args.Scale, args.Window);
        var task = new DecodeTask
        {
            Attention = attention,
            ContextLengths = Pointer<int>(args.ContextLengths),
            Partials = Pointer<float>(args.Workspace),
            QueryLength = args.QueryLength,
            Splits = Splits(args.MaxContext),
        };
        var sequences = args.ContextLengths.ElementCount;
        threads.For(
            sequences * task.Splits * attention.KvHeads, args.Q.ElementCount * Math.Max(args.MaxContext, 1), task);
        var join = new JoinTask
        {
            Decode = task,
            KvHeads = attention.Group * attention.HeadDim % Octet.Float8.Block == 0 ? 1 : 2,
            Codes = Pointer<byte>(args.Quantized?.Values ?? default),
            Scales = Pointer<float>(args.Quantized?.Scales ?? default),
            CodeStride = args.Quantized?.Values.Strides[0] ?? 0,
            ScaleStride = args.Quantized?.Scales.Strides[0] ?? 0,
            Float8 = Properties.Float8,
        };
        threads.For(sequences * join.Units, args.Q.ElementCount * task.Splits * 4, join);
    }

    public override long AttentionDecodeWorkspace(in AttentionDecodeArgs args) =>
        args.Q.Shape[0] * args.Q.Shape[1] * Splits(args.MaxContext) * (CpuKernels.Lanes + args.Cache.HeadDim) * sizeof(float);

    private static long Splits(long context) => (context + CpuKernels.SplitTokens - 1) / CpuKernels.SplitTokens;

    private static CpuAttention Attention(
        TensorView q, KvCache cache, TensorView blockTable, TensorView sinks, TensorView output, long maxContext, float scale, int window) => new()
        {
            Q = Pointer<BFloat16>(q),
            K = Pointer<byte>(cache.K),
            V = Pointer<byte>(cache.V),
            KScales = Pointer<float>(cache.KScales),
            VScales = Pointer<float>(cache.VScales),
            Sinks = Pointer<float>(sinks),
            BlockTable = Pointer<int>(blockTable),
            Output = Pointer<BFloat16>(output),
            QStride = q.Strides[0],
            OutputStride = StrideOf(output),
            BlockTableStride = blockTable.Strides[0],
            BlockTableColumns = blockTable.Shape[1],
            Blocks = cache.Blocks,
            MaxContext = maxContext,
            KvHeads = cache.KvHeads,
            BlockSize = cache.BlockSize,
            HeadDim = cache.HeadDim,
            Group = (int)(q.Shape[1] / cache.KvHeads),
            ScaleCount = (int)cache.KScales.ElementCount,
            Window = window,
            Scale = scale,
            Type = cache.K.DType,
        };

    /// <summary>Adds the partial results of one split to those of the splits before it: heads of 64 or 128 are whole vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Join(float* total, float* partial, int rows, int stride)
    {
        for (var row = 0; row < rows; row++, total += stride, partial += stride)
        {
            if (partial[0] == float.NegativeInfinity)
            {
                continue; // the row sees nothing of this split
            }

            var maximum = MathF.Max(total[0], partial[0]);
            var (keep, add) = (MathF.Exp(total[0] - maximum), MathF.Exp(partial[0] - maximum));
            total[1] = (total[1] * keep) + (partial[1] * add);
            for (var d = CpuKernels.Lanes; d < stride; d += Vector256<float>.Count)
            {
                ((Vector256.Load(total + d) * keep) + (Vector256.Load(partial + d) * add)).Store(total + d);
            }

            total[0] = maximum;
        }
    }

    /// <summary>totals = totals times 1 / sum, the sink in the sum; a row that sees nothing becomes zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Normalize(in CpuAttention attention, float* totals, int queries, int kvHead)
    {
        for (var row = 0; row < queries * attention.Group; row++)
        {
            var total = totals + ((long)row * attention.PartialStride);
            if (total[0] == float.NegativeInfinity)
            {
                new Span<float>(total + CpuKernels.Lanes, attention.HeadDim).Clear();
                continue;
            }

            var (sum, factor) = (total[1], 1f);
            if (attention.Sinks is not null)
            {
                var sink = attention.Sinks[((long)kvHead * attention.Group) + (row % attention.Group)];
                var maximum = MathF.Max(total[0], sink);
                factor = MathF.Exp(total[0] - maximum);
                sum = (sum * factor) + MathF.Exp(sink - maximum);
            }

            var share = factor / sum;
            for (var d = CpuKernels.Lanes; d < attention.PartialStride; d += Vector256<float>.Count)
            {
                (Vector256.Load(total + d) * share).Store(total + d);
            }
        }
    }

    /// <summary>output = totals, rounded.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Store(in CpuAttention attention, float* totals, long firstRow, int queries, int kvHead)
    {
        for (var row = 0; row < queries * attention.Group; row++)
        {
            var total = totals + ((long)row * attention.PartialStride) + CpuKernels.Lanes;
            var head = ((long)kvHead * attention.Group) + (row % attention.Group);
            Round(
                total, attention.HeadDim,
                attention.Output + ((firstRow + (row / attention.Group)) * attention.OutputStride) + (head * attention.HeadDim));
        }
    }

    /// <summary>A few queries of one sequence that share a KV head, over their whole context.</summary>
    private struct PrefillTask : ICpuTask
    {
        public CpuAttention Attention;
        public int* QueryStarts, ContextLengths;
        public long Rows, MaxQueries, Panels;
        public int Queries;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var kvHead = (int)(index % Attention.KvHeads);
            var (sequence, panel) = (index / Attention.KvHeads / Panels, index / Attention.KvHeads % Panels);
            var start = Math.Clamp(QueryStarts[sequence], 0, Rows);
            var length = Math.Min(Math.Clamp(QueryStarts[sequence + 1], start, Rows) - start, MaxQueries);
            var first = panel * Queries;
            var queries = (int)Math.Min(Queries, length - first);
            if (queries <= 0)
            {
                return;
            }

            // The totals lie behind the scratch memory of AttendSplit.
            var (stride, rows) = (Attention.PartialStride, queries * Attention.Group);
            var scratch = CpuKernels.AttentionScratch(in Attention);
            var totals = worker.Scratch(scratch + (2L * CpuKernels.AttentionRows * stride)) + scratch;
            var partials = totals + (CpuKernels.AttentionRows * stride);
            var position = ContextLengths[sequence] - length + first;
            var (visible, end) = Attention.Visible(position, position + queries - 1);
            CpuKernels.ClearPartials(totals, rows, stride);
            for (long firstSplit = visible / CpuKernels.SplitTokens, split = firstSplit; split * CpuKernels.SplitTokens < end; split++)
            {
                worker.Kernels.AttendSplit(
                    worker, in Attention, Attention.BlockTable + (sequence * Attention.BlockTableStride), kvHead, start + first, queries,
                    position, split, split == firstSplit ? totals : partials);
                if (split > firstSplit)
                {
                    Join(totals, partials, rows, stride);
                }
            }

            Normalize(in Attention, totals, queries, kvHead);
            Store(in Attention, totals, start + first, queries, kvHead);
        }
    }

    /// <summary>The queries of one sequence that share a KV head, over one split; partials are [sequence, KV head, split, query, head].</summary>
    private struct DecodeTask : ICpuTask
    {
        public CpuAttention Attention;
        public int* ContextLengths;
        public float* Partials;
        public long Splits;
        public int QueryLength;

        public readonly void Run(long index, CpuWorker worker)
        {
            var (pair, split) = (index / Splits, index % Splits);
            var (sequence, kvHead) = (pair / Attention.KvHeads, (int)(pair % Attention.KvHeads));
            var position = (long)ContextLengths[sequence] - QueryLength;
            var (_, end) = Attention.Visible(position, position + QueryLength - 1);
            if (split * CpuKernels.SplitTokens >= end)
            {
                return;
            }

            worker.Kernels.AttendSplit(
                worker, in Attention, Attention.BlockTable + (sequence * Attention.BlockTableStride), kvHead, sequence * QueryLength,
                QueryLength, position, split, Partial(pair, split));
        }

        public readonly float* Partial(long pair, long split) =>
            Partials + (((pair * Splits) + split) * QueryLength * Attention.Group * Attention.PartialStride);
    }

    /// <summary>Joins the splits of one sequence and KV head; of two where only both fill whole scale blocks.</summary>
    private struct JoinTask : ICpuTask
    {
        public DecodeTask Decode;
        public int KvHeads;
        public byte* Codes;
        public float* Scales;
        public long CodeStride, ScaleStride;
        public DType Float8;

        public readonly long Units => (Decode.Attention.KvHeads + KvHeads - 1) / KvHeads;

        public readonly void Run(long index, CpuWorker worker)
        {
            var attention = Decode.Attention;
            var (sequence, first) = (index / Units, (int)(index % Units) * KvHeads);
            var (stride, rows, width) = (attention.PartialStride, Decode.QueryLength * attention.Group, attention.Group * attention.HeadDim);
            var row = worker.Scratch((2L * Decode.QueryLength * width) + (CpuKernels.AttentionRows * stride));
            var totals = row + (2L * Decode.QueryLength * width);
            var position = (long)Decode.ContextLengths[sequence] - Decode.QueryLength;
            var (visible, end) = attention.Visible(position, position + Decode.QueryLength - 1);
            var kvHeads = Math.Min(KvHeads, attention.KvHeads - first);
            for (var i = 0; i < kvHeads; i++)
            {
                CpuKernels.ClearPartials(totals, rows, stride);
                for (var split = visible / CpuKernels.SplitTokens; split * CpuKernels.SplitTokens < end; split++)
                {
                    Join(totals, Decode.Partial((sequence * attention.KvHeads) + first + i, split), rows, stride);
                }

                Normalize(in attention, totals, Decode.QueryLength, first + i);
                if (attention.Output is not null)
                {
                    Store(in attention, totals, sequence * Decode.QueryLength, Decode.QueryLength, first + i);
                }

                for (var r = 0; r < rows; r++)
                {
                    var place = row + (((((long)r / attention.Group) * kvHeads) + i) * width) + (r % attention.Group * attention.HeadDim);
                    new Span<float>(totals + ((long)r * stride) + CpuKernels.Lanes, attention.HeadDim).CopyTo(new(place, attention.HeadDim));
                }
            }

            for (var query = 0; query < Decode.QueryLength && Codes is not null; query++)
            {
                var (line, column) = ((sequence * Decode.QueryLength) + query, (long)first * width);
                QuantizeRow(
                    row + ((long)query * kvHeads * width), (long)kvHeads * width, Float8, Codes + (line * CodeStride) + column,
                    Scales + (line * ScaleStride) + (column / Octet.Float8.Block));
            }
        }
    }
}
