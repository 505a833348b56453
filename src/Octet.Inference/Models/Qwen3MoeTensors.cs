using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>Where the weights of one decoder layer lie in the checkpoint.</summary>
internal sealed record LayerTensors
{
    /// <summary>[hidden].</summary>
    public required SafeTensor InputNorm { get; init; }

    /// <summary>[hidden].</summary>
    public required SafeTensor PostAttentionNorm { get; init; }

    /// <summary>q, k and v.</summary>
    public required MatrixSource[] Qkv { get; init; }

    /// <summary>Their biases; null: none.</summary>
    public required SafeTensor[]? QkvBias { get; init; }

    /// <summary>[head_dim].</summary>
    public required SafeTensor QNorm { get; init; }

    /// <summary>[head_dim].</summary>
    public required SafeTensor KNorm { get; init; }

    /// <summary>[hidden, q_heads * head_dim].</summary>
    public required MatrixSource Output { get; init; }

    /// <summary>[hidden]; null: none.</summary>
    public required SafeTensor? OutputBias { get; init; }

    /// <summary>[experts, hidden]; null in a dense layer.</summary>
    public required SafeTensor? Router { get; init; }

    /// <summary>The experts; in a dense layer its MLP as if it were the only one.</summary>
    public required ExpertTensors Mlp { get; init; }

    /// <summary>The scales of its FP8 KV cache; null: the checkpoint has none.</summary>
    public required KvScales? KvScales { get; init; }
}

/// <summary>
/// Where all weights of a model lie in its checkpoint. All tensors are found and their shapes checked, and what is left over is
/// refused, before any is read.
/// </summary>
internal sealed record Qwen3MoeTensors
{
    /// <summary>[vocabulary, hidden].</summary>
    public required SafeTensor Embedding { get; init; }

    /// <summary>[hidden].</summary>
    public required SafeTensor FinalNorm { get; init; }

    /// <summary>[vocabulary, hidden]; null: the embedding.</summary>
    public required SafeTensor? Head { get; init; }

    /// <summary>The decoder layers.</summary>
    public required LayerTensors[] Layers { get; init; }

    /// <summary>The bytes of all of them in the checkpoint.</summary>
    public required long SizeInBytes { get; init; }

    /// <summary>Finds the weights of the model that <paramref name="config"/> describes.</summary>
    /// <exception cref="ModelFormatException">A tensor is missing, of another type or shape, or left over.</exception>
    public static Qwen3MoeTensors Find(CheckpointFiles files, ModelConfig config)
    {
        var tensors = new CheckpointTensors(files);
        UnusedTensors.RefuseUnsupported(tensors);
        var embedding = tensors.TakePlain("model.embed_tokens.weight", config.VocabularySize, config.HiddenSize);
        var found = new Qwen3MoeTensors
        {
            Embedding = embedding,
            FinalNorm = tensors.TakePlain("model.norm.weight", config.HiddenSize),
            Head = config.TieWordEmbeddings ? null : tensors.TakePlain("lm_head.weight", config.VocabularySize, config.HiddenSize),
            Layers = [.. Enumerable.Range(0, config.LayerCount).Select(layer => FindLayer(tensors, config, layer))],
            SizeInBytes = tensors.SizeInBytes,
        };
        if (config.TieWordEmbeddings && tensors.Find("lm_head.weight") is { } head)
        {
            RequireSame(head, embedding);
        }

        UnusedTensors.RefuseLeft(tensors);
        return found;
    }

    private static LayerTensors FindLayer(CheckpointTensors tensors, ModelConfig config, int layer)
    {
        var prefix = $"model.layers.{layer}.";
        var attention = $"{prefix}self_attn.";
        long hidden = config.HiddenSize;
        long queries = (long)config.QueryHeads * config.HeadDim;
        long keys = (long)config.KeyValueHeads * config.HeadDim;
        (string Name, long N)[] qkv = [($"{attention}q_proj", queries), ($"{attention}k_proj", keys), ($"{attention}v_proj", keys)];
        var moe = config.IsMoeLayer(layer);
        return new LayerTensors
        {
            InputNorm = tensors.TakePlain($"{prefix}input_layernorm.weight", hidden),
            PostAttentionNorm = tensors.TakePlain($"{prefix}post_attention_layernorm.weight", hidden),
            Qkv = [.. qkv.Select(part => tensors.TakeProjection(part.Name, part.N, hidden))],
            QkvBias = config.AttentionBias ? [.. qkv.Select(part => tensors.TakePlain($"{part.Name}.bias", part.N))] : null,
            QNorm = tensors.TakePlain($"{attention}q_norm.weight", config.HeadDim),
            KNorm = tensors.TakePlain($"{attention}k_norm.weight", config.HeadDim),
            Output = tensors.TakeProjection($"{attention}o_proj", hidden, queries),
            OutputBias = config.AttentionBias ? tensors.TakePlain($"{attention}o_proj.bias", hidden) : null,
            Router = moe ? tensors.TakePlain($"{prefix}mlp.gate.weight", config.ExpertCount, hidden) : null,
            Mlp = moe
                ? ExpertTensors.Take(tensors, config, $"{prefix}mlp.experts.")
                : new(
                    [tensors.TakeProjection($"{prefix}mlp.gate_proj", config.IntermediateSize, hidden)],
                    [tensors.TakeProjection($"{prefix}mlp.up_proj", config.IntermediateSize, hidden)],
                    [tensors.TakeProjection($"{prefix}mlp.down_proj", hidden, config.IntermediateSize)]),
            KvScales = KvScales.Take(tensors, attention, config.KeyValueHeads),
        };
    }

    // A head that is stored although it is tied may be ignored only where that changes nothing.
    private static void RequireSame(SafeTensor head, SafeTensor embedding)
    {
        const int Chunk = 64 << 20;
        var same = head.Type == embedding.Type && head.Shape.SequenceEqual(embedding.Shape);
        for (long offset = 0; same && offset < head.SizeInBytes; offset += Chunk)
        {
            var length = (int)Math.Min(Chunk, head.SizeInBytes - offset);
            same = head.Slice(offset, length).SequenceEqual(embedding.Slice(offset, length));
        }

        if (!same)
        {
            throw new ModelFormatException(
                $"{head.File}: tensor {head} differs from {embedding}, but config.json has tie_word_embeddings true, which would ignore it; set that to false or remove the tensor");
        }
    }
}
