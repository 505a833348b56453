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
    private readonly Workspace _workspace;
    private readonly StepBuffers _buffers;
    private readonly Tensor _cosSin;
    private readonly float _scoreScale;
    private StepBuffers? _step;

    // The tokens of continuations and those of prompts of the step, which go through attention apart.
    private AttentionRows? _continued;
    private AttentionRows? _prompts;
    private (StepBuffers? Step, int DecodeTokens) _split;

    public Qwen3MoeForward(
        Device device, ModelConfig config, Qwen3MoeWeights weights, PagedKvCache cache, Workspace workspace, int maxTokens, int maxRows,
        int maxContext)
    {
        (_device, _stream, _config, _weights, _cache, _workspace) = (device, device.Stream, config, weights, cache, workspace);
        _scoreScale = 1 / MathF.Sqrt(config.HeadDim);
        _cosSin = Tensor.From<float>(device, RotaryEmbedding.CosSin(config, maxContext), maxContext, config.HeadDim);
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

    /// <summary>[positions, head_dim] f32: the angles of RoPE; for tests of a position that is spoiled.</summary>
    public Tensor Angles => _cosSin;

    /// <summary>The most rows of logits one call of <see cref="Head(int, int)"/> gives.</summary>
    public int MaxRows => (int)_buffers.Rows.Shape[0];

    /// <summary>Tokens of the vocabulary.</summary>
    public int VocabularySize => _config.VocabularySize;

    /// <summary>[outputs, vocabulary] f32: what the last call of <see cref="Head(StepInput)"/> or <see cref="Head(int, int)"/> gave, and behind it what older ones did.</summary>
    public Tensor Logits => _buffers.Logits;

    /// <summary>Reads the step's tokens through all layers; K and V of every layer are in the cache afterwards.</summary>
    public void Run(StepInput input)
    {
        var step = Step(input.Tokens);
        SplitAttention(step, input);
        Ops.Embedding(_stream, new() { Table = _weights.Embedding, Ids = input.Ids, Output = step.Residual });
        var source = NormSource.Residual;
        for (var layer = 0; layer < _config.LayerCount; layer++)
        {
            source = Layer(input, step, layer, source);
        }

        Norm(step, _weights.FinalNorm, source, output: true, quantize: false);
    }

    /// <summary>Logits of the outputs of the step of the last <see cref="Run"/>: [outputs, vocabulary] f32, valid until the next call.</summary>
    public Tensor Head(StepInput input)
    {
        var step = Step(input.Tokens);
        if (input.PrefillRows == 0)
        {
            // Every token's logits are wanted, in order.
            Gemm(new() { A = step.Normed, B = _weights.Head, Output = step.Logits });
            return step.Logits;
        }

        var hidden = _buffers.RowHidden.Slice(0, 0, input.Outputs);
        Ops.Embedding(_stream, new() { Table = step.Normed, Ids = input.OutputTokens, Output = hidden });
        var logits = _buffers.Logits.Slice(0, 0, input.Outputs);
        Gemm(new() { A = hidden, B = _weights.Head, Output = logits });
        return logits;
    }

    /// <summary>Logits of some tokens of the last <see cref="Run"/>, at most <see cref="MaxRows"/>: [count, vocabulary] f32, valid until the next call.</summary>
    public Tensor Head(int first, int count)
    {
        var logits = _buffers.Logits.Slice(0, 0, count);
        Gemm(new() { A = _buffers.Normed.Slice(0, first, count), B = _weights.Head, Output = logits });
        return logits;
    }

    /// <summary>One layer alone on a given residual stream [tokens, hidden]; gives the stream after it. For tests.</summary>
    public BFloat16[] RunLayer(StepInput input, int layer, ReadOnlySpan<BFloat16> residual)
    {
        var step = Step(input.Tokens);
        SplitAttention(step, input);
        _stream.Write(step.Residual, residual);
        var source = Layer(input, step, layer, NormSource.Residual);
        Norm(step, _weights.FinalNorm, source, output: true, quantize: false);
        return step.Residual.ToArray<BFloat16>();
    }

    public void Dispose()
    {
        _buffers.Dispose();
        _cosSin.Dispose();
    }

    // What a norm adds to the residual stream before it.
    private enum NormSource
    {
        Residual, // nothing
        Delta,    // the output of attention or of a dense MLP
        Experts,  // the slots of an MoE layer, combined on the way
    }

    // Steps of decode have the same number of tokens for long: their views are made once.
    private StepBuffers Step(int tokens) => _step = _step?.Residual.Shape[0] == tokens ? _step : _buffers.First(tokens);

    private void SplitAttention(StepBuffers step, StepInput input)
    {
        if (_split == (step, input.DecodeTokens))
        {
            return;
        }

        var prompts = input.Tokens - input.DecodeTokens;
        _continued = input.DecodeTokens > 0 ? step.AttentionOf(0, input.DecodeTokens) : null;
        _prompts = prompts > 0 ? step.AttentionOf(input.DecodeTokens, prompts) : null;
        _split = (step, input.DecodeTokens);
    }

    // Gives where the layer's output is, which the next norm adds to the residual stream.
    private NormSource Layer(StepInput input, StepBuffers step, int layer, NormSource source)
    {
        var weights = _weights.Layers[layer];
        Norm(step, weights.InputNorm, source, output: false, quantize: true);
        var attention = Attention(input, step, layer, weights);
        Norm(step, weights.PostAttentionNorm, NormSource.Delta, output: weights.Router is not null, quantize: true, attention);
        if (weights.Router is null)
        {
            DenseMlp(step, weights);
            return NormSource.Delta;
        }

        Moe(step, layer, weights);
        return NormSource.Experts;
    }

    // The residual stream takes up the last sublayer's output, and is normed.
    private void Norm(
        StepBuffers step, Tensor weight, NormSource source, bool output, bool quantize, Tensor? delta = null) => Ops.Norm(_stream, new()
    {
        X = source switch
        {
            NormSource.Residual => step.Residual,
            NormSource.Experts => step.Down,
            _ => delta ?? step.Delta,
        },
        PairSlots = source == NormSource.Experts ? step.PairSlots : null,
        PairWeights = source == NormSource.Experts ? step.ExpertWeights : null,
        Residual = source == NormSource.Residual ? null : step.Residual,
        Weight = weight,
        Eps = (float)_config.RmsNormEpsilon,
        Output = output ? step.Normed : null,
        Quantized = quantize ? step.NormedQuantized : null,
    });

    // Gives what it adds to the residual stream, which may be partial sums.
    private Tensor Attention(StepInput input, StepBuffers step, int layer, LayerWeights weights)
    {
        for (var i = 0; i < weights.Qkv.Length; i++)
        {
            Gemm(new()
            {
                A = step.NormedQuantized.Values,
                AScales = step.NormedQuantized.Scales,
                B = weights.Qkv[i],
                Bias = weights.QkvBias[i],
                Output = weights.Qkv.Length == 1 ? step.Qkv : step.QkvParts[i],
            });
        }

        var cache = _cache.Layers[layer];
        Ops.Rope(_stream, new()
        {
            Q = step.Q,
            K = step.K,
            V = step.V,
            QNorm = weights.QNorm,
            KNorm = weights.KNorm,
            Eps = (float)_config.RmsNormEpsilon,
            CosSin = _cosSin,
            Positions = input.Positions,
            Slots = input.Slots,
            QOutput = step.Query,
            Cache = cache,
        });
        if (input.DecodeRows > 0)
        {
            var args = new AttentionDecodeArgs
            {
                Q = _continued!.Query,
                Cache = cache,
                BlockTable = input.DecodeTable,
                ContextLengths = input.DecodeContexts,
                QueryLength = input.QueryLength,
                MaxContext = input.MaxContext.Decode,
                Scale = _scoreScale,
                Quantized = _continued.Quantized,
            };
            Ops.AttentionDecode(_stream, args with { Workspace = _workspace.Take(Ops.AttentionDecodeWorkspace(_device, args)) });
        }

        if (input.PrefillRows > 0)
        {
            var args = new AttentionPrefillArgs
            {
                Q = _prompts!.Query,
                Cache = cache,
                BlockTable = input.PrefillTable,
                QueryStarts = input.QueryStarts,
                ContextLengths = input.PrefillContexts,
                MaxQueries = input.MaxQueries,
                MaxContext = input.MaxContext.Prefill,
                Scale = _scoreScale,
                Output = _prompts.Heads,
            };
            Ops.AttentionPrefill(_stream, args with { Workspace = _workspace.Take(Ops.AttentionPrefillWorkspace(_device, args)) });
            Ops.Quantize(_stream, new() { X = _prompts.Rows, Output = _prompts.Quantized });
        }

        return GemmForNext(new()
        {
            A = step.AttentionQuantized.Values,
            AScales = step.AttentionQuantized.Scales,
            B = weights.Output,
            Bias = weights.OutputBias,
            Output = step.Delta,
        });
    }

    private void Moe(StepBuffers step, int layer, LayerWeights weights)
    {
        var logits = GemmForNext(new() { A = step.Normed, B = weights.Router!, Output = step.RouterLogits });
        var route = new MoeRouteArgs
        {
            Logits = logits,
            Ids = step.ExpertIds,
            Weights = step.ExpertWeights,
            Renormalize = _config.NormalizeTopK,
            ExpertOffsets = step.ExpertOffsets,
            SlotPairs = step.SlotPairs,
            PairSlots = step.PairSlots,
        };
        Ops.MoeRoute(_stream, route with { Workspace = _workspace.Take(Ops.MoeRouteWorkspace(_device, route)) });
        Routed?.Invoke(layer, step.ExpertIds);

        var gateUp = new MoeGateUpArgs
        {
            X = step.NormedQuantized,
            Gate = weights.Gate,
            Up = weights.Up,
            ExpertOffsets = step.ExpertOffsets,
            SlotPairs = step.SlotPairs,
            TopK = _config.ExpertsPerToken,
            Output = step.GateUp,
        };
        Ops.MoeGateUp(_stream, gateUp with { Workspace = _workspace.Take(Ops.MoeGateUpWorkspace(_device, gateUp)) });

        var down = new MoeDownArgs
        {
            X = step.GateUp,
            Down = weights.Down,
            ExpertOffsets = step.ExpertOffsets,
            TopK = _config.ExpertsPerToken,
            Output = step.Down,
        };
        Ops.MoeDown(_stream, down with { Workspace = _workspace.Take(Ops.MoeDownWorkspace(_device, down)) });
    }

    private void DenseMlp(StepBuffers step, LayerWeights weights)
    {
        var input = step.NormedQuantized;
        Gemm(new() { A = input.Values, AScales = input.Scales, B = weights.Gate, Output = step.DenseGate });
        Gemm(new() { A = input.Values, AScales = input.Scales, B = weights.Up, Output = step.DenseUp });
        var product = step.DenseQuantized;
        Ops.Activation(_stream, new() { Gate = step.DenseGate, Up = step.DenseUp, Output = product.Values, Scales = product.Scales });
        Gemm(new() { A = product.Values, AScales = product.Scales, B = weights.Down, Output = step.Delta });
    }

    // A product for an op that can add partial sums itself: where there are such they are left to it, else the output is written.
    private Tensor GemmForNext(in GemmArgs args)
    {
        var segments = Ops.GemmSegments(_device, args);
        if (segments == 0)
        {
            Gemm(args);
            return args.Output;
        }

        var sums = _workspace.PartialSums(segments, args.A.Shape[0], args.B.N);
        Gemm(args with { Output = sums });
        return sums;
    }

    private void Gemm(in GemmArgs args) =>
        Ops.Gemm(_stream, args with { Workspace = _workspace.Take(Ops.GemmWorkspace(_device, args)) });
}
