using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// Attention over the paged cache with grouped queries: q, k and v, norms of q and k as the model has them, rotary embedding, and the output
/// projection. Query and KV heads are divided over ranks; where there are fewer KV heads than ranks, neighbours have the same one.
/// </summary>
internal sealed class Attention
{
    private readonly ModelConfig _config;
    private readonly Linear _qkv;
    private readonly Linear _output;
    private readonly SafeTensor? _qNormSource;
    private readonly SafeTensor? _kNormSource;
    private readonly (long First, long Count) _qNormRange;
    private readonly (long First, long Count) _kNormRange;
    private TensorView _qNorm;
    private TensorView _kNorm;

    /// <param name="source">Where from.</param>
    /// <param name="prefix">Of its tensors: ends in "self_attn.".</param>
    /// <exception cref="ModelFormatException">A tensor is missing, or of another type or shape.</exception>
    public Attention(LayerSource source, string prefix)
    {
        var (tensors, config) = (source.Tensors, source.Config);
        _config = config;
        long queries = (long)config.QueryHeads * config.HeadDim;
        long keys = (long)config.KeyValueHeads * config.HeadDim;
        var queryHeads = source.Sharding.Queries(ShardKind.Column, config.HeadDim);
        var keyHeads = source.Sharding.KeyValues(config.KeyValueHeads, config.HeadDim);
        _qkv = new(
            source, config.HiddenSize, config.AttentionBias,
            ($"{prefix}q_proj", queries, queryHeads), ($"{prefix}k_proj", keys, keyHeads), ($"{prefix}v_proj", keys, keyHeads));
        if (config.QkNorm != QkNorm.None)
        {
            var together = config.QkNorm == QkNorm.Projection;
            _qNormSource = tensors.TakePlain($"{prefix}q_norm.weight", together ? queries : config.HeadDim);
            _kNormSource = tensors.TakePlain($"{prefix}k_norm.weight", together ? keys : config.HeadDim);
            (_qNormRange, _kNormRange) = together
                ? (queryHeads.Of(queries), keyHeads.Of(keys))
                : ((0, config.HeadDim), (0, config.HeadDim));
        }

        var inputs = source.Sharding.Queries(ShardKind.Row, config.HeadDim);
        _output = new(source, queries, config.AttentionBias, ($"{prefix}o_proj", config.HiddenSize, inputs));
        KvScales = KvScales.Take(tensors, prefix, config.KeyValueHeads)?.Of(source.Sharding.KeyValues(config.KeyValueHeads, 1));
    }

    /// <summary>The scales of its FP8 KV cache; null: the checkpoint has none.</summary>
    public KvScales? KvScales { get; }

    /// <summary>Brings it to the device.</summary>
    public void Load(WeightLoader loader)
    {
        _qkv.Load(loader);
        _qNorm = _qNormSource is null ? default : loader.LoadBFloat16(_qNormSource, _qNormRange.First, _qNormRange.Count);
        _kNorm = _kNormSource is null ? default : loader.LoadBFloat16(_kNormSource, _kNormRange.First, _kNormRange.Count);
        _output.Load(loader);
    }

    /// <summary>Enqueues it, from the normed FP8 rows to what it adds to the residual stream; K and V go into the cache.</summary>
    public SublayerOutput Run(ForwardStep step, KvCache cache)
    {
        var (input, buffers) = (step.Input, step.Buffers);
        _qkv.Run(step, buffers.NormedQuantized, buffers.Qkv);
        Ops.Rope(step.Stream, new()
        {
            Q = buffers.Q,
            K = buffers.K,
            V = buffers.V,
            QNorm = _qNorm,
            KNorm = _kNorm,
            Eps = (float)_config.RmsNormEpsilon,
            CosSin = step.CosSin,
            Positions = input.Positions,
            Slots = input.Slots,
            QOutput = buffers.Query,
            Cache = cache,
        });
        var scale = 1 / MathF.Sqrt(_config.HeadDim);
        if (input.DecodeRows > 0)
        {
            Continue(step, cache, scale);
        }

        if (input.PrefillRows > 0)
        {
            ReadPrompts(step, cache, scale);
        }

        return _output.RunForNext(step, buffers.AttentionQuantized, SharedSum.Attention);
    }

    private static void Continue(ForwardStep step, KvCache cache, float scale)
    {
        var (input, buffers) = (step.Input, step.Buffers);
        var args = new AttentionDecodeArgs
        {
            Q = buffers.Query.Slice(0, 0, input.DecodeTokens),
            Cache = cache,
            BlockTable = input.DecodeTable,
            ContextLengths = input.DecodeContexts,
            QueryLength = input.QueryLength,
            MaxContext = input.MaxContext.Decode,
            Scale = scale,
            Quantized = buffers.AttentionQuantized.Rows(0, input.DecodeTokens),
        };
        Ops.AttentionDecode(step.Stream, args with { Workspace = step.Workspace.Take(step.Device.Backend.AttentionDecodeWorkspace(in args)) });
    }

    private static void ReadPrompts(ForwardStep step, KvCache cache, float scale)
    {
        var (input, buffers) = (step.Input, step.Buffers);
        var (first, count) = (input.DecodeTokens, input.Tokens - input.DecodeTokens);
        var output = buffers.Attention.Slice(0, first, count);
        var args = new AttentionPrefillArgs
        {
            Q = buffers.Query.Slice(0, first, count),
            Cache = cache,
            BlockTable = input.PrefillTable,
            QueryStarts = input.QueryStarts,
            ContextLengths = input.PrefillContexts,
            MaxQueries = input.MaxQueries,
            MaxContext = input.MaxContext.Prefill,
            Scale = scale,
            Output = output,
        };
        Ops.AttentionPrefill(step.Stream, args with { Workspace = step.Workspace.Take(step.Device.Backend.AttentionPrefillWorkspace(in args)) });
        Ops.Quantize(step.Stream, new() { X = output.View(count, output.Shape[1] * output.Shape[2]), Output = buffers.AttentionQuantized.Rows(first, count) });
    }
}
