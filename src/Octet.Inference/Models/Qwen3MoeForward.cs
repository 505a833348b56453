using Octet.Inference.Engine;

namespace Octet.Inference.Models;

/// <summary>
/// The model as a sequence of ops: embedding, then for each layer attention and MLP around the residual stream, then the head for
/// the rows that are wanted. Ops are enqueued on the device's stream; nothing is read back here.
/// </summary>
internal sealed class Qwen3MoeForward : IDisposable
{
    private readonly ModelConfig _config;
    private readonly Qwen3MoeWeights _weights;
    private readonly PagedKvCache _cache;
    private readonly DeviceStream _stream;
    private readonly Device _device;
    private readonly StepBuffers _buffers;
    private readonly Tensor _cosSin;
    private readonly float _scoreScale;
    private Tensor? _workspace;

    public Qwen3MoeForward(
        Device device, ModelConfig config, Qwen3MoeWeights weights, PagedKvCache cache, int maxTokens, int maxRows, int maxContext)
    {
        (_device, _stream, _config, _weights, _cache) = (device, device.Stream, config, weights, cache);
        _scoreScale = 1 / MathF.Sqrt(config.HeadDim);
        _cosSin = Tensor.From<float>(device, CosSin(config, maxContext), maxContext, config.HeadDim);
        try
        {
            _buffers = new StepBuffers(device, config, maxTokens, maxRows);
        }
        catch
        {
            _cosSin.Dispose();
            throw;
        }
    }

    /// <summary>Called after each MoE layer's routing with the layer and [tokens, top_k] expert ids: for tests of the routing.</summary>
    public Action<int, Tensor>? Routed { get; set; }

    /// <summary>The most rows of logits one call of <see cref="Head"/> gives.</summary>
    public int MaxRows => (int)_buffers.Rows.Shape[0];

    /// <summary>Reads the batch's tokens through all layers; K and V of every layer are in the cache afterwards.</summary>
    public void Run(Batch batch)
    {
        var residual = Rows(_buffers.Residual, batch.Tokens);
        Ops.Embedding(_stream, new() { Table = _weights.Embedding, Ids = batch.Ids, Output = residual });
        for (var layer = 0; layer < _config.LayerCount; layer++)
        {
            Layer(batch, layer, isFirst: layer == 0);
        }

        Norm(batch.Tokens, _weights.FinalNorm, isFirst: false, output: true, quantize: false);
    }

    /// <summary>Logits of some rows of the last <see cref="Run"/>: [rows, vocabulary] f32, valid until the next call.</summary>
    /// <param name="batch">The batch that was run.</param>
    /// <param name="rows">Rows of the batch, at most <see cref="MaxRows"/>.</param>
    public Tensor Head(Batch batch, ReadOnlySpan<int> rows)
    {
        var indices = Rows(_buffers.Rows, rows.Length);
        _stream.Write(indices, rows);
        var hidden = Rows(_buffers.RowHidden, rows.Length);
        Ops.Embedding(_stream, new() { Table = Rows(_buffers.Normed, batch.Tokens), Ids = indices, Output = hidden });
        var logits = Rows(_buffers.Logits, rows.Length);
        Gemm(new() { A = hidden, B = _weights.Head, Output = logits });
        return logits;
    }

    /// <summary>One layer alone on a given residual stream [tokens, hidden]; gives the stream after it. For tests.</summary>
    public BFloat16[] RunLayer(Batch batch, int layer, ReadOnlySpan<BFloat16> residual)
    {
        var stream = Rows(_buffers.Residual, batch.Tokens);
        _stream.Write(stream, residual);
        Layer(batch, layer, isFirst: true);
        Norm(batch.Tokens, _weights.FinalNorm, isFirst: false, output: true, quantize: false);
        return stream.ToArray<BFloat16>();
    }

    public void Dispose()
    {
        _workspace?.Dispose();
        _buffers.Dispose();
        _cosSin.Dispose();
    }

    // Frequencies and angles in f32, as transformers computes them: at position 262,143 they differ from f64 by 0.015 rad.
    internal static float[] CosSin(ModelConfig config, int positions)
    {
        var half = config.HeadDim / 2;
        var table = new float[(long)positions * config.HeadDim];
        for (var i = 0; i < half; i++)
        {
            var frequency = 1f / MathF.Pow((float)config.RopeTheta, 2f * i / config.HeadDim);
            for (var position = 0; position < positions; position++)
            {
                var (sin, cos) = MathF.SinCos(position * frequency);
                table[(long)position * config.HeadDim + i] = cos;
                table[(long)position * config.HeadDim + half + i] = sin;
            }
        }

        return table;
    }

