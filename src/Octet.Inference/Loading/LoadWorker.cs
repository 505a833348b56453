namespace Octet.Inference.Loading;

/// <summary>
/// One of the threads that load: fills its window, has its pieces taken, and waits for their copies before the window is filled again. So
/// some windows are read while others are on their way to the device.
/// </summary>
internal sealed class LoadWorker : IDisposable
{
    private readonly LoadRun _run;
    private readonly PinnedBuffer? _window;
    private readonly PinnedBuffer? _output;
    private DeviceEvent? _copied;
    private int _outputEnd;

    public LoadWorker(LoadRun run, int windowBytes, int outputBytes)
    {
        _run = run;
        try
        {
            _window = windowBytes == 0 ? null : new PinnedBuffer(run.Device, windowBytes);
            _output = outputBytes == 0 ? null : new PinnedBuffer(run.Device, outputBytes);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Reads a window and takes its pieces.</summary>
    public unsafe void Take(ReadOnlySpan<LoadPiece> pieces, ReadWindow window, CancellationToken cancellation)
    {
        _copied?.Synchronize();
        _outputEnd = 0;
        if (pieces[0].Range is { } first)
        {
            foreach (var read in window.Reads)
            {
                first.File.Read(_window!.AsSpan<byte>().Slice(read.Position, read.Length), read.Offset, cancellation);
            }
        }

        var start = _window is null ? null : (byte*)_window.Address;
        foreach (var piece in pieces)
        {
            cancellation.ThrowIfCancellationRequested();
            piece.Take(new WindowBytes(start, window.Reads, piece.Range ?? default), this);
            _run.Advance(piece.SizeInBytes);
        }

        Enqueue(stream => (_copied ??= _run.Device.CreateEvent()).Record(stream));
    }

    /// <summary>Bytes of the window.</summary>
    public PinnedBytes Window(int position, long length) => new(_window!, position, checked((int)length));

    /// <summary>Pinned memory to make bytes in, the next of the window's.</summary>
    public PinnedBytes Output(long length)
    {
        var bytes = new PinnedBytes(_output!, _outputEnd, checked((int)length));
        _outputEnd += bytes.Length;
        return bytes;
    }

    /// <summary>Address of scratch memory on the device; work on the stream has it in turn.</summary>
    public nint Scratch => _run.Scratch;

    /// <summary>Puts work on the device's stream, unless what is read is dropped; one thread at a time.</summary>
    public void Enqueue(Action<DeviceStream> work) => _run.Enqueue(work);

    /// <summary>Frees the buffers; the stream has run dry.</summary>
    public void Dispose()
    {
        _copied?.Dispose();
        _window?.Dispose();
        _output?.Dispose();
    }
}
