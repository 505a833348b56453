namespace Octet.Inference.Models.Layers;

/// <summary>
/// The activations of one step: allocated once for the largest, of which a step of fewer tokens takes the <see cref="First(int)"/> rows.
/// Each layer writes over the last one's.
/// </summary>
internal sealed class StepBuffers : IDisposable
{
    private readonly ModelConfig _config;
    private readonly List<Tensor> _owned = [];

    /// <summary>Allocates for <paramref name="maxTokens"/> tokens and <paramref name="maxRows"/> rows of logits.</summary>
    public StepBuffers(Device device, ModelConfig config, int maxTokens, int maxRows)
        : this(device, config, maxTokens, maxRows, (type, shape) => Tensor.Create(device, type, shape))
    {
    }

    private StepBuffers(Device device, ModelConfig config, int maxTokens, int maxRows, Func<DType, long[], Tensor> create)
    {
        _config = config;
        var dense = Enumerable.Range(0, config.LayerCount).Any(layer => !config.IsMoeLayer(layer)) ? config.IntermediateSize : 0;
        long pairs = (long)maxTokens * config.ExpertsPerToken;

        Tensor Create(DType type, params long[] shape)
        {
            var tensor = create(type, shape);
            _owned.Add(tensor);
            return tensor;
        }

        QuantizedTensor CreateQuantized(long rows, long columns) => new(
            Create(device.Float8, rows, columns), Create(DType.Float32, rows, (columns + Float8.Block - 1) / Float8.Block));

        try
        {
            Residual = Create(DType.BFloat16, maxTokens, config.HiddenSize);
            Delta = Create(DType.BFloat16, maxTokens, config.HiddenSize);
            Normed = Create(DType.BFloat16, maxTokens, config.HiddenSize);
            NormedQuantized = CreateQuantized(maxTokens, config.HiddenSize);
            Qkv = Create(DType.BFloat16, maxTokens, Queries + 2 * Keys);
            Query = Create(DType.BFloat16, maxTokens, config.QueryHeads, config.HeadDim);
            Attention = Create(DType.BFloat16, maxTokens, Queries);
            AttentionQuantized = CreateQuantized(maxTokens, Queries);
            RouterLogits = Create(DType.Float32, maxTokens, config.ExpertCount);
            ExpertIds = Create(DType.Int32, maxTokens, config.ExpertsPerToken);
            ExpertWeights = Create(DType.Float32, maxTokens, config.ExpertsPerToken);
            ExpertOffsets = Create(DType.Int32, config.ExpertCount + 1);
            SlotPairs = Create(DType.Int32, pairs);
            PairSlots = Create(DType.Int32, pairs);
            GateUp = CreateQuantized(pairs, config.MoeIntermediateSize);
            Down = Create(DType.BFloat16, pairs, config.HiddenSize);
            DenseGate = Create(DType.BFloat16, maxTokens, dense);
            DenseUp = Create(DType.BFloat16, maxTokens, dense);
            DenseQuantized = CreateQuantized(maxTokens, dense);
            Rows = Create(DType.Int32, maxRows);
            RowHidden = Create(DType.BFloat16, maxRows, config.HiddenSize);
            Logits = Create(DType.Float32, maxRows, config.VocabularySize);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    // Views of the first tokens of other buffers.
    private StepBuffers(StepBuffers all, int tokens)
    {
        _config = all._config;
        long pairs = (long)tokens * _config.ExpertsPerToken;
        var rows = Math.Min(tokens, all.Rows.Shape[0]);
        Residual = First(all.Residual, tokens);
        Delta = First(all.Delta, tokens);
        Normed = First(all.Normed, tokens);
        NormedQuantized = First(all.NormedQuantized, tokens);
        Qkv = First(all.Qkv, tokens);
        Query = First(all.Query, tokens);
        Attention = First(all.Attention, tokens);
        AttentionQuantized = First(all.AttentionQuantized, tokens);
        RouterLogits = First(all.RouterLogits, tokens);
        ExpertIds = First(all.ExpertIds, tokens);
        ExpertWeights = First(all.ExpertWeights, tokens);
        ExpertOffsets = all.ExpertOffsets;
        SlotPairs = First(all.SlotPairs, pairs);
        PairSlots = First(all.PairSlots, pairs);
        GateUp = First(all.GateUp, pairs);
        Down = First(all.Down, pairs);
        DenseGate = First(all.DenseGate, tokens);
        DenseUp = First(all.DenseUp, tokens);
        DenseQuantized = First(all.DenseQuantized, tokens);
        Rows = First(all.Rows, rows);
        RowHidden = First(all.RowHidden, rows);
        Logits = First(all.Logits, rows);

        var (heads, keyHeads, dim) = (_config.QueryHeads, _config.KeyValueHeads, _config.HeadDim);
        QkvParts = [Qkv.Slice(1, 0, Queries), Qkv.Slice(1, Queries, Keys), Qkv.Slice(1, Queries + Keys, Keys)];
        (Q, K, V) = (QkvParts[0].SplitLast(heads, dim), QkvParts[1].SplitLast(keyHeads, dim), QkvParts[2].SplitLast(keyHeads, dim));
        AttentionHeads = Attention.View(tokens, heads, dim);
    }

    /// <summary>The buffers such a step would have, without memory behind them: for their shapes and <see cref="SizeInBytes"/>.</summary>
    public static StepBuffers Measure(Device device, ModelConfig config, int maxTokens, int maxRows) =>
        new(device, config, maxTokens, maxRows, (type, shape) => Tensor.Borrow(device, 256, type, shape));

    /// <summary>Bytes of all buffers; one of no elements takes a byte.</summary>
    public long SizeInBytes => _owned.Sum(tensor => Math.Max(tensor.SizeInBytes, 1));

    /// <summary>[tokens, hidden] BF16: the residual stream.</summary>
    public Tensor Residual { get; } = null!;

    /// <summary>[tokens, hidden] BF16: what the last sublayer adds to the residual stream.</summary>
    public Tensor Delta { get; } = null!;

    /// <summary>[tokens, hidden] BF16: input of the router and of the head.</summary>
    public Tensor Normed { get; } = null!;

    /// <summary>[tokens, hidden] FP8: input of the projections.</summary>
    public QuantizedTensor NormedQuantized { get; }

    /// <summary>[tokens, (q + 2 kv heads) * head_dim] BF16.</summary>
    public Tensor Qkv { get; } = null!;

    /// <summary>Columns of <see cref="Qkv"/>: q, k and v. Of <see cref="First(int)"/> rows only, as the next four.</summary>
    public Tensor[] QkvParts { get; } = [];

    /// <summary>[tokens, q heads, head_dim]: q of <see cref="Qkv"/>.</summary>
    public Tensor Q { get; } = null!;

    /// <summary>[tokens, kv heads, head_dim]: k of <see cref="Qkv"/>.</summary>
    public Tensor K { get; } = null!;

    /// <summary>[tokens, kv heads, head_dim]: v of <see cref="Qkv"/>.</summary>
    public Tensor V { get; } = null!;

    /// <summary>[tokens, q heads, head_dim]: <see cref="Attention"/>.</summary>
    public Tensor AttentionHeads { get; } = null!;

    /// <summary>[tokens, q heads, head_dim] BF16: queries after norm and RoPE.</summary>
    public Tensor Query { get; } = null!;

    /// <summary>[tokens, q heads * head_dim] BF16.</summary>
    public Tensor Attention { get; } = null!;

    /// <summary>[tokens, q heads * head_dim] FP8.</summary>
    public QuantizedTensor AttentionQuantized { get; }

    /// <summary>[tokens, experts] f32.</summary>
    public Tensor RouterLogits { get; } = null!;

    /// <summary>[tokens, top_k] i32.</summary>
    public Tensor ExpertIds { get; } = null!;

    /// <summary>[tokens, top_k] f32.</summary>
    public Tensor ExpertWeights { get; } = null!;

    /// <summary>[experts + 1] i32.</summary>
    public Tensor ExpertOffsets { get; } = null!;

    /// <summary>[tokens * top_k] i32.</summary>
    public Tensor SlotPairs { get; } = null!;

    /// <summary>[tokens * top_k] i32.</summary>
    public Tensor PairSlots { get; } = null!;

    /// <summary>[tokens * top_k, moe intermediate] FP8.</summary>
    public QuantizedTensor GateUp { get; }

    /// <summary>[tokens * top_k, hidden] BF16.</summary>
    public Tensor Down { get; } = null!;

    /// <summary>[tokens, intermediate] BF16.</summary>
    public Tensor DenseGate { get; } = null!;

    /// <summary>[tokens, intermediate] BF16.</summary>
    public Tensor DenseUp { get; } = null!;

    /// <summary>[tokens, intermediate] FP8.</summary>
    public QuantizedTensor DenseQuantized { get; }

    /// <summary>[rows] i32: the tokens whose logits are wanted.</summary>
    public Tensor Rows { get; } = null!;

    /// <summary>[rows, hidden] BF16.</summary>
    public Tensor RowHidden { get; } = null!;

    /// <summary>[rows, vocabulary] f32.</summary>
    public Tensor Logits { get; } = null!;

    private long Queries => (long)_config.QueryHeads * _config.HeadDim;

    private long Keys => (long)_config.KeyValueHeads * _config.HeadDim;

    /// <summary>Queries and results of attention of some tokens.</summary>
    public AttentionRows AttentionOf(int first, int count) => new(
        Query.Slice(0, first, count), AttentionHeads.Slice(0, first, count), Attention.Slice(0, first, count),
        new(AttentionQuantized.Values.Slice(0, first, count), AttentionQuantized.Scales.Slice(0, first, count)));

    /// <summary>Views of the rows of the first tokens, and of as many rows of logits as there are up to that.</summary>
    public StepBuffers First(int tokens) => new(this, tokens);

    public void Dispose()
    {
        foreach (var tensor in _owned)
        {
            tensor.Dispose();
        }
    }

    private static Tensor First(Tensor tensor, long rows) => tensor.Slice(0, 0, rows);

    private static QuantizedTensor First(QuantizedTensor tensor, long rows) => new(First(tensor.Values, rows), First(tensor.Scales, rows));
}

/// <summary>What attention reads and writes of some tokens of a step.</summary>
/// <param name="Query">[tokens, q heads, head_dim] BF16.</param>
/// <param name="Heads">[tokens, q heads, head_dim] BF16.</param>
/// <param name="Rows">[tokens, q heads * head_dim] BF16: the same memory.</param>
/// <param name="Quantized">[tokens, q heads * head_dim] FP8.</param>
internal sealed record AttentionRows(Tensor Query, Tensor Heads, Tensor Rows, QuantizedTensor Quantized);