    private static Tensor Rows(Tensor tensor, long rows) => tensor.Slice(0, 0, rows);

    private static QuantizedTensor Rows(QuantizedTensor tensor, long rows) => new(Rows(tensor.Values, rows), Rows(tensor.Scales, rows));

    private void Layer(Batch batch, int layer, bool isFirst)
    {
        var weights = _weights.Layers[layer];
        Norm(batch.Tokens, weights.InputNorm, isFirst, output: false, quantize: true);
        Attention(batch, layer, weights);
        Norm(batch.Tokens, weights.PostAttentionNorm, isFirst: false, output: weights.Router is not null, quantize: true);
        if (weights.Router is null)
        {
            DenseMlp(batch.Tokens, weights);
        }
        else
        {
            Moe(batch.Tokens, layer, weights);
        }
    }

    // The residual stream takes up the last sublayer's output (none before the first), and is normed.
    private void Norm(int tokens, Tensor weight, bool isFirst, bool output, bool quantize)
    {
        var residual = Rows(_buffers.Residual, tokens);
        Ops.Norm(_stream, new()
        {
            X = isFirst ? residual : Rows(_buffers.Delta, tokens),
            Residual = isFirst ? null : residual,
            Weight = weight,
            Eps = (float)_config.RmsNormEpsilon,
            Output = output ? Rows(_buffers.Normed, tokens) : null,
            Quantized = quantize ? Rows(_buffers.NormedQuantized, tokens) : null,
        });
    }

    private void Attention(Batch batch, int layer, LayerWeights weights)
    {
        var tokens = batch.Tokens;
        var input = Rows(_buffers.NormedQuantized, tokens);
        var qkv = Rows(_buffers.Qkv, tokens);
        long start = 0;
        for (var i = 0; i < weights.Qkv.Length; i++)
        {
            var output = qkv.Slice(1, start, weights.Qkv[i].N);
            Gemm(new() { A = input.Values, AScales = input.Scales, B = weights.Qkv[i], Bias = weights.QkvBias[i], Output = output });
            start += weights.Qkv[i].N;
        }

        long dim = _config.HeadDim;
        var (queries, keys) = (_config.QueryHeads * dim, _config.KeyValueHeads * dim);
        var query = Rows(_buffers.Query, tokens).View(tokens, _config.QueryHeads, dim);
        var cache = _cache.Layers[layer];
        Ops.Rope(_stream, new()
        {
            Q = qkv.Slice(1, 0, queries).SplitLast(_config.QueryHeads, dim),
            K = qkv.Slice(1, queries, keys).SplitLast(_config.KeyValueHeads, dim),
            V = qkv.Slice(1, queries + keys, keys).SplitLast(_config.KeyValueHeads, dim),
            QNorm = weights.QNorm,
            KNorm = weights.KNorm,
            Eps = (float)_config.RmsNormEpsilon,
            CosSin = _cosSin,
            Positions = batch.Positions,
            Slots = batch.Slots,
            QOutput = query,
            Cache = cache,
        });
        var attention = Rows(_buffers.Attention, tokens);
        if (batch.MaxQueries == 1)
        {
            var args = new AttentionDecodeArgs
            {
                Q = query,
                Cache = cache,
                BlockTable = batch.BlockTable,
                ContextLengths = batch.ContextLengths,
                MaxContext = batch.MaxContext,
                Scale = _scoreScale,
                Output = attention.View(tokens, _config.QueryHeads, dim),
            };
            Ops.AttentionDecode(_stream, args with { Workspace = Workspace(Ops.AttentionDecodeWorkspace(_device, args)) });
        }
        else
        {
            var args = new AttentionPrefillArgs
            {
                Q = query,
                Cache = cache,
                BlockTable = batch.BlockTable,
                QueryStarts = batch.QueryStarts,
                ContextLengths = batch.ContextLengths,
                MaxQueries = batch.MaxQueries,
                MaxContext = batch.MaxContext,
                Scale = _scoreScale,
                Output = attention.View(tokens, _config.QueryHeads, dim),
            };
            Ops.AttentionPrefill(_stream, args with { Workspace = Workspace(Ops.AttentionPrefillWorkspace(_device, args)) });
        }

        var quantized = Rows(_buffers.AttentionQuantized, tokens);
        Ops.Quantize(_stream, new() { X = attention, Output = quantized });
        Gemm(new()
        {
            A = quantized.Values,
            AScales = quantized.Scales,
            B = weights.Output,
            Bias = weights.OutputBias,
            Output = Rows(_buffers.Delta, tokens),
        });
    }

