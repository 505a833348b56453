namespace Octet.Inference.Models.Layers;

/// <summary>
/// The activations of a step: memory for the largest, of which a step of fewer tokens has the rows of its <see cref="Tokens"/>. Each layer
/// writes over the last one's.
/// </summary>
/// <param name="memory">Where they lie.</param>
/// <param name="config">The model's shape.</param>
/// <param name="maxTokens">Most tokens of a step.</param>
/// <param name="maxRows">Most rows of logits.</param>
internal sealed class StepBuffers(TensorSet memory, ModelConfig config, int maxTokens, int maxRows)
{
    private readonly int _topK = config.ExpertsPerToken;
    private readonly int _heads = config.QueryHeads;
    private readonly int _keyHeads = config.KeyValueHeads;
    private readonly int _headDim = config.HeadDim;

    /// <summary>Tokens of the step at hand.</summary>
    public int Tokens { get; set; } = maxTokens;

    /// <summary>[tokens, hidden] BF16: the residual stream.</summary>
    public TensorView Residual { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, config.HiddenSize);

    /// <summary>[tokens, hidden] BF16: what the last sublayer adds to the residual stream.</summary>
    public TensorView Delta { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, config.HiddenSize);

    /// <summary>[tokens, hidden] BF16: input of the router and of the head.</summary>
    public TensorView Normed { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, config.HiddenSize);

    /// <summary>[tokens, hidden] FP8: input of the projections.</summary>
    public QuantizedTensor NormedQuantized { get => Rows(field); } = memory.CreateQuantized(maxTokens, config.HiddenSize);

    /// <summary>[tokens, (q + 2 kv heads) * head_dim] BF16.</summary>
    public TensorView Qkv { get => Rows(field); } =
        memory.Create(DType.BFloat16, maxTokens, (config.QueryHeads + 2L * config.KeyValueHeads) * config.HeadDim);

    /// <summary>[tokens, q heads, head_dim] BF16: queries after norm and RoPE.</summary>
    public TensorView Query { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, config.QueryHeads, config.HeadDim);

    /// <summary>[tokens, q heads, head_dim] BF16.</summary>
    public TensorView Attention { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, config.QueryHeads, config.HeadDim);

    /// <summary>[tokens, q heads * head_dim] FP8.</summary>
    public QuantizedTensor AttentionQuantized { get => Rows(field); } =
        memory.CreateQuantized(maxTokens, (long)config.QueryHeads * config.HeadDim);

    /// <summary>[tokens, experts] f32.</summary>
    public TensorView RouterLogits { get => Rows(field); } = memory.Create(DType.Float32, maxTokens, config.ExpertCount);

    /// <summary>[tokens, top_k] i32.</summary>
    public TensorView ExpertIds { get => Rows(field); } = memory.Create(DType.Int32, maxTokens, config.ExpertsPerToken);

    /// <summary>[tokens, top_k] f32.</summary>
    public TensorView ExpertWeights { get => Rows(field); } = memory.Create(DType.Float32, maxTokens, config.ExpertsPerToken);

    /// <summary>[experts + 1] i32.</summary>
    public TensorView ExpertOffsets { get; } = memory.Create(DType.Int32, config.ExpertCount + 1);

    /// <summary>[tokens * top_k] i32.</summary>
    public TensorView SlotPairs { get => Pairs(field); } = memory.Create(DType.Int32, (long)maxTokens * config.ExpertsPerToken);

    /// <summary>[tokens * top_k] i32.</summary>
    public TensorView PairSlots { get => Pairs(field); } = memory.Create(DType.Int32, (long)maxTokens * config.ExpertsPerToken);

    /// <summary>[tokens * top_k, moe intermediate] FP8.</summary>
    public QuantizedTensor GateUp { get => Pairs(field); } =
        memory.CreateQuantized((long)maxTokens * config.ExpertsPerToken, config.MoeIntermediateSize);

    /// <summary>[tokens * top_k, hidden] BF16.</summary>
    public TensorView Down { get => Pairs(field); } =
        memory.Create(DType.BFloat16, (long)maxTokens * config.ExpertsPerToken, config.HiddenSize);

    /// <summary>[tokens, intermediate] BF16; of a model without dense layers 0 columns, as the next two.</summary>
    public TensorView DenseGate { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, DenseSize(config));

    /// <summary>[tokens, intermediate] BF16.</summary>
    public TensorView DenseUp { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, DenseSize(config));

    /// <summary>[tokens, intermediate] FP8.</summary>
    public QuantizedTensor DenseQuantized { get => Rows(field); } = memory.CreateQuantized(maxTokens, DenseSize(config));

    /// <summary>[max rows, hidden] BF16: input of the head for rows whose logits are wanted.</summary>
    public TensorView RowHidden { get; } = memory.Create(DType.BFloat16, maxRows, config.HiddenSize);

    /// <summary>[max rows, vocabulary] f32.</summary>
    public TensorView Logits { get; } = memory.Create(DType.Float32, maxRows, config.VocabularySize);

    /// <summary>[tokens, q heads, head_dim]: q of <see cref="Qkv"/>.</summary>
    public TensorView Q => Heads(0, _heads);

    /// <summary>[tokens, kv heads, head_dim]: k of <see cref="Qkv"/>.</summary>
    public TensorView K => Heads(_heads, _keyHeads);

    /// <summary>[tokens, kv heads, head_dim]: v of <see cref="Qkv"/>.</summary>
    public TensorView V => Heads(_heads + _keyHeads, _keyHeads);

    private static long DenseSize(ModelConfig config) =>
        Enumerable.Range(0, config.LayerCount).Any(layer => !config.IsMoeLayer(layer)) ? config.IntermediateSize : 0;

    private TensorView Heads(long first, long count) => Qkv.Slice(1, first * _headDim, count * _headDim).SplitLast(count, _headDim);

    private TensorView Rows(in TensorView all) => all.Slice(0, 0, Tokens);

    private QuantizedTensor Rows(in QuantizedTensor all) => all.Rows(0, Tokens);

    private TensorView Pairs(in TensorView all) => all.Slice(0, 0, (long)Tokens * _topK);

    private QuantizedTensor Pairs(in QuantizedTensor all) => all.Rows(0, (long)Tokens * _topK);
}
