using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>
/// The ops in C#: streams run their work at once, on all processors. Same contract as the kernels: FP8 products accumulate in
/// f32, the scale pair is applied once per 128-wide block of k, and a row has the same bits whatever the batch, the number of
/// threads or the vector width.
/// </summary>
internal sealed unsafe partial class CpuBackend(DeviceProperties properties, CpuThreads threads) : Backend
{
    private readonly LiveCounter _live = new();

    public override DeviceProperties Properties { get; } = properties;

    public override long LiveBytes => Interlocked.Read(ref _live.Bytes);

    /// <summary>Buffers allocated so far, freed ones too.</summary>
    public long Allocations => Interlocked.Read(ref _live.Allocations);

    public override BufferHandle Allocate(long sizeInBytes, MemoryKind kind) => Allocate(sizeInBytes, zeros: kind == MemoryKind.Signal);

    // Streams run their work at once, so there is none to wait for.
    public override BufferHandle AllocateZeros(long sizeInBytes, DeviceStream stream) => Allocate(sizeInBytes, zeros: true);

    private CpuBuffer Allocate(long sizeInBytes, bool zeros)
    {
        try
        {
            return new CpuBuffer(Math.Max(sizeInBytes, 1), zeros, _live);
        }
        catch (OutOfMemoryException exception)
        {
            throw new OctetException(
                OctetStatus.OutOfMemory, $"{Properties.Name}: {sizeInBytes} bytes are not to be had beside {LiveBytes} in use", exception);
        }
    }

    public override SafeHandle CreateStream(nint? native) => native is null or 0
        ? new CpuHandle()
        : throw new OctetException(OctetStatus.Unsupported, $"{Properties.Name} has no streams of its own, so {native:x} cannot be borrowed");

    public override void Synchronize(DeviceStream stream)
    {
        // The work ran when it was enqueued.
    }

    public override void Wait(DeviceStream stream, DeviceEvent deviceEvent)
    {
        // The event's work ran when it was enqueued.
    }

    public override void Copy(DeviceStream stream, nint destination, nint source, long sizeInBytes, CopyKind kind) =>
        Buffer.MemoryCopy((void*)source, (void*)destination, sizeInBytes, sizeInBytes);

    public override void Fill(DeviceStream stream, nint destination, byte value, long sizeInBytes) =>
        NativeMemory.Fill((void*)destination, (nuint)sizeInBytes, value);

    public override SafeHandle CreateEvent() => new CpuHandle();

    public override void Record(DeviceEvent deviceEvent, DeviceStream stream) =>
        ((CpuHandle)deviceEvent.Handle).Timestamp = Stopwatch.GetTimestamp();

    public override void Synchronize(DeviceEvent deviceEvent)
    {
        // The event's work ran when it was enqueued.
    }

    public override float Elapsed(DeviceEvent start, DeviceEvent finish)
    {
        var (from, to) = (((CpuHandle)start.Handle).Timestamp, ((CpuHandle)finish.Handle).Timestamp);
        return from != 0 && to != 0
            ? (float)Stopwatch.GetElapsedTime(from, to).TotalMilliseconds
            : throw new OctetException(OctetStatus.InvalidArgument, "elapsed: both events must have been recorded");
    }

    public override void BeginCapture(DeviceStream stream) => throw NoGraphs();

    public override SafeHandle EndCapture(DeviceStream stream) => throw NoGraphs();

    public override void Launch(DeviceGraph graph, DeviceStream stream) => throw NoGraphs();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            threads.Dispose();
        }
    }

    private OctetException NoGraphs() =>
        new(OctetStatus.Unsupported, $"{Properties.Name} has no graphs: its streams run work at once");

    private static T* Pointer<T>(in TensorView tensor) where T : unmanaged => (T*)tensor.Address;

    private static long Blocks(long columns) => (columns + Octet.Float8.Block - 1) / Octet.Float8.Block;

    /// <summary>Bytes in use; outlives the device, for buffers that are finalised after it.</summary>
    private sealed class LiveCounter
    {
        public long Bytes;
        public long Allocations;
    }

    private sealed class CpuBuffer : BufferHandle
    {
        private readonly LiveCounter _live;
        private readonly long _size;
        private readonly bool _zeros;

        public CpuBuffer(long sizeInBytes, bool zeros, LiveCounter live)
        {
            (_live, _size, _zeros) = (live, sizeInBytes, zeros);
            if (zeros)
            {
                (Address, var allocation) = CpuMemory.AllocateZeros(sizeInBytes);
                SetHandle(allocation);
            }
            else
            {
                Address = CpuMemory.Allocate(sizeInBytes);
                SetHandle(Address);
            }

            Interlocked.Add(ref live.Bytes, sizeInBytes);
            Interlocked.Increment(ref live.Allocations);
        }

        protected override bool ReleaseHandle()
        {
            if (_zeros)
            {
                CpuMemory.FreeZeros(handle);
            }
            else
            {
                CpuMemory.Free(handle);
            }

            Interlocked.Add(ref _live.Bytes, -_size);
            return true;
        }
    }

    /// <summary>A stream or an event: nothing to hold, but closed like any other handle.</summary>
    private sealed class CpuHandle : SafeHandle
    {
        public CpuHandle()
            : base(0, ownsHandle: true) => SetHandle(1);

        /// <summary>When the event was recorded, 0: never.</summary>
        public long Timestamp { get; set; }

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle() => true;
    }
}
