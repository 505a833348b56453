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

    /// <summary>The scales of the layer's FP8 KV cache; null: the checkpoint has none.</summary>
    public required KvScales? KvScales { get; init; }
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
        var tensors = Qwen3MoeTensors.Find(files, config);
        var loader = new WeightLoader(device, tensors.SizeInBytes, progress, cancellation);
        var weights = new Qwen3MoeWeights();
        try
        {
            weights.LoadAll(loader, tensors);
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

    private void LoadAll(WeightLoader loader, Qwen3MoeTensors tensors)
    {
        Embedding = Own(loader.LoadBFloat16(tensors.Embedding));
        FinalNorm = Own(loader.LoadBFloat16(tensors.FinalNorm));
        Head = new Weight { Values = tensors.Head is null ? Embedding : Own(loader.LoadBFloat16(tensors.Head)) };
        Layers = new LayerWeights[tensors.Layers.Length];
        for (var layer = 0; layer < Layers.Length; layer++)
        {
            Layers[layer] = LoadLayer(loader, tensors.Layers[layer]);
        }

        loader.Complete();
    }

    private LayerWeights LoadLayer(WeightLoader loader, LayerTensors tensors)
    {
        // Each part keeps its own grid of 128-row scale blocks, so parts lie in one weight only where a block ends with a part; and not
        // where they stay in the mapped file.
        var merge = tensors.Qkv.All(part => part.N % Float8.Block == 0) && !loader.Maps(tensors.Qkv);
        var mlp = tensors.Mlp;
        var moe = tensors.Router is not null;
        return new LayerWeights
        {
            InputNorm = Own(loader.LoadBFloat16(tensors.InputNorm)),
            PostAttentionNorm = Own(loader.LoadBFloat16(tensors.PostAttentionNorm)),
            Qkv = merge
                ? [Own(loader.LoadProjection(tensors.Qkv))]
                : [.. tensors.Qkv.Select(part => Own(loader.LoadProjection(part)))],
            QkvBias = tensors.QkvBias is null ? new Tensor?[merge ? 1 : tensors.Qkv.Length] : LoadBiases(loader, tensors.QkvBias, merge),
            QNorm = Own(loader.LoadBFloat16(tensors.QNorm)),
            KNorm = Own(loader.LoadBFloat16(tensors.KNorm)),
            Output = Own(loader.LoadProjection(tensors.Output)),
            OutputBias = tensors.OutputBias is null ? null : Own(loader.LoadBFloat16(tensors.OutputBias)),
            Router = tensors.Router is null ? null : new Weight { Values = Own(loader.LoadBFloat16(tensors.Router)) },
            Gate = Own(moe ? loader.LoadExperts(mlp.Gate) : loader.LoadProjection(mlp.Gate)),
            Up = Own(moe ? loader.LoadExperts(mlp.Up) : loader.LoadProjection(mlp.Up)),
            Down = Own(moe ? loader.LoadExperts(mlp.Down) : loader.LoadProjection(mlp.Down)),
            KvScales = tensors.KvScales,
        };
    }

    private Tensor?[] LoadBiases(WeightLoader loader, SafeTensor[] sources, bool merge)
    {
        Tensor[] parts = [.. sources.Select(source => Own(loader.LoadBFloat16(source)))];
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
