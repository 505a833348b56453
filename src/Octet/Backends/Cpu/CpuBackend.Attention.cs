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
        threads.For(
            sequences * attention.KvHeads, args.Q.ElementCount * task.Splits * 4, new JoinTask { Decode = task });
    }

    public override long AttentionDecodeWorkspace(in AttentionDecodeArgs args) =>
        args.Q.Shape[0] * args.Q.Shape[1] * Splits(args.MaxContext) * (CpuKernels.Lanes + args.Cache.HeadDim) * sizeof(float);

    private static long Splits(long context) => (context + CpuKernels.SplitTokens - 1) / CpuKernels.SplitTokens;

    private static CpuAttention Attention(
        Tensor q, KvCache cache, Tensor blockTable, Tensor? sinks, Tensor output, long maxContext, float scale, int window) => new()
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
            OutputStride = output.Strides[0],
            BlockTableStride = blockTable.Strides[0],
            BlockTableColumns = blockTable.Shape[1],
            Blocks = cache.Blocks,
            MaxContext = maxContext,
            KvHeads = cache.KvHeads,
            BlockSize = cache.BlockSize,
            HeadDim = cache.HeadDim,
            Group = (int)(q.Shape[1] / cache.KvHeads),
            ScaleCount = (int)(cache.KScales?.ElementCount ?? 0),
            Window = window,
            Scale = scale,
            Type = cache.K.DType,
        };

    /// <summary>Adds the partial results of one split to those of the splits before it.</summary>
    private static void Join(float* total, float* partial, int rows, int stride, int dim)
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
            for (var d = CpuKernels.Lanes; d < CpuKernels.Lanes + dim; d++)
            {
                total[d] = (total[d] * keep) + (partial[d] * add);
            }

            total[0] = maximum;
        }
    }

    /// <summary>Rows that have seen nothing yet.</summary>
    private static void Clear(float* totals, int rows, int stride)
    {
        new Span<float>(totals, rows * stride).Clear();
        for (var row = 0; row < rows; row++)
        {
            totals[row * stride] = float.NegativeInfinity;
        }
    }

    /// <summary>output = total / sum, the sink in the sum; a row that sees nothing becomes zeros.</summary>
    private static void Finish(in CpuAttention attention, float* totals, long firstRow, int queries, int kvHead)
    {
        for (var row = 0; row < queries * attention.Group; row++)
        {
            var total = totals + ((long)row * attention.PartialStride);
            var head = ((long)kvHead * attention.Group) + (row % attention.Group);
            var (sum, factor) = (total[1], 1f);
            if (attention.Sinks is not null && total[0] != float.NegativeInfinity)
            {
                var maximum = MathF.Max(total[0], attention.Sinks[head]);
                factor = MathF.Exp(total[0] - maximum);
                sum = (sum * factor) + MathF.Exp(attention.Sinks[head] - maximum);
            }

            var output = attention.Output + ((firstRow + (row / attention.Group)) * attention.OutputStride) + (head * attention.HeadDim);
            for (var d = 0; d < attention.HeadDim; d++)
            {
                output[d] = total[0] == float.NegativeInfinity ? default : (BFloat16)(total[CpuKernels.Lanes + d] * factor / sum);
            }
        }
    }

    /// <summary>A few queries of one sequence that share a KV head, over their whole context.</summary>
    private struct PrefillTask : ICpuTask
    {
        public CpuAttention Attention;
        public int* QueryStarts, ContextLengths;
        public long Rows, MaxQueries, Panels;
        public int Queries;

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
            Clear(totals, rows, stride);
            for (var split = visible / CpuKernels.SplitTokens; split * CpuKernels.SplitTokens < end; split++)
            {
                worker.Kernels.AttendSplit(
                    worker, in Attention, Attention.BlockTable + (sequence * Attention.BlockTableStride), kvHead, start + first, queries,
                    position, split, partials);
                Join(totals, partials, rows, stride, Attention.HeadDim);
            }

            Finish(in Attention, totals, start + first, queries, kvHead);
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

    /// <summary>Joins the splits of one sequence and KV head.</summary>
    private struct JoinTask : ICpuTask
    {
        public DecodeTask Decode;

        public readonly void Run(long index, CpuWorker worker)
        {
            var (sequence, kvHead) = (index / Decode.Attention.KvHeads, (int)(index % Decode.Attention.KvHeads));
            var (stride, rows) = (Decode.Attention.PartialStride, Decode.QueryLength * Decode.Attention.Group);
            var totals = worker.Scratch(CpuKernels.AttentionRows * stride);
            var position = (long)Decode.ContextLengths[sequence] - Decode.QueryLength;
            var (visible, end) = Decode.Attention.Visible(position, position + Decode.QueryLength - 1);
            Clear(totals, rows, stride);
            for (var split = visible / CpuKernels.SplitTokens; split * CpuKernels.SplitTokens < end; split++)
            {
                Join(totals, Decode.Partial(index, split), rows, stride, Decode.Attention.HeadDim);
            }

            Finish(in Decode.Attention, totals, sequence * Decode.QueryLength, Decode.QueryLength, kvHead);
        }
    }
}
