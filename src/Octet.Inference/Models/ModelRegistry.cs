using System.Collections.Frozen;
using Octet.Inference.Loading;
using Octet.Inference.Models.Architectures;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models;

/// <summary>An architecture this library runs: how its config.json is read, and which layers it is made of.</summary>
internal sealed record Architecture
{
    /// <summary>The name in <c>architectures</c>.</summary>
    public required string Name { get; init; }

    /// <summary>What <c>model_type</c> may be.</summary>
    public required IReadOnlyList<string> ModelTypes { get; init; }

    /// <summary>Completes the shape with the fields that this architecture has of its own.</summary>
    public required Func<ModelJson, ModelConfig, ModelConfig> Configure { get; init; }

    /// <summary>Makes the model from its checkpoint, all tensors found and their shapes checked.</summary>
    public required Func<LayerSource, IModel> Create { get; init; }

    /// <summary>Whether a part of each head may be rotated alone.</summary>
    public bool RotatesPart { get; init; }

    /// <summary>Whether <c>sliding_window</c> has effect only where <c>use_sliding_window</c> is true; else wherever it is set.</summary>
    public bool WindowHasSwitch { get; init; } = true;

    /// <summary>Fields of config.json that here may have these values alone, the first one to be named; they go before those of all architectures.</summary>
    public IReadOnlyDictionary<string, string[]> OneValue { get; init; } = FrozenDictionary<string, string[]>.Empty;

    /// <summary>Fields of config.json that here have no effect on the next token.</summary>
    public IReadOnlySet<string> WithoutEffect { get; init; } = FrozenSet<string>.Empty;
}

/// <summary>The architectures by their names, and the way from a checkpoint to a model.</summary>
internal static class ModelRegistry
{
    private static readonly Architecture[] All = [Qwen3Moe.Architecture, Qwen3.Architecture, Mixtral.Architecture, MiniMaxM2.Architecture];

    /// <summary>The names of all, as in a message: "A, B and C".</summary>
    public static string Names { get; } = $"{string.Join(", ", All[..^1].Select(architecture => architecture.Name))} and {All[^1].Name}";

    /// <summary>The architecture of that name.</summary>
    public static Architecture Get(string name) => All.First(architecture => architecture.Name == name);

    /// <summary>The first of config.json's <c>architectures</c> that there is.</summary>
    /// <exception cref="ModelFormatException">There is none; the message has what is supported.</exception>
    public static Architecture Find(ModelJson json)
    {
        List<string> names = [.. json.Get("architectures").Items().Select(item => item.AsText())];
        var found = names.Select(name => All.FirstOrDefault(architecture => architecture.Name == name)).FirstOrDefault(architecture => architecture is not null)
            ?? throw json.Bad($"architectures is [{string.Join(", ", names)}], but only {Names} are supported");
        if (json.FindText("model_type") is { } type && !found.ModelTypes.Contains(type))
        {
            throw json.Bad($"model_type is '{type}', but {found.Name} is of the type '{found.ModelTypes[0]}'");
        }

        return found;
    }

    /// <summary>
    /// The model that config.json describes, not loaded yet. All tensors are found and their shapes checked, and what is left over is refused,
    /// before any is read.
    /// </summary>
    /// <param name="files">The checkpoint.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="sharding">The rank it is for.</param>
    /// <param name="sizeInBytes">The bytes of all its weights in the checkpoint.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, of another type or shape, or left over.</exception>
    /// <exception cref="ArgumentException">The model cannot be divided so.</exception>
    public static IModel Create(CheckpointFiles files, ModelConfig config, Sharding sharding, out long sizeInBytes)
    {
        sharding.Check(config);
        var tensors = new CheckpointTensors(files);
        UnusedTensors.RefuseUnsupported(tensors, config);
        var model = Get(config.Architecture).Create(new LayerSource(tensors, config, sharding));
        UnusedTensors.RefuseLeft(tensors, config);
        sizeInBytes = tensors.SizeInBytes;
        return model;
    }

    /// <summary>The model that config.json describes, on the device.</summary>
    /// <param name="files">The checkpoint.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="device">Where to.</param>
    /// <param name="progress">Told of every chunk.</param>
    /// <param name="cancellation">Stops between chunks.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, of another type or shape, left over or damaged.</exception>
    public static LoadedModel Load(
        CheckpointFiles files, ModelConfig config, Device device, IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        var model = Create(files, config, Sharding.One, out var sizeInBytes);
        var weights = new TensorSet(device);
        try
        {
            using var loader = new WeightLoader(device, weights, sizeInBytes, progress, cancellation);
            model.Load(loader);
            loader.Complete();
            return new LoadedModel(model, weights);
        }
        catch
        {
            new LoadedModel(model, weights).Dispose();
            throw;
        }
    }
}

/// <summary>A model and the memory of its weights.</summary>
/// <param name="Model">The model.</param>
/// <param name="Weights">All tensors that were allocated for it.</param>
internal sealed record LoadedModel(IModel Model, TensorSet Weights) : IDisposable
{
    public void Dispose()
    {
        Model.Dispose();
        Weights.Dispose();
    }
}
