namespace Octet.Inference.Loading;

/// <summary>Reads pieces of weights with several threads and has each taken, in windows by the order they lie in (<see cref="ReadPlan"/>).</summary>
internal sealed class LoadRun : IDisposable
{
    private readonly List<(LoadPiece[] Pieces, ReadWindow Window)>[] _phases;
    private readonly List<LoadWorker> _workers = [];
    private readonly LoadOptions _options;
    private readonly Lock _stream = new();
    private readonly Lock _advance = new();
    private readonly long _total;
    private readonly Tensor? _scratch;
    private long _done;

    /// <param name="device">Where to.</param>
    /// <param name="phases">The pieces of each phase, in any order; a phase begins when the one before it has ended.</param>
    /// <param name="options">How.</param>
    public LoadRun(Device device, IReadOnlyList<LoadPiece>[] phases, LoadOptions options)
    {
        (Device, _options) = (device, options);
        _phases = [.. phases.Select(Plan)];
        _total = phases.Sum(phase => phase.Sum(piece => piece.SizeInBytes));
        var windows = _phases.SelectMany(phase => phase).ToArray();
        BytesToRead = windows.Sum(window => window.Window.Reads.Sum(read => (long)read.Length));
        int Largest(Func<(LoadPiece[] Pieces, ReadWindow Window), long> measure) => checked((int)windows.Select(measure).DefaultIfEmpty().Max());
        var (windowBytes, outputBytes) = (Largest(w => w.Window.SizeInBytes), Largest(w => w.Pieces.Sum(piece => piece.OutputBytes)));
        var scratchBytes = options.Drops ? 0 : Largest(w => w.Pieces.Max(piece => piece.ScratchBytes));
        try
        {
            _scratch = scratchBytes == 0 ? null : Tensor.Create(device, DType.Byte, scratchBytes);
            for (var i = 0; i < Math.Min(options.Threads, _phases.Max(phase => phase.Count)); i++)
            {
                _workers.Add(new LoadWorker(this, windowBytes, outputBytes));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Where to.</summary>
    public Device Device { get; }

    /// <summary>Bytes that are read in all.</summary>
    public long BytesToRead { get; }

    /// <summary>Address of memory on the device for one piece at a time, where there is one that needs it.</summary>
    public nint Scratch => _scratch!.Address;

    /// <summary>Reads and takes all pieces, and waits until the device has them.</summary>
    /// <exception cref="ModelFormatException">A file is damaged, or a piece is refused.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public void Run()
    {
        _options.Progress?.Report(new LoadProgress(0, _total));
        foreach (var phase in _phases)
        {
            Run(phase);
        }

        Device.Stream.Synchronize();
    }

    /// <summary>Work on the device's stream, one thread at a time.</summary>
    public void Enqueue(Action<DeviceStream> work)
    {
        if (_options.Drops)
        {
            return;
        }

        lock (_stream)
        {
            work(Device.Stream);
        }
    }

    /// <summary>Reports that a piece is done.</summary>
    public void Advance(long bytes)
    {
        lock (_advance)
        {
            _done += bytes;
            _options.Progress?.Report(new LoadProgress(_done, _total));
        }
    }

    /// <summary>Waits for the copies and frees the buffers.</summary>
    public void Dispose()
    {
        try
        {
            Device.Stream.Synchronize();
        }
        catch (OctetException)
        {
            // A stream that failed copies no more; the error was thrown where it was waited for first.
        }

        _workers.ForEach(worker => worker.Dispose());
        _scratch?.Dispose();
    }

    private void Run(List<(LoadPiece[] Pieces, ReadWindow Window)> windows)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_options.Cancellation);
        var next = -1;
        var failure = LoadThreads.Run(Math.Min(_workers.Count, windows.Count), stop, worker =>
        {
            while (!stop.IsCancellationRequested && Interlocked.Increment(ref next) is var i && i < windows.Count)
            {
                _workers[worker].Take(windows[i].Pieces, windows[i].Window, stop.Token);
            }
        });
        _options.Cancellation.ThrowIfCancellationRequested();
        failure?.Throw();
    }

    // What is not read comes last, each piece by itself.
    private static List<(LoadPiece[] Pieces, ReadWindow Window)> Plan(IReadOnlyList<LoadPiece> pieces)
    {
        LoadPiece[] read = [.. pieces.Where(piece => piece.Range is not null)];
        Array.Sort(read, (x, y) => ReadPlan.Compare(x.Range!.Value, y.Range!.Value));
        ReadRange[] ranges = [.. read.Select(piece => piece.Range!.Value)];
        return
        [
            .. ReadPlan.Windows(ranges).Select(window => (read[window.First..(window.First + window.Count)], window)),
            .. pieces.Where(piece => piece.Range is null).Select(piece => (new[] { piece }, new ReadWindow(0, 1, []))),
        ];
    }
}
