using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Inference.Parallel;

/// <summary>One data parallel group: the model on its devices, its KV cache, and the engine that runs it.</summary>
internal sealed class Replica : IDisposable
{
    private readonly Stack<IDisposable> _owned = new();

    /// <param name="files">The checkpoint.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="device">Where to.</param>
    /// <param name="options">How it is run; they are checked.</param>
    /// <param name="sharers">Groups, this one included, that have yet to take their part of the host's memory.</param>
    /// <param name="progress">Told of every chunk.</param>
    /// <param name="cancellation">Stops between chunks; nothing is left behind.</param>
    public Replica(
        CheckpointFiles files, ModelConfig config, Device device, LanguageModelOptions options, int sharers, IProgress<LoadProgress>? progress,
        CancellationToken cancellation)
    {
        var (maxContext, bounds) = (options.MaxContext ?? config.MaxContext, BoundsOf(config, options));
        try
        {
            // What they took is known once they are read.
            var memory = Ask(files, config, device, options, sharers);
            Model = Own(ModelRegistry.Load(files, config, device, progress, cancellation)).Model;
            Blocks = (memory with { WeightBytes = Math.Max(memory.FreeBytes - device.FreeMemory, 0) }).Blocks();
            var cache = Own(new PagedKvCache(device, Model.Kv, options.KvEncoding, options.KvBlockSize, Blocks, Model.KvScales));
            var workspace = Own(new Workspace(device));
            var scheduler = new Scheduler(
                new()
                {
                    TokenBudget = Math.Min(options.TokenBudget, maxContext),
                    MaxSequences = options.MaxSequences,
                    ReserveAll = options.ReserveAll,
                    Proposals = options.Speculate,
                },
                new BlockManager(Blocks, options.KvBlockSize, options.PrefixCache));
            Model.Prepare(device, cache, workspace, bounds.MaxTokens, bounds.MaxOutputs, maxContext);
            Graphs = options.UseGraphs ? Own(new DecodeGraphs(device, workspace, maxContext)) : null;
            var runner = Own(new ModelRunner(device, Model, Own(new KvSwap(device, cache)), Graphs, workspace, bounds));
            Engine = new Engine.Engine(device, scheduler, runner, checked(bounds.MaxOutputs * config.VocabularySize));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The layers.</summary>
    public IModel Model { get; }

    /// <summary>The recorded steps; null: every step runs eagerly.</summary>
    public DecodeGraphs? Graphs { get; }

    /// <summary>Blocks of the KV cache.</summary>
    public int Blocks { get; }

    /// <summary>Runs it; disposed by its owner, before this.</summary>
    public Engine.Engine Engine { get; }

    /// <summary>Refuses what cannot fit, before a weight is read.</summary>
    /// <exception cref="OctetException">There is too little memory; the message has all the numbers.</exception>
    public static void CheckMemory(CheckpointFiles files, ModelConfig config, Device device, LanguageModelOptions options, int sharers) =>
        _ = Ask(files, config, device, options, sharers).Blocks();

    public void Dispose()
    {
        while (_owned.TryPop(out var part))
        {
            part.Dispose();
        }
    }

    private static StepBounds BoundsOf(ModelConfig config, LanguageModelOptions options)
    {
        var maxContext = options.MaxContext ?? config.MaxContext;
        return StepBounds.Of(Math.Min(options.TokenBudget, maxContext), options.MaxSequences, options.Speculate, maxContext, options.KvBlockSize);
    }

    private static KvMemory Ask(CheckpointFiles files, ModelConfig config, Device device, LanguageModelOptions options, int sharers)
    {
        var bounds = BoundsOf(config, options);
        return ModelMemory.Ask(device, config, options, bounds.MaxContext, bounds.MaxTokens, bounds.MaxOutputs, files.MayBeMapped) with { Sharers = sharers };
    }

    private T Own<T>(T part) where T : IDisposable
    {
        _owned.Push(part);
        return part;
    }
}
