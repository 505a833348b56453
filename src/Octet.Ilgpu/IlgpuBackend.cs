using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using Octet.Backends;

namespace Octet.Ilgpu;

/// <summary>
/// The ops on ILGPU, for GPUs that neither HIP nor CUDA kernels of the native library serve, and on ILGPU's CPU accelerator
/// for parity without a GPU. Computes in OCP FP8: weights and caches stay bytes on the device and are widened where they are
/// multiplied. Same contract as every backend: f32 sums, the scale pair once per 128-wide block of k, a row's bits independent
/// of the rows beside it.
/// </summary>
/// <remarks>
/// One ILGPU context for each device: a kernel that fails to compile leaves its context unusable, so all kernels are compiled
/// when the device is opened, and a failure closes that context and names the kernel.
/// </remarks>
public sealed unsafe partial class IlgpuBackend : Backend
{
    private readonly Context _context;
    private readonly Accelerator _accelerator;
    private readonly IlgpuMemory _memory;
    private readonly IlgpuShape _shape;

    /// <summary>Opens an accelerator of the context, which the backend owns from here on, and compiles every kernel.</summary>
    /// <param name="name">The full device name.</param>
    /// <param name="context">A context that holds the device.</param>
    /// <param name="device">The device in it.</param>
    /// <param name="shape">How kernels are launched.</param>
    /// <param name="further">Called behind the last kernel: may compile more.</param>
    /// <exception cref="OctetException">The device failed, or a kernel does not compile; the context is disposed.</exception>
    internal IlgpuBackend(
        string name, Context context, ILGPU.Runtime.Device device, IlgpuShape shape, Action<IlgpuCompiler>? further = null)
    {
        (_context, _shape) = (context, shape);
        try
        {
            _accelerator = device.CreateAccelerator(context);
            _memory = new IlgpuMemory(name, _accelerator);
            Properties = IlgpuDevices.Describe(name, device);
            var compiler = new IlgpuCompiler(name, _accelerator, _memory.Gate, shape);
            Compile(compiler);
            further?.Invoke(compiler);
        }
        catch (Exception error)
        {
            _accelerator?.Dispose();
            context.Dispose();
            throw error as OctetException
                ?? new OctetException(OctetStatus.DeviceError, $"device '{name}': {IlgpuDevices.Reason(error)}", error);
        }
    }

    /// <summary>Makes the devices "ilgpu:cuda:0", "ilgpu:opencl:0", "ilgpu:cpu" known to <see cref="Device"/>.</summary>
    public static void Register() => Device.Register(new IlgpuProvider());

    /// <inheritdoc/>
    public override DeviceProperties Properties { get; }

    /// <inheritdoc/>
    public override long LiveBytes => _memory.LiveBytes;

    /// <inheritdoc/>
    public override long FreeMemory => _accelerator is CudaAccelerator cuda ? Guarded(cuda.GetFreeMemory) : base.FreeMemory;

    /// <inheritdoc/>
    public override BufferHandle Allocate(long sizeInBytes, MemoryKind kind) => _memory.Allocate(Math.Max(sizeInBytes, 1), kind);

    /// <inheritdoc/>
    public override SafeHandle CreateStream(nint? native) => native switch
    {
        null => Guarded(() => new StreamHandle(_accelerator.CreateStream(), isOwned: true)),
        0 => new StreamHandle(_accelerator.DefaultStream, isOwned: false),
        _ => throw new OctetException(
            OctetStatus.Unsupported, $"{Properties.Name}: ILGPU cannot borrow the stream {native:x}"),
    };

    /// <inheritdoc/>
    public override void Synchronize(DeviceStream stream) => Guarded(Stream(stream).Synchronize);

    /// <inheritdoc/>
    public override void Wait(DeviceStream stream, DeviceEvent deviceEvent) => Synchronize(deviceEvent); // ILGPU streams cannot wait for one another

