using Octet.Inference.Engine;
using Octet.Inference.Models.Layers;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models;

/// <summary>What a model takes of a device's memory beside its KV cache, from its config.json: known before a weight is read.</summary>
internal static class ModelMemory
{
    /// <summary>The question how large the KV cache may be, for a model that is not loaded yet.</summary>
    public static KvMemory Ask(Device device, RankShape shape, LanguageModelOptions options, StepBounds bounds, bool mayMap = true)
    {
        var (config, properties, maxContext) = (shape.Config, device.Properties, bounds.MaxContext);
        using var memory = new TensorSet(device, isMeasured: true);
        var buffers = new StepBuffers(memory, shape, bounds.MaxTokens, bounds.MaxOutputs);
        return new KvMemory
        {
            Device = device.Name,
            FreeBytes = device.FreeMemory,
            WeightBytes = Weights(shape, isMapped: mayMap && shape.Ranks == 1 && properties.SharesHostMemory && device.Float8 == DType.Float8E4M3),
            BufferBytes = memory.SizeInBytes + Tables(config, options, maxContext, bounds.MaxOutputs),
            WorkspaceBytes = Workspace(device, shape, options, buffers, bounds.MaxOutputs, maxContext),
            UsesHostMemory = properties.UsesHostMemory,
            UsesGraphs = options.UseGraphs && properties.SupportsGraphs,
            BytesPerToken = shape.Kv.BytesPerToken(options.KvEncoding),
            Tensors = 2 * config.LayerCount,
            BlockSize = options.KvBlockSize,
            MaxContext = maxContext,
            MaxSequences = options.MaxSequences,
            TokenBudget = Math.Min(options.TokenBudget, maxContext),
            Tokens = options.KvCacheTokens,
            Share = options.KvMemoryShare,
            CanShrink = options.KvEncoding == KvEncoding.BFloat16,
        };
    }

    /// <summary>Bytes of all weights: FP8 with one f32 scale for each 128 x 128 block, embedding, head, router and norms BF16.</summary>
    /// <param name="shape">The rank.</param>
    /// <param name="isMapped">Whether they stay in the mapped files of an FP8 checkpoint: then scales and addresses alone.</param>
    public static long Weights(RankShape shape, bool isMapped)
    {
        var config = shape.Config;
        long hidden = config.HiddenSize;
        long queries = (long)shape.QueryHeads * config.HeadDim;
        long keys = (long)shape.KeyValueHeads * config.HeadDim;
        long Plain(long elements) => isMapped ? 0 : 2 * elements;
        long Matrices(long count, long n, long k) => count * (4 * Blocks(n) * Blocks(k) + (isMapped ? sizeof(long) : n * k));

        long norms = config.QkNorm switch
        {
            QkNorm.Head => 2 * config.HeadDim,
            QkNorm.Projection => queries + keys,
            _ => 0,
        };
        var sum = Plain((config.TieWordEmbeddings ? 1L : 2L) * shape.Vocabulary.Count * hidden + hidden);
        for (var layer = 0; layer < config.LayerCount; layer++)
        {
            sum += Plain(2 * hidden + norms) + Matrices(1, queries, hidden) + Matrices(2, keys, hidden) + Matrices(1, hidden, queries);
            if (config.AttentionBias)
            {
                sum += Plain(queries + 2 * keys + hidden);
            }

            long experts = config.IsMoeLayer(layer) ? shape.Experts : 1;
            long width = config.IsMoeLayer(layer) ? shape.ExpertWidth : shape.DenseWidth;
            sum += Matrices(2 * experts, width, hidden) + Matrices(experts, hidden, width) + (config.IsMoeLayer(layer) ? Plain(config.ExpertCount * hidden) : 0);
            sum += config.IsMoeLayer(layer) && config.HasScoreBias ? sizeof(float) * config.ExpertCount : 0;
        }

        return sum;
    }

    // Angles of RoPE, and the block table of a batch.
    private static long Tables(ModelConfig config, LanguageModelOptions options, int maxContext, int maxRows) =>
        4L * maxContext * config.RotaryDim + 4L * maxRows * ((maxContext + options.KvBlockSize - 1) / options.KvBlockSize);

