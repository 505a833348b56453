using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>One layer of a decoder: attention and an MLP around the residual stream, each behind a norm.</summary>
internal sealed record DecoderLayer
{
    /// <summary>Before attention.</summary>
    public required Norm InputNorm { get; init; }

    /// <summary>Attention.</summary>
    public required Attention Attention { get; init; }

    /// <summary>Before the MLP.</summary>
    public required Norm PostAttentionNorm { get; init; }

    /// <summary>Experts, or one MLP.</summary>
    public required IMlp Mlp { get; init; }

    /// <summary>Brings it to the device.</summary>
    public void Load(WeightLoader loader)
    {
        InputNorm.Load(loader);
        Attention.Load(loader);
        PostAttentionNorm.Load(loader);
        Mlp.Load(loader);
    }

    /// <summary>Enqueues it; gives where its output is, which the next norm adds to the residual stream.</summary>
    /// <param name="step">The step.</param>
    /// <param name="cache">The layer's K and V.</param>
    /// <param name="before">What the layer before gave.</param>
    public SublayerOutput Run(ForwardStep step, KvCache cache, SublayerOutput before)
    {
        InputNorm.Run(step, before, plain: false, quantized: true);
        step.Take(SharedRows.Quantized);
        var attention = Attention.Run(step, cache);
        PostAttentionNorm.Run(step, attention, plain: Mlp.ReadsPlain, quantized: true);
        return Mlp.Run(step);
    }
}

/// <summary>A model of decoder layers: embedding, layers, norm and head.</summary>
/// <param name="shape">The rank.</param>
/// <param name="head">Embedding and head.</param>
/// <param name="layers">The layers.</param>
/// <param name="finalNorm">The norm before the head.</param>
internal sealed class Decoder(RankShape shape, Head head, DecoderLayer[] layers, Norm finalNorm) : IModel
{
    private PagedKvCache? _cache;
    private ForwardStep? _step;

    /// <inheritdoc/>
    public KvLayout Kv => shape.Kv;

    /// <inheritdoc/>
    public IReadOnlyList<KvScales?> KvScales => [.. layers.Select(layer => layer.Attention.KvScales)];

    /// <inheritdoc/>
    public int VocabularySize => shape.Config.VocabularySize;

    /// <inheritdoc/>
    public int MaxRows => (int)Prepared.Buffers.RowHidden.Shape[0];

    /// <inheritdoc/>
    public TensorView Logits => Prepared.Buffers.Logits;

    /// <inheritdoc/>
    public Exchange? Exchange => Prepared.Exchange;

    /// <summary>The layers, in order.</summary>
    public IReadOnlyList<DecoderLayer> Layers => layers;

    /// <summary>The norm before the head.</summary>
    public Norm FinalNorm => finalNorm;

    /// <summary>Embedding and head.</summary>
    public Head EmbeddingAndHead => head;

    /// <summary>The step in progress.</summary>
    public ForwardStep Prepared => _step ?? throw new InvalidOperationException($"{nameof(Prepare)} comes first");

    /// <inheritdoc/>
    public void Load(WeightLoader loader)
    {
        head.Load(loader);
        finalNorm.Load(loader);
        foreach (var layer in layers)
        {
            layer.Load(loader);
        }
    }

    /// <inheritdoc/>
    public void Prepare(Device device, PagedKvCache cache, Workspace workspace, StepBounds bounds, TimeSpan rankTimeout)
    {
        _cache = cache;
        _step = new ForwardStep(device, shape, workspace, bounds, rankTimeout);
    }

    /// <inheritdoc/>
    public void Run(StepInput input)
    {
        var step = Prepared;
        step.Begin(input);
        var before = head.Embed(step);
        for (var layer = 0; layer < layers.Length; layer++)
        {
            before = layers[layer].Run(step, _cache!.Layers[layer], before);
        }

        finalNorm.Run(step, before, plain: true, quantized: false);
        step.Take(SharedRows.Plain);
    }

    /// <inheritdoc/>
    public TensorView Head(StepInput input)
    {
        var step = Prepared;
        if (input.PrefillRows == 0)
        {
            // Every token's logits are wanted, in order.
            return Head(step.Buffers.Normed);
        }

        var hidden = step.Buffers.RowHidden.Slice(0, 0, input.Outputs);
        Ops.Embedding(step.Stream, new() { Table = step.Buffers.Normed, Ids = input.OutputTokens, Output = hidden });
        return Head(hidden);
    }

    /// <inheritdoc/>
    public TensorView Head(int first, int count) => Head(Prepared.Buffers.Normed.Slice(0, first, count));

    /// <inheritdoc/>
    public void Dispose() => _step?.Dispose();

    // Over several ranks each writes its columns to where the leader draws.
    private TensorView Head(TensorView hidden)
    {
        var (step, rows) = (Prepared, hidden.Shape[0]);
        if (step.Exchange is not { } exchange)
        {
            head.Run(step, hidden, Logits.Slice(0, 0, rows));
            return Logits.Slice(0, 0, rows);
        }

        head.Run(step, hidden, exchange.LogitsPart(rows));
        exchange.Sync();
        return shape.IsLeader ? Logits.Slice(0, 0, rows) : default;
    }
}
