using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>The attention and MLP weights of one decoder layer, on the device.</summary>
internal sealed record LayerWeights
{
    /// <summary>[hidden] BF16.</summary>
    public required Tensor InputNorm { get; init; }

    /// <summary>[hidden] BF16.</summary>
    public required Tensor PostAttentionNorm { get; init; }

    /// <summary>q, k and v over each other in one weight where their scale blocks allow it and they are copied, else the three of them.</summary>
    public required Weight[] Qkv { get; init; }

    /// <summary>Biases of <see cref="Qkv"/>; null: none.</summary>
    public required Tensor?[] QkvBias { get; init; }

    /// <summary>[head_dim] BF16.</summary>
    public required Tensor QNorm { get; init; }

    /// <summary>[head_dim] BF16.</summary>
    public required Tensor KNorm { get; init; }

    /// <summary>[hidden, q_heads * head_dim].</summary>
    public required Weight Output { get; init; }

    /// <summary>[hidden] BF16; null: none.</summary>
    public required Tensor? OutputBias { get; init; }

    /// <summary>[experts, hidden] BF16; null in a dense layer.</summary>
    public required Weight? Router { get; init; }

    /// <summary>[experts, intermediate, hidden], or [intermediate, hidden] in a dense layer.</summary>
    public required Weight Gate { get; init; }

    /// <summary>The shape of <see cref="Gate"/>.</summary>
    public required Weight Up { get; init; }

    /// <summary>[experts, hidden, intermediate], or [hidden, intermediate] in a dense layer.</summary>
    public required Weight Down { get; init; }
}

/// <summary>All weights of a model, on the device.</summary>
internal sealed class Qwen3MoeWeights : IDisposable
{
    private readonly List<Tensor> _owned = [];

    private Qwen3MoeWeights()
    {
    }

    /// <summary>[vocabulary, hidden] BF16.</summary>
    public Tensor Embedding { get; private set; } = null!;

    /// <summary>[hidden] BF16.</summary>
    public Tensor FinalNorm { get; private set; } = null!;

    /// <summary>[vocabulary, hidden] BF16.</summary>
    public Weight Head { get; private set; } = null!;

    /// <summary>The decoder layers.</summary>
    public LayerWeights[] Layers { get; private set; } = [];

    public static Qwen3MoeWeights Load(
        CheckpointFiles files, ModelConfig config, Device device, IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        var loader = new WeightLoader(files, device, progress, cancellation);
        var weights = new Qwen3MoeWeights();
        try
        {
            weights.LoadAll(loader, config);
            return weights;
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var tensor in _owned)
        {
            tensor.Dispose();
        }
    }

    private void LoadAll(WeightLoader loader, ModelConfig config)
    {
        long hidden = config.HiddenSize;
        Embedding = Own(loader.LoadBFloat16("model.embed_tokens.weight", config.VocabularySize, hidden));
        FinalNorm = Own(loader.LoadBFloat16("model.norm.weight", hidden));
        Head = new Weight
        {
            Values = config.TieWordEmbeddings ? Embedding : Own(loader.LoadBFloat16("lm_head.weight", config.VocabularySize, hidden)),
        };
        Layers = new LayerWeights[config.LayerCount];
        for (var layer = 0; layer < Layers.Length; layer++)
        {
            Layers[layer] = LoadLayer(loader, config, layer);
        }
    }

