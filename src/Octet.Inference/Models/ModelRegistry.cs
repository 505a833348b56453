using System.Collections.Frozen;
using System.Diagnostics;
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
    /// <exception cref="ModelFormatException">A tensor is missing, of another type or shape, or left over.</exception>
    /// <exception cref="ArgumentException">The model cannot be divided so.</exception>
    public static IModel Create(CheckpointFiles files, ModelConfig config, Sharding sharding)
    {
        sharding.Check(config);
        var tensors = new CheckpointTensors(files);
        UnusedTensors.RefuseUnsupported(tensors, config);
        var model = Get(config.Architecture).Create(new LayerSource(tensors, config, sharding));
        UnusedTensors.RefuseLeft(tensors, config);
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
        CheckpointFiles files, ModelConfig config, Device device, IProgress<LoadProgress>? progress, CancellationToken cancellation) =>
        Load(files, config, Sharding.One, device, new() { Progress = progress, Cancellation = cancellation });

    /// <summary>One rank's part of the model that config.json describes, on the rank's device.</summary>
    /// <param name="files">The checkpoint.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="sharding">The rank.</param>
    /// <param name="device">Where to.</param>
    /// <param name="options">How.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, of another type or shape, left over or damaged, or a file was changed meanwhile.</exception>
    /// <exception cref="ArgumentException">The model cannot be divided so.</exception>
    /// <exception cref="OperationCanceledException">It was stopped; nothing is left on the device.</exception>
    public static LoadedModel Load(CheckpointFiles files, ModelConfig config, Sharding sharding, Device device, LoadOptions options)
    {
        var start = Stopwatch.GetTimestamp();
        var model = Create(files, config, sharding);
        var weights = new TensorSet(device, isMeasured: options.Drops);
        try
        {
            // Of a part of a model the ranges alone are read, not all the pages they lie in.
            var loader = new WeightLoader(device, weights, options with { MayMap = options.MayMap && sharding.TensorParallel == 1 });
            model.Load(loader);
            return new LoadedModel(model, weights, loader.Complete(), Stopwatch.GetElapsedTime(start));
        }
        catch
        {
            model.Dispose();
            weights.Dispose();
            throw;
        }
    }

    /// <summary>What <see cref="Load(CheckpointFiles, ModelConfig, Sharding, Device, LoadOptions)"/> would come to; no weight is read.</summary>
    public static LoadedBytes Measure(CheckpointFiles files, ModelConfig config, Sharding sharding, Device device)
    {
        using var model = Create(files, config, sharding);
        using var weights = new TensorSet(device, isMeasured: true);
        var loader = new WeightLoader(device, weights, new() { MayMap = sharding.TensorParallel == 1, Drops = true });
        model.Load(loader);
        return loader.Measure();
    }
}

/// <summary>A model and the memory of its weights.</summary>
/// <param name="Model">The model.</param>
/// <param name="Weights">All tensors that were allocated for it.</param>
/// <param name="Loaded">What was read and kept.</param>
/// <param name="LoadTime">How long it took.</param>
internal sealed record LoadedModel(IModel Model, TensorSet Weights, LoadedBytes Loaded, TimeSpan LoadTime) : IDisposable
{
    public void Dispose()
    {
        Model.Dispose();
        Weights.Dispose();
    }
}