    // What the largest step's ops ask for: none asks for less as its bounds grow. One buffer serves them all in turn; partial sums have
    // another.
    private static long Workspace(Device device, RankShape shape, LanguageModelOptions options, StepBuffers step, int rows, int maxContext)
    {
        var config = shape.Config;
        using var memory = new TensorSet(device, isMeasured: true);
        TensorView Lying(DType type, params long[] sizes) => memory.Create(type, sizes);
        Weight Matrix(params long[] sizes) => new()
        {
            Values = Lying(device.Float8, sizes),
            Scales = Lying(DType.Float32, [.. sizes[..^2], Blocks(sizes[^2]), Blocks(sizes[^1])]),
        };
        long Gemm(TensorView a, TensorView scales, Weight b, TensorView output, long fullN, long fullK = 0, int leaves = 0) =>
            Ops.GemmWorkspace(device, new() { A = a, AScales = scales, B = b, Output = output, FullN = fullN, FullK = fullK, Leaves = leaves });
        long Quantized(QuantizedTensor a, Weight b, TensorView output, long fullN) => Gemm(a.Values, a.Scales, b, output, fullN);
        long Tree(QuantizedTensor a, Weight b, TensorView output, long fullK) =>
            Gemm(a.Values, a.Scales, b, output, 0, fullK, (int)(SumTree.LeavesOfProduct(fullK) * b.K / fullK));

        var tokens = step.Residual.Shape[0];
        long hidden = config.HiddenSize;
        var projection = Tree(step.AttentionQuantized, Matrix(hidden, step.AttentionQuantized.Values.Shape[1]), step.Node(SharedSum.Mlp), (long)config.QueryHeads * config.HeadDim);
        var router = config.ExpertCount == 0
            ? 0
            : Gemm(step.Normed, default, new() { Values = Lying(DType.BFloat16, config.ExpertCount, hidden) }, step.RouterLogits, 0);
        var scratch = new List<long>
        {
            projection,
            router,
            Quantized(step.NormedQuantized, Matrix(step.Qkv.Shape[1], hidden), step.Qkv, (config.QueryHeads + 2L * config.KeyValueHeads) * config.HeadDim),
            Gemm(step.RowHidden, default, new() { Values = Lying(DType.BFloat16, shape.Vocabulary.Count, hidden) }, Lying(DType.Float32, rows, shape.Vocabulary.Count), config.VocabularySize),
        };
        if (shape.IsLeader)
        {
            scratch.Add(Ops.SamplingWorkspace(device, new()
            {
                Logits = step.Logits,
                Temperatures = Lying(DType.Float32, rows),
                TopK = Lying(DType.Int32, rows),
                TopP = Lying(DType.Float32, rows),
                Seeds = Lying(DType.Int64, rows),
                Counters = Lying(DType.Int64, rows),
                Ids = Lying(DType.Int32, rows),
            }));
        }

        var sums = Math.Max(projection, router);
        if (step.DenseGate.Shape[1] is > 0 and var dense)
        {
            var down = Tree(step.DenseQuantized, Matrix(hidden, dense), step.Node(SharedSum.Mlp), config.IntermediateSize);
            scratch.Add(Quantized(step.NormedQuantized, Matrix(dense, hidden), step.DenseGate, config.IntermediateSize));
            scratch.Add(down);
            sums = Math.Max(sums, down);
        }

        var type = options.KvEncoding == KvEncoding.BFloat16 ? DType.BFloat16 : device.Float8;
        var scale = type == DType.BFloat16 ? default : Lying(DType.Float32, 1);
        var cache = new KvCache
        {
            K = Lying(type, 1, shape.KeyValueHeads, options.KvBlockSize, config.HeadDim),
            V = Lying(type, 1, shape.KeyValueHeads, config.HeadDim, options.KvBlockSize),
            KScales = scale,
            VScales = scale,
        };
        var blocks = (maxContext + options.KvBlockSize - 1) / options.KvBlockSize;
        scratch.Add(Ops.AttentionDecodeWorkspace(device, new()
        {
            Q = step.Query.Slice(0, 0, rows),
            Cache = cache,
            BlockTable = Lying(DType.Int32, rows, blocks),
            ContextLengths = Lying(DType.Int32, rows),
            MaxContext = maxContext,
            Scale = 1,
            Quantized = step.AttentionQuantized.Rows(0, rows),
        }));
        scratch.Add(Ops.AttentionPrefillWorkspace(device, new()
        {
            Q = step.Query,
            Cache = cache,
            BlockTable = Lying(DType.Int32, rows, blocks),
            QueryStarts = Lying(DType.Int32, rows + 1),
            ContextLengths = Lying(DType.Int32, rows),
            MaxQueries = tokens,
            MaxContext = maxContext,
            Scale = 1,
            Output = step.Query,
        }));
        if (config.ExpertCount > 0)
        {
            scratch.Add(Ops.MoeRouteWorkspace(device, new()
            {
                Logits = step.RouterLogits,
                Ids = step.ExpertIds,
                Weights = step.ExpertWeights,
                Renormalize = config.NormalizeTopK,
                Scoring = config.Scoring,
                ScoreBias = config.HasScoreBias ? Lying(DType.Float32, config.ExpertCount) : default,
                ExpertOffsets = step.ExpertOffsets,
                SlotPairs = step.SlotPairs,
                PairSlots = step.PairSlots,
            }));
            scratch.Add(shape.Ranks == 1 ? 0 : Ops.MoeSortWorkspace(device, new()
            {
                Ids = step.ExpertIds,
                ExpertOffsets = step.ExpertOffsets,
                SlotPairs = step.SlotPairs,
                PairSlots = step.PairSlots,
                Experts = config.ExpertCount,
            }));
            scratch.Add(Ops.MoeGateUpWorkspace(device, new()
            {
                X = step.NormedQuantized,
                Gate = Matrix(shape.Experts, shape.ExpertWidth, hidden),
                Up = Matrix(shape.Experts, shape.ExpertWidth, hidden),
                ExpertOffsets = step.ExpertOffsets,
                SlotPairs = step.SlotPairs,
                TopK = config.ExpertsPerToken,
                LayerExperts = config.ExpertCount,
                Output = step.GateUp,
            }));
            scratch.Add(Ops.MoeDownWorkspace(device, new()
            {
                X = step.GateUp,
                Down = Matrix(shape.Experts, hidden, shape.ExpertWidth),
                ExpertOffsets = step.ExpertOffsets,
                TopK = config.ExpertsPerToken,
                LayerExperts = config.ExpertCount,
                Output = step.Down,
            }));
        }

        return scratch.Max() + sums;
    }

    private static long Blocks(long elements) => (elements + Float8.Block - 1) / Float8.Block;
}
