using Octet.Inference.Models;

namespace Octet.Inference.Engine;

/// <summary>The activations of one step of up to <c>maxTokens</c> tokens, allocated once; each layer writes over the last one's.</summary>
internal sealed class StepBuffers : IDisposable
{
    private readonly List<Tensor> _owned = [];

    public StepBuffers(Device device, ModelConfig config, int maxTokens, int maxRows)
    {
        long queries = (long)config.QueryHeads * config.HeadDim;
        long keys = (long)config.KeyValueHeads * config.HeadDim;
        var dense = Enumerable.Range(0, config.LayerCount).Any(layer => !config.IsMoeLayer(layer)) ? config.IntermediateSize : 0;
        long pairs = (long)maxTokens * config.ExpertsPerToken;

        Tensor Create(DType type, params long[] shape)
        {
            var tensor = Tensor.Create(device, type, shape);
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
            Qkv = Create(DType.BFloat16, maxTokens, queries + 2 * keys);
            Query = Create(DType.BFloat16, maxTokens, queries);
            Attention = Create(DType.BFloat16, maxTokens, queries);
            AttentionQuantized = CreateQuantized(maxTokens, queries);
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

    /// <summary>[tokens, q heads * head_dim] BF16: queries after norm and RoPE.</summary>
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

    public void Dispose()
    {
        foreach (var tensor in _owned)
        {
            tensor.Dispose();
        }
    }
}
