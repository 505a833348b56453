using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Inference.Parallel;

/// <summary>One data parallel group: the ranks that run the model together, their KV blocks, and the engine that runs it.</summary>
internal sealed class Replica : IDisposable
{
    private readonly RankGroup _ranks;

    /// <param name="files">The checkpoint.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="devices">One for each rank.</param>
    /// <param name="options">How it is run; they are checked.</param>
    /// <param name="sharers">Groups, this one included, that have yet to take their part of the host's memory.</param>
    /// <param name="progress">Told of every chunk.</param>
    /// <param name="cancellation">Stops between chunks; nothing is left behind.</param>
    public Replica(
        CheckpointFiles files, ModelConfig config, DeviceGroup devices, LanguageModelOptions options, int sharers, IProgress<LoadProgress>? progress,
        CancellationToken cancellation)
    {
        var bounds = BoundsOf(config, options);
        _ranks = new RankGroup(files, config, devices, options, bounds, sharers, progress, cancellation);
        var scheduler = new Scheduler(
            new()
            {
                TokenBudget = Math.Min(options.TokenBudget, bounds.MaxContext),
                MaxSequences = options.MaxSequences,
                ReserveAll = options.ReserveAll,
                Proposals = options.Speculate,
            },
            new BlockManager(Blocks, options.KvBlockSize, options.PrefixCache));
        Engine = new Engine.Engine(devices.Devices[0], scheduler, _ranks, checked(bounds.MaxOutputs * config.VocabularySize));
    }

    /// <summary>The layers, on the rank that draws.</summary>
    public IModel Model => _ranks.Model;

    /// <summary>The recorded steps; null: every step runs eagerly.</summary>
    public DecodeGraphs? Graphs => _ranks.Graphs;

    /// <summary>Blocks of the KV cache.</summary>
    public int Blocks => _ranks.Blocks;

    /// <summary>Runs it; disposed by its owner, before this.</summary>
    public Engine.Engine Engine { get; }

    /// <summary>Refuses what cannot be divided so or cannot fit, before a weight is read.</summary>
    /// <exception cref="ArgumentException">The model cannot be divided so; the message has the values.</exception>
    /// <exception cref="OctetException">There is too little memory; the message has all the numbers.</exception>
    public static void Check(CheckpointFiles files, ModelConfig config, DeviceGroup devices, LanguageModelOptions options, int sharers) =>
        RankGroup.Check(files, config, devices, options, BoundsOf(config, options), sharers);

    public void Dispose() => _ranks.Dispose();

    private static StepBounds BoundsOf(ModelConfig config, LanguageModelOptions options)
    {
        var maxContext = options.MaxContext ?? config.MaxContext;
        return StepBounds.Of(Math.Min(options.TokenBudget, maxContext), options.MaxSequences, options.Speculate, maxContext, options.KvBlockSize);
    }
}
