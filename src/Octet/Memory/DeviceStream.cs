using System.Runtime.InteropServices;
using Octet.Backends;

namespace Octet;

/// <summary>A queue of work on a device, run in order. One thread at a time.</summary>
public sealed class DeviceStream : IDisposable
{
    // Owners of pinned memory that copies in flight still read or write.
    private readonly List<PinnedBuffer> _inFlight = [];

    internal DeviceStream(Device device, SafeHandle handle)
    {
        Device = device;
        Handle = handle;
    }

    /// <summary>The device the stream belongs to.</summary>
    public Device Device { get; }

    /// <summary>The backend's handle.</summary>
    public SafeHandle Handle { get; }

    /// <summary>Waits until the stream has run dry.</summary>
    /// <exception cref="OctetException">Work on the stream failed.</exception>
    public void Synchronize()
    {
        ThrowIfDisposed();
        Device.Backend.Synchronize(this);
        _inFlight.Clear();
    }

    /// <summary>Copies host elements into a contiguous tensor; they are read before this returns.</summary>
    /// <exception cref="ArgumentException">Another element type, another count, or not contiguous.</exception>
    public unsafe void Write<T>(in TensorView destination, ReadOnlySpan<T> source) where T : unmanaged
    {
        CheckTransfer<T>(destination, source.Length);
        fixed (T* pointer = source)
        {
            Device.Backend.Copy(this, destination.Address, (nint)pointer, destination.SizeInBytes, CopyKind.HostToDevice);
            Synchronize();
        }
    }

    /// <summary>Copies a contiguous tensor to host elements, behind all work enqueued so far, and waits for it.</summary>
    /// <exception cref="ArgumentException">Another element type, another count, or not contiguous.</exception>
    public unsafe void Read<T>(in TensorView source, Span<T> destination) where T : unmanaged
    {
        CheckTransfer<T>(source, destination.Length);
        fixed (T* pointer = destination)
        {
            Device.Backend.Copy(this, (nint)pointer, source.Address, source.SizeInBytes, CopyKind.DeviceToHost);
            Synchronize();
        }
    }

    /// <summary>Enqueues a copy from pinned memory; the buffer is kept alive until the stream is synchronised.</summary>
    /// <param name="destination">A contiguous tensor of at most the buffer's size behind the offset.</param>
    /// <param name="source">As many of its bytes are copied.</param>
    /// <param name="offsetInBytes">The first of them.</param>
    public void CopyAsync(in TensorView destination, PinnedBuffer source, long offsetInBytes = 0)
    {
        CheckPinned(destination, source, offsetInBytes);
        Device.Backend.Copy(this, destination.Address, source.Address + (nint)offsetInBytes, destination.SizeInBytes, CopyKind.HostToDevice);
    }

    /// <summary>Enqueues a copy to pinned memory; the buffer is kept alive until the stream is synchronised.</summary>
    /// <param name="destination">As many of its bytes are written.</param>
    /// <param name="source">A contiguous tensor of at most the buffer's size behind the offset.</param>
    /// <param name="offsetInBytes">The first byte that is written.</param>
    public void CopyAsync(PinnedBuffer destination, in TensorView source, long offsetInBytes = 0)
    {
        CheckPinned(source, destination, offsetInBytes);
        Device.Backend.Copy(this, destination.Address + (nint)offsetInBytes, source.Address, source.SizeInBytes, CopyKind.DeviceToHost);
    }

    /// <summary>Enqueues a copy between contiguous tensors of one device, of the same type and count.</summary>
    public void Copy(in TensorView destination, in TensorView source)
    {
        CheckOnDevice(destination);
        CheckOnDevice(source);
        if (destination.DType != source.DType || destination.ElementCount != source.ElementCount
            || !destination.IsContiguous || !source.IsContiguous)
        {
            throw new ArgumentException($"copy: {source} to {destination}: types and counts must agree, both contiguous");
        }

        Device.Backend.Copy(this, destination.Address, source.Address, source.SizeInBytes, CopyKind.DeviceToDevice);
    }

    /// <summary>Enqueues filling a contiguous tensor with one byte.</summary>
    public void Fill(in TensorView destination, byte value)
    {
        CheckOnDevice(destination);
        if (!destination.IsContiguous)
        {
            throw new ArgumentException($"fill: {destination} is not contiguous");
        }

        Device.Backend.Fill(this, destination.Address, value, destination.SizeInBytes);
    }

    /// <summary>Makes later work on this stream wait for the event.</summary>
    public void Wait(DeviceEvent deviceEvent)
    {
        ThrowIfDisposed();
        Device.Backend.Wait(this, deviceEvent);
    }