    private LayerWeights LoadLayer(WeightLoader loader, ModelConfig config, int layer)
    {
        var prefix = $"model.layers.{layer}.";
        var attention = $"{prefix}self_attn.";
        long hidden = config.HiddenSize;
        long queries = (long)config.QueryHeads * config.HeadDim;
        long keys = (long)config.KeyValueHeads * config.HeadDim;
        (string Name, long N)[] qkv = [($"{attention}q_proj", queries), ($"{attention}k_proj", keys), ($"{attention}v_proj", keys)];

        // Each part keeps its own grid of 128-row scale blocks, so parts lie in one weight only where a block ends with a part; and not
        // where they stay in the mapped file.
        var merge = queries % Float8.Block == 0 && keys % Float8.Block == 0 && !loader.Maps(qkv.Select(part => part.Name));
        var weights = merge
            ? [Own(loader.LoadProjection(hidden, qkv))]
            : qkv.Select(part => Own(loader.LoadProjection(hidden, part))).ToArray();
        var biases = config.AttentionBias
            ? LoadBiases(loader, qkv, merge)
            : new Tensor?[weights.Length];
        var moe = config.IsMoeLayer(layer);
        var (router, gate, up, down) = moe ? LoadExperts(loader, config, prefix) : LoadDense(loader, config, prefix);
        return new LayerWeights
        {
            InputNorm = Own(loader.LoadBFloat16($"{prefix}input_layernorm.weight", hidden)),
            PostAttentionNorm = Own(loader.LoadBFloat16($"{prefix}post_attention_layernorm.weight", hidden)),
            Qkv = weights,
            QkvBias = biases,
            QNorm = Own(loader.LoadBFloat16($"{attention}q_norm.weight", config.HeadDim)),
            KNorm = Own(loader.LoadBFloat16($"{attention}k_norm.weight", config.HeadDim)),
            Output = Own(loader.LoadProjection(queries, ($"{attention}o_proj", hidden))),
            OutputBias = config.AttentionBias ? Own(loader.LoadBFloat16($"{attention}o_proj.bias", hidden)) : null,
            Router = router,
            Gate = gate,
            Up = up,
            Down = down,
        };
    }

    private Tensor?[] LoadBiases(WeightLoader loader, (string Name, long N)[] qkv, bool merge)
    {
        Tensor[] parts = [.. qkv.Select(part => Own(loader.LoadBFloat16($"{part.Name}.bias", part.N)))];
        if (!merge)
        {
            return parts;
        }

        var device = parts[0].Device;
        var all = Own(Tensor.Create(device, DType.BFloat16, parts.Sum(p => p.ElementCount)));
        long start = 0;
        foreach (var part in parts)
        {
            device.Stream.Copy(all.Slice(0, start, part.ElementCount), part);
            start += part.ElementCount;
        }

        device.Stream.Synchronize();
        return [all];
    }

    private (Weight Router, Weight Gate, Weight Up, Weight Down) LoadExperts(WeightLoader loader, ModelConfig config, string prefix)
    {
        IEnumerable<string> Names(string projection) =>
            Enumerable.Range(0, config.ExpertCount).Select(expert => $"{prefix}mlp.experts.{expert}.{projection}");
        var router = new Weight { Values = Own(loader.LoadBFloat16($"{prefix}mlp.gate.weight", config.ExpertCount, config.HiddenSize)) };
        return (
            router,
            Own(loader.LoadExperts(config.MoeIntermediateSize, config.HiddenSize, Names("gate_proj"))),
            Own(loader.LoadExperts(config.MoeIntermediateSize, config.HiddenSize, Names("up_proj"))),
            Own(loader.LoadExperts(config.HiddenSize, config.MoeIntermediateSize, Names("down_proj"))));
    }

    private (Weight? Router, Weight Gate, Weight Up, Weight Down) LoadDense(WeightLoader loader, ModelConfig config, string prefix) => (
        null,
        Own(loader.LoadProjection(config.HiddenSize, ($"{prefix}mlp.gate_proj", config.IntermediateSize))),
        Own(loader.LoadProjection(config.HiddenSize, ($"{prefix}mlp.up_proj", config.IntermediateSize))),
        Own(loader.LoadProjection(config.IntermediateSize, ($"{prefix}mlp.down_proj", config.HiddenSize))));

    private Tensor Own(Tensor tensor)
    {
        _owned.Add(tensor);
        return tensor;
    }

    private Weight Own(Weight weight)
    {
        Own(weight.Values);
        Own(weight.Scales!);
        if (weight.ExpertAddresses is not null)
        {
            Own(weight.ExpertAddresses);
        }

        return weight;
    }
}
