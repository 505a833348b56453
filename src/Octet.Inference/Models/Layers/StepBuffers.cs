using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// The activations of a step: memory for the largest, of which a step of fewer tokens has the rows of its <see cref="Tokens"/>. Each layer
/// writes over the last one's.
/// </summary>
/// <param name="memory">Where they lie.</param>
/// <param name="shape">The rank.</param>
/// <param name="maxTokens">Most tokens of a step.</param>
/// <param name="maxRows">Most rows of logits.</param>
internal sealed class StepBuffers(TensorSet memory, RankShape shape, int maxTokens, int maxRows)
{
    private readonly int _maxTokens = maxTokens;
    private readonly int _topK = shape.Config.ExpertsPerToken;
    private readonly int _heads = shape.QueryHeads;
    private readonly int _keyHeads = shape.KeyValueHeads;
    private readonly int _headDim = shape.Config.HeadDim;

    // One rank's sums are whole, and one buffer takes them all in turn.
    private readonly TensorView[] _nodes =
        [.. Enumerable.Range(0, shape.Ranks == 1 ? 1 : Enum.GetValues<SharedSum>().Length).Select(_ => memory.Create(DType.BFloat16, maxTokens, shape.Config.HiddenSize))];

    /// <summary>Tokens of the step at hand.</summary>
    public int Tokens { get; set; } = maxTokens;

    /// <summary>[tokens, hidden] BF16: the residual stream.</summary>
    public TensorView Residual { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, shape.Config.HiddenSize);

    /// <summary>[tokens, hidden] BF16: input of the router and of the head.</summary>
    public TensorView Normed { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, shape.Config.HiddenSize);

    /// <summary>[tokens, hidden] FP8: input of the projections.</summary>
    public QuantizedTensor NormedQuantized { get => Rows(field); } = memory.CreateQuantized(maxTokens, shape.Config.HiddenSize);

    /// <summary>[tokens, (q + 2 kv heads) * head_dim] BF16.</summary>
    public TensorView Qkv { get => Rows(field); } =
        memory.Create(DType.BFloat16, maxTokens, (shape.QueryHeads + 2L * shape.KeyValueHeads) * shape.Config.HeadDim);

    /// <summary>[tokens, q heads, head_dim] BF16: queries after norm and RoPE.</summary>
    public TensorView Query { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, shape.QueryHeads, shape.Config.HeadDim);

    /// <summary>[tokens, q heads, head_dim] BF16.</summary>
    public TensorView Attention { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, shape.QueryHeads, shape.Config.HeadDim);

    /// <summary>[tokens, q heads * head_dim] FP8.</summary>
    public QuantizedTensor AttentionQuantized { get => Rows(field); } =
        memory.CreateQuantized(maxTokens, (long)shape.QueryHeads * shape.Config.HeadDim);

    /// <summary>[tokens, experts] f32.</summary>
    public TensorView RouterLogits { get => Rows(field); } = memory.Create(DType.Float32, maxTokens, shape.Config.ExpertCount);

    /// <summary>[tokens, top_k] i32.</summary>
    public TensorView ExpertIds { get => Rows(field); } = memory.Create(DType.Int32, maxTokens, shape.Config.ExpertsPerToken);

    /// <summary>[tokens, top_k] f32.</summary>
    public TensorView ExpertWeights { get => Rows(field); } = memory.Create(DType.Float32, maxTokens, shape.Config.ExpertsPerToken);

    /// <summary>[experts of the rank + 1] i32.</summary>
    public TensorView ExpertOffsets { get; } = memory.Create(DType.Int32, shape.Experts + 1);

    /// <summary>[tokens * top_k] i32.</summary>
    public TensorView SlotPairs { get => Pairs(field); } = memory.Create(DType.Int32, (long)maxTokens * shape.Config.ExpertsPerToken);

    /// <summary>[tokens * top_k] i32.</summary>
    public TensorView PairSlots { get => Pairs(field); } = memory.Create(DType.Int32, (long)maxTokens * shape.Config.ExpertsPerToken);

    /// <summary>[tokens * top_k, moe intermediate] FP8.</summary>
    public QuantizedTensor GateUp { get => Pairs(field); } =
        memory.CreateQuantized((long)maxTokens * shape.Config.ExpertsPerToken, shape.ExpertWidth);

    /// <summary>[tokens * top_k, hidden] BF16.</summary>
    public TensorView Down { get => Pairs(field); } =
        memory.Create(DType.BFloat16, (long)maxTokens * shape.Config.ExpertsPerToken, shape.Config.HiddenSize);

    /// <summary>[tokens, intermediate] BF16; of a model without dense layers 0 columns, as the next two.</summary>
    public TensorView DenseGate { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, shape.DenseWidth);

    /// <summary>[tokens, intermediate] BF16.</summary>
    public TensorView DenseUp { get => Rows(field); } = memory.Create(DType.BFloat16, maxTokens, shape.DenseWidth);

    /// <summary>[tokens, intermediate] FP8.</summary>
    public QuantizedTensor DenseQuantized { get => Rows(field); } = memory.CreateQuantized(maxTokens, shape.DenseWidth);

    /// <summary>[max rows, hidden] BF16: input of the head for rows whose logits are wanted.</summary>
    public TensorView RowHidden { get; } = memory.Create(DType.BFloat16, maxRows, shape.Config.HiddenSize);

    /// <summary>[max rows, vocabulary] f32, where the rank draws; else no rows.</summary>
    public TensorView Logits { get; } = memory.Create(DType.Float32, shape.IsLeader ? maxRows : 0, shape.Config.VocabularySize);

    /// <summary>[tokens, q heads, head_dim]: q of <see cref="Qkv"/>.</summary>
    public TensorView Q => Heads(0, _heads);

    /// <summary>[tokens, kv heads, head_dim]: k of <see cref="Qkv"/>.</summary>
    public TensorView K => Heads(_heads, _keyHeads);

    /// <summary>[tokens, kv heads, head_dim]: v of <see cref="Qkv"/>.</summary>
    public TensorView V => Heads(_heads + _keyHeads, _keyHeads);

    /// <summary>[tokens, hidden] BF16: what this rank adds to a sum that goes over the ranks; of one rank, the sum.</summary>
    public TensorView Node(SharedSum sum) => Rows(AllOf(sum));

    /// <summary>[max tokens, hidden] BF16: all of <see cref="Node"/>.</summary>
    public TensorView AllOf(SharedSum sum) => _nodes[(int)sum % _nodes.Length];

    /// <summary>What peers take of this rank, with the rows of all tokens there may be.</summary>
    public TensorView[] AllOf(SharedRows rows)
    {
        var tokens = Tokens;
        Tokens = _maxTokens;
        TensorView[] all = rows switch
        {
            SharedRows.Quantized => [NormedQuantized.Values, NormedQuantized.Scales],
            SharedRows.Routed => [NormedQuantized.Values, NormedQuantized.Scales, ExpertIds, ExpertWeights],
            _ => [Normed],
        };
        Tokens = tokens;
        return all;
    }

    private TensorView Heads(long first, long count) => Qkv.Slice(1, first * _headDim, count * _headDim).SplitLast(count, _headDim);

    private TensorView Rows(in TensorView all) => all.Slice(0, 0, Tokens);

    private QuantizedTensor Rows(in QuantizedTensor all) => all.Rows(0, Tokens);

    private TensorView Pairs(in TensorView all) => all.Slice(0, 0, (long)Tokens * _topK);

    private QuantizedTensor Pairs(in QuantizedTensor all) => all.Rows(0, (long)Tokens * _topK);
}
