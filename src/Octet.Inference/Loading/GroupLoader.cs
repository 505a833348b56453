using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Loading;

/// <summary>Loads the ranks of a group at once, each with threads of its own: all of them, or none.</summary>
internal static class GroupLoader
{
    /// <summary>The model on each rank's device.</summary>
    /// <param name="files">The checkpoint, opened once for all.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="ranks">The ranks and where they are.</param>
    /// <param name="options">How; the progress is told of the sum over all ranks.</param>
    /// <exception cref="ModelFormatException">The checkpoint is not one that can be loaded; nothing is left on any device.</exception>
    /// <exception cref="ArgumentException">The model cannot be divided so.</exception>
    /// <exception cref="OctetException">A device failed, or has not enough memory.</exception>
    public static LoadedModel[] Load(
        CheckpointFiles files, ModelConfig config, IReadOnlyList<(Sharding Sharding, Device Device)> ranks, LoadOptions options)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(options.Cancellation);
        var sum = options.Progress is { } progress ? new ProgressSum(progress, ranks.Count) : null;
        var loaded = new LoadedModel?[ranks.Count];
        var failure = LoadThreads.Run(ranks.Count, stop, rank => loaded[rank] = ModelRegistry.Load(
            files, config, ranks[rank].Sharding, ranks[rank].Device, options with { Progress = sum?.Of(rank), Cancellation = stop.Token }));
        if (failure is not null)
        {
            Array.ForEach(loaded, model => model?.Dispose());
            options.Cancellation.ThrowIfCancellationRequested();
            failure.Throw();
        }

        return loaded!;
    }

    // Tells nothing before each rank has told how much it will load: a share of less than all would go back.
    private sealed class ProgressSum(IProgress<LoadProgress> progress, int ranks)
    {
        private readonly Lock _lock = new();
        private readonly LoadProgress?[] _ranks = new LoadProgress?[ranks];

        public IProgress<LoadProgress> Of(int rank) => new Rank(this, rank);

        private void Report(int rank, LoadProgress value)
        {
            lock (_lock)
            {
                _ranks[rank] = value;
                if (Array.TrueForAll(_ranks, told => told is not null))
                {
                    progress.Report(new(_ranks.Sum(told => told!.Value.LoadedBytes), _ranks.Sum(told => told!.Value.TotalBytes)));
                }
            }
        }

        private sealed class Rank(ProgressSum sum, int rank) : IProgress<LoadProgress>
        {
            public void Report(LoadProgress value) => sum.Report(rank, value);
        }
    }
}
