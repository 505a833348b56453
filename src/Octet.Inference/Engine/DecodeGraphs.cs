namespace Octet.Inference.Engine;

/// <summary>What a step is enqueued for: the bounds that its grids come from. A recorded step serves every step of its bucket.</summary>
/// <param name="Rows">Continuations, padding included.</param>
/// <param name="QueryLength">Tokens of each.</param>
/// <param name="Context">At least the longest of their contexts.</param>
internal readonly record struct StepBucket(int Rows, int QueryLength, int Context);

/// <summary>How far a bucket has come.</summary>
internal enum BucketState
{
    /// <summary>It has not been run.</summary>
    New,

    /// <summary>It was run once, eagerly, which made the workspace as large as it needs.</summary>
    Sized,

    /// <summary>It is recorded.</summary>
    Recorded,
}

/// <summary>
/// One device's decode steps recorded as graphs, one for each bucket, so that a step costs the host one launch. What differs from step to
/// step (tokens, positions, lengths, block tables) lies on the device; grids come from the bucket's bounds. Whether a step is recorded,
/// replayed or run eagerly is decided for all ranks of a group together: <see cref="Parallel.RankGroup"/>.
/// </summary>
internal sealed class DecodeGraphs(Device device, Workspace workspace) : IDisposable
{
    /// <summary>Steps of more rows run eagerly.</summary>
    public const int LargestBucket = 512;

    private const int ShortestContext = 1024;

    // What one thread records may not be changed by what another one does: captures in a process are one at a time.
    private static readonly Lock OneCapture = new();

    // Null: the bucket is sized.
    private readonly Dictionary<StepBucket, DeviceGraph?> _graphs = [];
    private string? _mistrust = device.Properties.GraphsReason;
    private int _moves;

    /// <summary>Why nothing is recorded any more: what is known of the device's runtime, or a replay that gave other bits; null: all is well.</summary>
    public string? Mistrust => _mistrust;

    /// <summary>Graphs recorded so far.</summary>
    public int Recorded => _graphs.Values.Count(graph => graph is not null);

    /// <summary>
    /// Rows a batch is padded up to: 1, 2, 4, then steps of 8 to 256, then of 16 to 512; larger ones stay as they are and run eagerly.
    /// </summary>
    public static int RowBucket(int rows) => rows switch
    {
        <= 2 => rows,
        <= 4 => 4,
        <= 256 => (rows + 7) / 8 * 8,
        <= LargestBucket => (rows + 15) / 16 * 16,
        _ => rows,
    };

    /// <summary>The bound of the context a step is recorded for: the next power of two from 1,024 on, up to the model's longest.</summary>
    public static int ContextBucket(int context, int maxContext)
    {
        long bound = ShortestContext;
        while (bound < context)
        {
            bound *= 2;
        }

        return (int)Math.Min(bound, maxContext);
    }

    /// <summary>Whether steps of so many rows are recorded.</summary>
    public bool Covers(int rows)
    {
        if (_mistrust is not null)
        {
            DeviceEvents.Log.NoGraphsOnce(device.Name, _mistrust);
        }

        return _mistrust is null && device.Properties.SupportsGraphs && rows <= LargestBucket;
    }

    /// <summary>How far a bucket has come, now that the workspace is where it is.</summary>
    public BucketState StateOf(StepBucket bucket)
    {
        ForgetMoved();
        return !_graphs.TryGetValue(bucket, out var graph) ? BucketState.New : graph is null ? BucketState.Sized : BucketState.Recorded;
    }

    /// <summary>Notes that a step of the bucket was run eagerly.</summary>
    public void NoteSized(StepBucket bucket)
    {
        ForgetMoved();
        _graphs.TryAdd(bucket, null);
    }

    /// <summary>Records a step of a bucket that is sized, without running it.</summary>
    /// <param name="bucket">The bucket.</param>
    /// <param name="step">Enqueues the step's ops; the same for every step of the bucket.</param>
    public void Record(StepBucket bucket, Action step)
    {
        lock (OneCapture)
        {
            _graphs.Remove(bucket, out var before);
            before?.Dispose();
            _graphs.Add(bucket, Record(step));
        }
    }

    /// <summary>Enqueues the recorded step of a bucket.</summary>
    public void Replay(StepBucket bucket) => _graphs[bucket]!.Launch(device.Stream);

    /// <summary>Gives up what was recorded, and records nothing any more.</summary>
    public void Distrust(string reason)
    {
        Clear();
        _mistrust = reason;
        DeviceEvents.Log.NoGraphsOnce(device.Name, reason);
    }

    public void Dispose() => Clear();

    private DeviceGraph Record(Action step)
    {
        device.Stream.BeginCapture();
        try
        {
            step();
        }
        catch
        {
            AbandonRecording();
            throw;
        }

        return device.Stream.EndCapture();
    }

    // The stream must not stay in recording; what went wrong before is what the caller should see.
    private void AbandonRecording()
    {
        try
        {
            device.Stream.EndCapture().Dispose();
        }
        catch (OctetException)
        {
        }
    }

    // Steps recorded before the workspace moved point to the memory that was.
    private void ForgetMoved()
    {
        if (_moves != workspace.Moves)
        {
            Clear();
            _moves = workspace.Moves;
        }
    }

    private void Clear()
    {
        foreach (var graph in _graphs.Values)
        {
            graph?.Dispose();
        }

        _graphs.Clear();
    }
}
