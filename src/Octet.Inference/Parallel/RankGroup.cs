using System.Runtime.InteropServices;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Parallel;

/// <summary>
/// The ranks that run one model together, as the engine sees them: one step at a time. What a step is enqueued for, and whether it is run
/// eagerly, recorded or replayed, is decided here for all ranks; the first, the leader, draws. Several ranks have a host thread each, one is
/// run by the caller.
/// </summary>
internal sealed class RankGroup : IStepRunner, IDisposable
{
    private readonly List<Rank> _ranks = [];
    private readonly RankThreads? _threads;
    private readonly Communicator? _communicator;
    private readonly int _maxContext;
    private readonly Action<int> _run;
    private readonly Action<int> _evaluate;
    private StepPlan _plan = new();
    private StepBucket _bucket;
    private bool _replays;
    private (int First, int Count) _evaluated;

    /// <summary>Loads a model.</summary>
    /// <param name="files">The checkpoint.</param>
    /// <param name="config">Its config.json.</param>
    /// <param name="devices">One for each rank, in order.</param>
    /// <param name="options">How it is run.</param>
    /// <param name="bounds">The largest step.</param>
    /// <param name="sharers">Groups, this one included, that have yet to take their part of the host's memory.</param>
    /// <param name="progress">Told of every chunk.</param>
    /// <param name="cancellation">Stops between chunks; nothing is left behind.</param>
    /// <exception cref="ArgumentException">The model cannot be divided so.</exception>
    public RankGroup(
        CheckpointFiles files, ModelConfig config, DeviceGroup devices, LanguageModelOptions options, StepBounds bounds, int sharers,
        IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        _maxContext = bounds.MaxContext;
        _run = rank => _ranks[rank].Runner.Run(_plan, _bucket, _replays);
        _evaluate = rank => _ranks[rank].Runner.Evaluate(_evaluated.First, _evaluated.Count);
        try
        {
            var ranks = devices.Devices.Count;
            _communicator = options.Collectives == Collectives.Rccl ? Communicator.Create(devices.Devices) : null;
            RankShape[] shapes = [.. Enumerable.Range(0, ranks).Select(rank => ShapeOf(config, options, rank))];
            KvMemory[] memory = [.. shapes.Select((shape, rank) => Ask(files, shape, devices.Devices[rank], options, bounds, sharers))];
            var free = devices.Devices[0].FreeMemory;
            var loaded = GroupLoader.Load(
                files, config, [.. shapes.Select((shape, rank) => (shape.Sharding, devices.Devices[rank]))],
                new() { Threads = LoadOptions.ThreadsOf(ranks), Progress = progress, Cancellation = cancellation });
            _ranks.AddRange(loaded.Select((model, rank) => new Rank(model, devices.Devices[rank], shapes[rank], options, memory[rank])));

            // What the weights took is known now. A block is on every rank, so there are as many as the fullest has room for.
            var taken = devices.Devices[0].Properties.UsesHostMemory ? (free - devices.Devices[0].FreeMemory) / ranks : (long?)null;
            Blocks = _ranks.Min(rank => rank.Fit(taken));
            _ranks.ForEach(rank => rank.Prepare(Blocks, bounds));
            if (ranks > 1)
            {
                Exchange[] exchanges = [.. _ranks.Select(rank => rank.Model.Exchange!)];
                Exchange.Connect(exchanges, _communicator);
                void Stop()
                {
                    _communicator?.Abort();
                    Array.ForEach(exchanges, exchange => exchange.Stop());
                }

                _threads = new RankThreads([.. _ranks.Select(rank => rank.Device.Name)], options.RankTimeout, Stop, Release)
                {
                    Longest = _communicator is null ? Timeout.InfiniteTimeSpan : options.RankTimeout,
                };
            }
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>The model on the rank that draws.</summary>
    public IModel Model => _ranks[0].Model;

    /// <summary>The recorded steps of the rank that draws; null: every step runs eagerly.</summary>
    public DecodeGraphs? Graphs => _ranks[0].Runner.Graphs;

    /// <summary>KV blocks there are on each rank.</summary>
    public int Blocks { get; }

    /// <summary>Refuses what cannot be divided so or cannot fit, before a weight is read.</summary>
    /// <exception cref="ArgumentException">The model cannot be divided so; the message has the values.</exception>
    /// <exception cref="OctetException">There is too little memory; the message has all the numbers.</exception>
    public static void Check(CheckpointFiles files, ModelConfig config, DeviceGroup devices, LanguageModelOptions options, StepBounds bounds, int sharers)
    {
        for (var rank = 0; rank < devices.Devices.Count; rank++)
        {
            _ = Ask(files, ShapeOf(config, options, rank), devices.Devices[rank], options, bounds, sharers).Blocks();
        }
    }

    /// <inheritdoc/>
    public void Run(StepPlan plan)
    {
        var recorded = plan.DecodeRows == plan.Rows.Count && Graphs is { } graphs && graphs.Covers(plan.DecodeRows);
        (_plan, _bucket) = (plan, BucketOf(plan, recorded));
        var state = recorded ? StateOf(_bucket) : BucketState.New;
        _replays = state == BucketState.Recorded;
        Do(_run);
        if (recorded && !_replays)
        {
            _ranks.ForEach(rank => rank.Runner.Graphs!.NoteSized(_bucket));
        }

        if (state == BucketState.Sized)
        {
            Prove();
        }
    }

    /// <inheritdoc/>
    public ReadOnlySpan<int> Drawn(int row) => Leader.Drawn(row);

    /// <inheritdoc/>
    public TokenLogprobs Logprobs(int row, int draw, int alternatives) => Leader.Logprobs(row, draw, alternatives);

    /// <inheritdoc/>
    public void ReadLogits(int row, Span<float> logits) => Leader.ReadLogits(row, logits);

    /// <inheritdoc/>
    public void ReadAllLogits(int row, float[] logits, Action<int, ReadOnlySpan<float>> rows)
    {
        var (first, position, count) = Leader.TokensOf(row);
        for (var done = 0; done < count; done += Model.MaxRows)
        {
            _evaluated = (first + done, Math.Min(Model.MaxRows, count - done));
            Do(_evaluate);
            var used = logits.AsSpan(0, checked(_evaluated.Count * Model.VocabularySize));
            Leader.ReadEvaluated(used);
            rows(position + done, used);
        }
    }

    /// <inheritdoc/>
    public void Fork(Sequence parent, Sequence child) => _ranks.ForEach(rank => rank.Runner.Fork(parent, child));

    /// <inheritdoc/>
    public void Forget(Sequence sequence)
    {
        // A rank that is away may be at it still; all is let go of with the group.
        if (_threads?.Failure is null)
        {
            _ranks.ForEach(rank => rank.Runner.Forget(sequence));
        }
    }

    /// <inheritdoc/>
    public OctetException? FindLoss() => _threads is null ? Leader.FindLoss() : _threads.Failure;

    public void Dispose()
    {
        if (_threads is null)
        {
            Release();
        }
        else
        {
            _threads.Dispose();
        }
    }

    private ModelRunner Leader => _ranks[0].Runner;

    private static RankShape ShapeOf(ModelConfig config, LanguageModelOptions options, int rank)
    {
        var sharding = new Sharding(rank, options.TensorParallel, options.ExpertParallel);
        sharding.Check(config);
        RankShape.CheckSums(config, options.TensorParallel);
        return new RankShape(config, sharding);
    }

    // The ranks divide the host's memory too.
    private static KvMemory Ask(CheckpointFiles files, RankShape shape, Device device, LanguageModelOptions options, StepBounds bounds, int sharers) =>
        ModelMemory.Ask(device, shape, options, bounds, files.MayBeMapped) with { Sharers = device.Properties.UsesHostMemory ? sharers * shape.Ranks : sharers };

    private void Do(Action<int> work)
    {
        if (_threads is null)
        {
            work(0);
        }
        else
        {
            _threads.Do(work);
        }
    }

    // The graphs of the ranks go before what they recorded.
    private void Release()
    {
        _ranks.ForEach(rank => rank.Dispose());
        _ranks.Clear();
        _communicator?.Dispose();
    }

    private StepBucket BucketOf(StepPlan plan, bool recorded)
    {
        var (length, longest) = (1, 1);
        foreach (ref readonly var row in CollectionsMarshal.AsSpan(plan.Rows)[..plan.DecodeRows])
        {
            (length, longest) = (Math.Max(length, row.Count), Math.Max(longest, row.Start + row.Count));
        }

        return recorded
            ? new(DecodeGraphs.RowBucket(plan.DecodeRows), length, DecodeGraphs.ContextBucket(longest, _maxContext))
            : new(plan.DecodeRows, length, longest);
    }

    // What one rank has not recorded none replays.
    private BucketState StateOf(StepBucket bucket)
    {
        var state = BucketState.Recorded;
        foreach (var rank in _ranks)
        {
            var its = rank.Runner.Graphs!.StateOf(bucket);
            state = its < state ? its : state;
        }

        return state;
    }

    // Records the step that was run. The graphs stay if their first replay has the bits of the step run eagerly; else all steps run eagerly
    // from now on.
    private void Prove()
    {
        var eager = Leader.CopyLogits();
        Do(rank => _ranks[rank].Runner.Record(_bucket));
        Leader.SpoilLogits();
        Do(rank => _ranks[rank].Runner.Replay(_bucket));
        if (MemoryMarshal.AsBytes<float>(eager).SequenceEqual(MemoryMarshal.AsBytes<float>(Leader.CopyLogits())))
        {
            return;
        }

        var reason = $"a replayed step gave other bits than the same step run eagerly, on {_ranks[0].Device}; all steps run eagerly from now on";
        _ranks.ForEach(rank => rank.Runner.Graphs!.Distrust(reason));
        Do(rank => _ranks[rank].Runner.RunEagerly());
    }
}
