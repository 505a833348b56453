using System.Runtime.ExceptionServices;

namespace Octet.Backends;

/// <summary>One piece of an op; pieces run in any order on any thread, so none may depend on another.</summary>
internal interface ICpuTask
{
    void Run(long index, CpuWorker worker);
}

/// <summary>A thread's own scratch memory, kept from op to op.</summary>
internal sealed unsafe class CpuWorker(CpuKernels kernels)
{
    private float* _scratch;
    private long _capacity;

    /// <summary>The inner loops for this machine.</summary>
    public CpuKernels Kernels { get; } = kernels;

    /// <summary>The rows in the scratch memory, and the scales they have in, so that the next piece can use them again.</summary>
    public (long Rows, nint Scales) Panel { get; set; } = NoPanel;

    /// <summary>Nothing that a piece could use again.</summary>
    public static (long Rows, nint Scales) NoPanel => (-1, 0);

    /// <summary>Scratch of at least this many floats, aligned to 256 bytes. A larger request than before loses the contents.</summary>
    public float* Scratch(long floats)
    {
        if (floats > _capacity)
        {
            Free();
            _scratch = (float*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc(checked((nuint)(floats * sizeof(float))), 256);
            _capacity = floats;
            Panel = NoPanel;
        }

        return _scratch;
    }

    public void Free()
    {
        CpuMemory.Free((nint)_scratch);
        _scratch = null;
        _capacity = 0;
    }
}

/// <summary>
/// The threads of a CPU device: a parallel loop that allocates nothing. Pieces are handed out by a counter, so a thread that
/// is held up takes fewer; what a piece computes does not depend on who runs it.
/// </summary>
internal sealed unsafe class CpuThreads : IDisposable
{
    // Below this many elementary steps waking another thread costs more than it saves.
    private const long WorthWaking = 1 << 16;

    private readonly Lock _oneAtATime = new();
    private readonly SemaphoreSlim _start = new(0);
    private readonly CpuWorker[] _workers;
    private Thread[]? _threads;
    private delegate*<void*, long, CpuWorker, void> _body;
    private void* _task;
    private long _count;
    private long _next;
    private int _running;
    private bool _stopped;
    private Exception? _failure;

    public CpuThreads(int count, CpuKernels kernels)
    {
        _workers = new CpuWorker[count];
        for (var i = 0; i < count; i++)
        {
            _workers[i] = new CpuWorker(kernels);
        }
    }

    public int Count => _workers.Length;

    /// <summary>The inner loops every thread runs.</summary>
    public CpuKernels AnyKernels => _workers[0].Kernels;

    /// <summary>The number of processors, or what OCTET_CPU_THREADS says.</summary>
    /// <exception cref="OctetException">OCTET_CPU_THREADS is not a number from 1 to 1024.</exception>
    public static int DefaultCount()
    {
        var text = Environment.GetEnvironmentVariable("OCTET_CPU_THREADS");
        if (string.IsNullOrEmpty(text))
        {
            return Environment.ProcessorCount;
        }

        return int.TryParse(text, out var count) && count is >= 1 and <= 1024
            ? count
            : throw new OctetException(OctetStatus.InvalidArgument, $"OCTET_CPU_THREADS = '{text}' must be a whole number, 1 to 1024");
    }

    /// <summary>Runs pieces 0 to count - 1 and returns when all are done. Callers on several threads take turns.</summary>
    /// <param name="count">Number of pieces.</param>
    /// <param name="steps">Elementary steps of all pieces together, roughly; few of them run on the caller's thread alone.</param>
    /// <param name="task">What to run.</param>
    public void For<T>(long count, long steps, T task) where T : unmanaged, ICpuTask
    {
        lock (_oneAtATime)
        {
            ObjectDisposedException.ThrowIf(_stopped, this);
            foreach (var worker in _workers)
            {
                worker.Panel = CpuWorker.NoPanel;
            }

            if (count <= 1 || steps < WorthWaking || _workers.Length == 1)
            {
                for (long i = 0; i < count; i++)
                {
                    task.Run(i, _workers[0]);
                }

                return;
            }

            _threads ??= StartThreads();
            _body = &RunOne<T>;
            _task = &task;
            _count = count;
            _next = 0;
            _failure = null;
            var helpers = (int)Math.Min(_threads.Length, count - 1);
            Volatile.Write(ref _running, helpers);
            _start.Release(helpers);
            RunPieces(_workers[0]);

            // Nobody has to wait for a thread that has not even woken up: its permit is taken back.
            while (_start.Wait(0))
            {
                Interlocked.Decrement(ref _running);
            }

            var spin = default(SpinWait);
            while (Volatile.Read(ref _running) > 0)
            {
                spin.SpinOnce(sleep1Threshold: -1);
            }

            if (_failure is not null)
            {
                ExceptionDispatchInfo.Throw(_failure);
            }
        }
    }

    /// <summary>Ends the threads and frees their scratch memory.</summary>
    public void Dispose()
    {
        lock (_oneAtATime)
        {
            if (_stopped)
            {
                return;
            }

            _stopped = true;
            if (_threads is not null)
            {
                _start.Release(_threads.Length);
                foreach (var thread in _threads)
                {
                    thread.Join();
                }
            }

            foreach (var worker in _workers)
            {
                worker.Free();
            }

            _start.Dispose();
        }
    }

    private static void RunOne<T>(void* task, long index, CpuWorker worker) where T : unmanaged, ICpuTask =>
        ((T*)task)->Run(index, worker);

    private Thread[] StartThreads()
    {
        var threads = new Thread[_workers.Length - 1];
        for (var i = 0; i < threads.Length; i++)
        {
            var worker = _workers[i + 1];
            threads[i] = new Thread(() => Serve(worker)) { IsBackground = true, Name = $"octet cpu {i + 1}" };
            threads[i].Start();
        }

        return threads;
    }

    private void Serve(CpuWorker worker)
    {
        while (true)
        {
            _start.Wait();
            if (Volatile.Read(ref _stopped))
            {
                return;
            }

            RunPieces(worker);
            Interlocked.Decrement(ref _running);
        }
    }

    private void RunPieces(CpuWorker worker)
    {
        try
        {
            for (var i = Interlocked.Increment(ref _next) - 1; i < _count; i = Interlocked.Increment(ref _next) - 1)
            {
                _body(_task, i, worker);
            }
        }
        catch (Exception exception) // a failed piece must end the loop on the caller's thread, not the process
        {
            _failure = exception;
            Volatile.Write(ref _next, _count);
        }
    }
}
