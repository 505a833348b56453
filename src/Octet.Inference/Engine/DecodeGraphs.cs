using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>
/// Decode steps recorded as graphs, one for each number of tokens a row, and bucket of rows and of context, so that a step costs the host one launch. What
/// differs from step to step (tokens, positions, lengths, block tables) lies on the device; grids come from the bucket's bounds.
/// </summary>
internal sealed class DecodeGraphs(Device device, Workspace workspace, int maxContext) : IDisposable
{
    private const int LargestBucket = 512;
    private const int ShortestContext = 1024;

    // Null: the bucket was run once, eagerly, which made the workspace as large as it needs.
    private readonly Dictionary<(int Rows, int QueryLength, int Context), DeviceGraph?> _graphs = [];
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
    public int ContextBucket(int context)
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

    /// <summary>
    /// Enqueues a step of a bucket: eagerly the first time; the second time eagerly, and recorded, and replayed once, whose output must have
    /// the same bits; replayed from then on.
    /// </summary>
    /// <param name="rows">Rows of the bucket.</param>
    /// <param name="queryLength">Tokens of each row.</param>
    /// <param name="context">Bound of the bucket's contexts.</param>
    /// <param name="step">Enqueues the step's ops, which may be repeated; the same for every call with this bucket.</param>
    /// <param name="output">What the step that was enqueued last gives.</param>
    public void Run(int rows, int queryLength, int context, Action step, Func<TensorView> output)
    {
        ForgetMoved();
        if (!_graphs.TryGetValue((rows, queryLength, context), out var graph))
        {
            step();
            ForgetMoved();
            _graphs[(rows, queryLength, context)] = null;
            return;
        }

        if (graph is null)
        {
            graph = Prove(step, output);
            if (graph is null)
            {
                step();
                return;
            }

            _graphs[(rows, queryLength, context)] = graph;
            return;
        }

        graph.Launch(device.Stream);
    }

    public void Dispose() => Clear();

    // A graph whose first replay gave the bits of the same step run eagerly; null, and none is recorded any more, where it did not.
    private DeviceGraph? Prove(Action step, Func<TensorView> output)
    {
        step();
        var eager = output().ToArray<float>();
        var graph = Record(step);
        device.Stream.Fill(output(), 0xFF);
        graph.Launch(device.Stream);
        var replayed = output().ToArray<float>();
        if (MemoryMarshal.AsBytes<float>(eager).SequenceEqual(MemoryMarshal.AsBytes<float>(replayed)))
        {
            return graph;
        }

        graph.Dispose();
        _mistrust = $"a replayed step gave other bits than the same step run eagerly, on {device}; all steps run eagerly from now on";
        DeviceEvents.Log.NoGraphsOnce(device.Name, _mistrust);
        return null;
    }

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