    /// <summary>From here to <see cref="EndCapture"/>, ops on this stream are recorded instead of run.</summary>
    /// <exception cref="OctetException">The device has no graphs (<see cref="DeviceProperties.SupportsGraphs"/>).</exception>
    public void BeginCapture()
    {
        ThrowIfDisposed();
        Device.Backend.BeginCapture(this);
    }

    /// <summary>Ends recording; the graph can be launched any number of times.</summary>
    public DeviceGraph EndCapture()
    {
        ThrowIfDisposed();
        return new DeviceGraph(Device, Device.Backend.EndCapture(this));
    }

    /// <summary>Waits for nothing; work in flight goes on.</summary>
    public void Dispose() => Handle.Dispose();

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Handle.IsClosed, this);

    private void CheckOnDevice(in TensorView tensor)
    {
        ThrowIfDisposed();
        if (tensor.IsNull || tensor.Device != Device)
        {
            throw new ArgumentException($"{tensor} is not on the stream's device {Device.Name}");
        }
    }

    private void CheckTransfer<T>(in TensorView tensor, int count) where T : unmanaged
    {
        CheckOnDevice(tensor);
        if (DTypes.Of<T>() != tensor.DType || count != tensor.ElementCount || !tensor.IsContiguous)
        {
            throw new ArgumentException(
                $"copy of {count} elements of {typeof(T).Name} from or to {tensor}: types and counts must agree, and the tensor be contiguous");
        }
    }

    private void CheckPinned(in TensorView tensor, PinnedBuffer pinned, long offsetInBytes)
    {
        CheckOnDevice(tensor);
        ArgumentNullException.ThrowIfNull(pinned);
        if (!tensor.IsContiguous || offsetInBytes < 0 || tensor.SizeInBytes > pinned.SizeInBytes - offsetInBytes)
        {
            throw new ArgumentException(
                $"copy between {tensor} and {pinned.SizeInBytes} pinned bytes from {offsetInBytes} on: must be contiguous and fit");
        }

        _inFlight.Add(pinned);
    }
}

/// <summary>A point in a stream's work.</summary>
public sealed class DeviceEvent : IDisposable
{
    internal DeviceEvent(Device device, SafeHandle handle)
    {
        Device = device;
        Handle = handle;
    }

    /// <summary>The device the event belongs to.</summary>
    public Device Device { get; }

    /// <summary>The backend's handle.</summary>
    public SafeHandle Handle { get; }

    /// <summary>Marks the end of the work enqueued so far.</summary>
    public void Record(DeviceStream stream) => Backend.Record(this, stream);

    /// <summary>Waits until that work is done.</summary>
    public void Synchronize() => Backend.Synchronize(this);

    /// <summary>Milliseconds from <paramref name="start"/> to this event; both have passed.</summary>
    public float ElapsedSince(DeviceEvent start) => Backend.Elapsed(start, this);

    private Backend Backend
    {
        get
        {
            ObjectDisposedException.ThrowIf(Handle.IsClosed, this);
            return Device.Backend;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Handle.Dispose();
}

/// <summary>Recorded work that can be launched again at the cost of one call.</summary>
public sealed class DeviceGraph : IDisposable
{
    internal DeviceGraph(Device device, SafeHandle handle)
    {
        Device = device;
        Handle = handle;
    }

    /// <summary>The device the graph belongs to.</summary>
    public Device Device { get; }

    /// <summary>The backend's handle.</summary>
    public SafeHandle Handle { get; }

    /// <summary>Enqueues the recorded work.</summary>
    public void Launch(DeviceStream stream)
    {
        ObjectDisposedException.ThrowIf(Handle.IsClosed, this);
        Device.Backend.Launch(this, stream);
    }

    /// <inheritdoc/>
    public void Dispose() => Handle.Dispose();
}

/// <summary>Host memory that copies may use while the host goes on.</summary>
public sealed class PinnedBuffer : IDisposable
{
    private readonly BufferHandle _handle;

    /// <summary>Allocates pinned memory.</summary>
    public PinnedBuffer(Device device, long sizeInBytes)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sizeInBytes);
        _handle = device.Backend.Allocate(sizeInBytes, MemoryKind.Pinned);
        SizeInBytes = sizeInBytes;
    }

    /// <summary>Size in bytes.</summary>
    public long SizeInBytes { get; }

    /// <summary>Host address of the first byte.</summary>
    public nint Address
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            return _handle.Address;
        }
    }

    /// <summary>The bytes as elements; valid until the buffer is disposed.</summary>
    public unsafe Span<T> AsSpan<T>() where T : unmanaged => new((void*)Address, checked((int)(SizeInBytes / sizeof(T))));

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