    private void Moe(int tokens, int layer, LayerWeights weights)
    {
        var logits = Rows(_buffers.RouterLogits, tokens);
        Gemm(new() { A = Rows(_buffers.Normed, tokens), B = weights.Router!, Output = logits });
        var ids = Rows(_buffers.ExpertIds, tokens);
        var expertWeights = Rows(_buffers.ExpertWeights, tokens);
        Ops.MoeRoute(_stream, new() { Logits = logits, Ids = ids, Weights = expertWeights, Renormalize = _config.NormalizeTopK });
        Routed?.Invoke(layer, ids);

        long pairs = (long)tokens * _config.ExpertsPerToken;
        var slotPairs = Rows(_buffers.SlotPairs, pairs);
        var pairSlots = Rows(_buffers.PairSlots, pairs);
        var sort = new MoeSortArgs
        {
            Ids = ids,
            ExpertOffsets = _buffers.ExpertOffsets,
            SlotPairs = slotPairs,
            PairSlots = pairSlots,
            Experts = _config.ExpertCount,
        };
        Ops.MoeSort(_stream, sort with { Workspace = Workspace(Ops.MoeSortWorkspace(_device, sort)) });

        var gateUp = new MoeGateUpArgs
        {
            X = Rows(_buffers.NormedQuantized, tokens),
            Gate = weights.Gate,
            Up = weights.Up,
            ExpertOffsets = _buffers.ExpertOffsets,
            SlotPairs = slotPairs,
            TopK = _config.ExpertsPerToken,
            Output = Rows(_buffers.GateUp, pairs),
        };
        Ops.MoeGateUp(_stream, gateUp with { Workspace = Workspace(Ops.MoeGateUpWorkspace(_device, gateUp)) });

        var down = new MoeDownArgs
        {
            X = gateUp.Output,
            Down = weights.Down,
            ExpertOffsets = _buffers.ExpertOffsets,
            TopK = _config.ExpertsPerToken,
            Output = Rows(_buffers.Down, pairs),
        };
        Ops.MoeDown(_stream, down with { Workspace = Workspace(Ops.MoeDownWorkspace(_device, down)) });
        Ops.MoeCombine(_stream, new()
        {
            Y = down.Output,
            PairSlots = pairSlots,
            Weights = expertWeights,
            Output = Rows(_buffers.Delta, tokens),
        });
    }

    private void DenseMlp(int tokens, LayerWeights weights)
    {
        var input = Rows(_buffers.NormedQuantized, tokens);
        var (gate, up) = (Rows(_buffers.DenseGate, tokens), Rows(_buffers.DenseUp, tokens));
        Gemm(new() { A = input.Values, AScales = input.Scales, B = weights.Gate, Output = gate });
        Gemm(new() { A = input.Values, AScales = input.Scales, B = weights.Up, Output = up });
        var product = Rows(_buffers.DenseQuantized, tokens);
        Ops.Activation(_stream, new() { Gate = gate, Up = up, Output = product.Values, Scales = product.Scales });
        Gemm(new() { A = product.Values, AScales = product.Scales, B = weights.Down, Output = Rows(_buffers.Delta, tokens) });
    }

    private void Gemm(GemmArgs args) =>
        Ops.Gemm(_stream, args with { Workspace = Workspace(Ops.GemmWorkspace(_device, args)) });

    // One scratch buffer serves all ops of the stream, which run one after another; it only grows.
    private Tensor? Workspace(long sizeInBytes)
    {
        if (sizeInBytes > (_workspace?.SizeInBytes ?? 0))
        {
            _stream.Synchronize();
            _workspace?.Dispose();
            _workspace = Tensor.Create(_device, DType.Byte, sizeInBytes);
        }

        return _workspace;
    }
}