    /// <inheritdoc/>
    public override void Copy(DeviceStream stream, nint destination, nint source, long sizeInBytes, CopyKind kind)
    {
        if (sizeInBytes == 0)
        {
            return;
        }

        var queue = Stream(stream);
        Guarded(() =>
        {
            switch (kind)
            {
                case CopyKind.HostToDevice:
                    _memory.Bytes(destination, sizeInBytes).CopyFromCPU(queue, ref Unsafe.AsRef<byte>((void*)source), sizeInBytes);
                    break;
                case CopyKind.DeviceToHost:
                    _memory.Bytes(source, sizeInBytes).CopyToCPU(queue, ref Unsafe.AsRef<byte>((void*)destination), sizeInBytes);
                    break;
                default:
                    _memory.Bytes(source, sizeInBytes).CopyTo(queue, _memory.Bytes(destination, sizeInBytes));
                    break;
            }
        });
    }

    /// <inheritdoc/>
    public override void Fill(DeviceStream stream, nint destination, byte value, long sizeInBytes)
    {
        if (sizeInBytes > 0)
        {
            var queue = Stream(stream);
            Guarded(() => _memory.Bytes(destination, sizeInBytes).MemSet(queue, value));
        }
    }

    /// <inheritdoc/>
    public override SafeHandle CreateEvent() => new EventHandle();

    /// <inheritdoc/>
    public override void Record(DeviceEvent deviceEvent, DeviceStream stream)
    {
        var queue = Stream(stream);
        Guarded(() => ((EventHandle)deviceEvent.Handle).Set(queue.AddProfilingMarker()));
    }

    /// <inheritdoc/>
    public override void Synchronize(DeviceEvent deviceEvent) =>
        Guarded(() => ((EventHandle)deviceEvent.Handle).Marker?.Synchronize());

    /// <inheritdoc/>
    public override float Elapsed(DeviceEvent start, DeviceEvent finish)
    {
        var (from, to) = (((EventHandle)start.Handle).Marker, ((EventHandle)finish.Handle).Marker);
        return from is not null && to is not null
            ? Guarded(() => (float)to.MeasureFrom(from).TotalMilliseconds)
            : throw new OctetException(OctetStatus.InvalidArgument, "elapsed: both events must have been recorded");
    }

    /// <inheritdoc/>
    public override void BeginCapture(DeviceStream stream) => throw NoGraphs();

    /// <inheritdoc/>
    public override SafeHandle EndCapture(DeviceStream stream) => throw NoGraphs();

    /// <inheritdoc/>
    public override void Launch(DeviceGraph graph, DeviceStream stream) => throw NoGraphs();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            lock (_memory.Gate)
            {
                _accelerator.Dispose();
                _context.Dispose();
            }
        }
    }

    private OctetException NoGraphs() => new(OctetStatus.Unsupported, $"{Properties.Name} has no graphs: ILGPU cannot record a stream");

    private static AcceleratorStream Stream(DeviceStream stream) => ((StreamHandle)stream.Handle).Queue;

    private ArrayView<T> View<T>(in TensorView tensor) where T : unmanaged => _memory.View<T>(tensor);

    private static long Blocks(long elements) => (elements + Octet.Float8.Block - 1) / Octet.Float8.Block;

    private void Guarded(Action action) => Guarded(() =>
    {
        action();
        return true;
    });

    // One call into ILGPU at a time: its accelerators and their launch queues are not thread-safe.
    private T Guarded<T>(Func<T> function)
    {
        lock (_memory.Gate)
        {
            try
            {
                return function();
            }
            catch (Exception error) when (error is not OctetException)
            {
                throw new OctetException(OctetStatus.DeviceError, $"{Properties.Name}: {IlgpuDevices.Reason(error)}", error);
            }
        }
    }

    private sealed class StreamHandle : SafeHandle
    {
        private readonly bool _isOwned;

        public StreamHandle(AcceleratorStream queue, bool isOwned)
            : base(0, ownsHandle: true)
        {
            (Queue, _isOwned) = (queue, isOwned);
            SetHandle(1);
        }

        public AcceleratorStream Queue { get; }

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle()
        {
            if (_isOwned)
            {
                Queue.Dispose();
            }

            return true;
        }
    }

    private sealed class EventHandle : SafeHandle
    {
        public EventHandle()
            : base(0, ownsHandle: true) => SetHandle(1);

        /// <summary>The point in the stream, null: never recorded.</summary>
        public ProfilingMarker? Marker { get; private set; }

        public override bool IsInvalid => handle == 0;

        public bool Set(ProfilingMarker marker)
        {
            Marker?.Dispose();
            Marker = marker;
            return true;
        }

        protected override bool ReleaseHandle()
        {
            Marker?.Dispose();
            return true;
        }
    }
}
