using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.OpenCL;
using Octet.Backends;

namespace Octet.Ilgpu;

/// <summary>
/// The buffers of one accelerator, found again by address: tensors carry addresses, ILGPU's kernels take views of buffers. CUDA
/// and the CPU have addresses of their own; OpenCL has none, there each buffer gets a range of made-up ones.
/// </summary>
internal sealed unsafe class IlgpuMemory(string name, Accelerator accelerator)
{
    private const long Alignment = 256;

    private readonly SortedList<long, DeviceBuffer> _buffers = [];
    private readonly Counter _live = new();
    private long _nextAddress = 1L << 40;

    /// <summary>Held during every call into the accelerator.</summary>
    public Lock Gate { get; } = new();

    /// <summary>Bytes in buffers that are not freed.</summary>
    public long LiveBytes => Interlocked.Read(ref _live.Bytes);

    public BufferHandle Allocate(long sizeInBytes, MemoryKind kind)
    {
        lock (Gate)
        {
            try
            {
                return kind == MemoryKind.Pinned ? new HostBuffer(sizeInBytes, _live) : new DeviceBuffer(this, sizeInBytes);
            }
            catch (Exception error) when (error is OutOfMemoryException or AcceleratorException or OverflowException or ArgumentException)
            {
                throw new OctetException(
                    OctetStatus.OutOfMemory, $"{name}: {sizeInBytes} bytes are not to be had beside {LiveBytes} in use", error);
            }
        }
    }

    /// <summary>Bytes at a device address.</summary>
    public ArrayView<byte> Bytes(nint address, long sizeInBytes)
    {
        var what = $"{sizeInBytes} bytes at {address:x}";
        var buffer = Find(address + (nint)sizeInBytes - 1, what);
        return address >= buffer.Start ? buffer.All.SubView(address - buffer.Start, sizeInBytes) : throw Foreign(what);
    }

    /// <summary>The memory from a tensor's first element to its last; empty for null and for a tensor without elements.</summary>
    public ArrayView<T> View<T>(in TensorView tensor) where T : unmanaged
    {
        if (tensor.ElementCount == 0)
        {
            return ArrayView<T>.Empty;
        }

        return Bytes(tensor.Address, Last(tensor) + tensor.DType.SizeInBytes()).Cast<T>();
    }

    /// <summary>
    /// The buffer that holds a tensor's last element, and the index in it of the tensor's first, which may be negative: a cache or a
    /// table may claim what lies before the part that exists.
    /// </summary>
    public (ArrayView<T> Buffer, long First) Claim<T>(in TensorView tensor) where T : unmanaged
    {
        if (tensor.ElementCount == 0)
        {
            return (ArrayView<T>.Empty, 0);
        }

        var buffer = Find(tensor.Address + (nint)Last(tensor), tensor.ToString());
        return (buffer.All.Cast<T>(), (tensor.Address - buffer.Start) / sizeof(T));
    }

    private static long Last(in TensorView tensor)
    {
        long last = 0;
        for (var i = 0; i < tensor.Rank; i++)
        {
            last += (tensor.Shape[i] - 1) * tensor.Strides[i];
        }

        return last * tensor.DType.SizeInBytes();
    }

    private DeviceBuffer Find(nint lastByte, string what)
    {
        lock (Gate)
        {
            var (low, high) = (0, _buffers.Count - 1);
            while (low <= high)
            {
                var middle = (low + high) / 2;
                var buffer = _buffers.Values[middle];
                if (lastByte < buffer.Start)
                {
                    high = middle - 1;
                }
                else if (lastByte >= buffer.Start + buffer.SizeInBytes)
                {
                    low = middle + 1;
                }
                else
                {
                    return buffer;
                }
            }
        }

        throw Foreign(what);
    }

    private OctetException Foreign(string what) => new(
        OctetStatus.Unsupported, $"{name}: {what} is not within a buffer of this device, and ILGPU cannot borrow memory");

    /// <summary>Bytes in use; outlives the device, for buffers that are finalised after it.</summary>
    private sealed class Counter
    {
        public long Bytes;
    }

    private sealed class DeviceBuffer : BufferHandle
    {
        private readonly IlgpuMemory _memory;
        private readonly MemoryBuffer _buffer;

        public DeviceBuffer(IlgpuMemory memory, long sizeInBytes)
        {
            (_memory, SizeInBytes) = (memory, sizeInBytes);

            // ILGPU aligns host memory to 16 bytes only.
            _buffer = memory.Accelerator.Allocate1D<byte>(sizeInBytes + Alignment - 1);
            var hasAddresses = memory.Accelerator is not CLAccelerator;
            var padding = hasAddresses ? -_buffer.NativePtr & (Alignment - 1) : 0;
            All = _buffer.AsArrayView<byte>(padding, sizeInBytes);
            Start = hasAddresses ? _buffer.NativePtr + padding : memory._nextAddress;
            memory._nextAddress += (sizeInBytes + (2 * Alignment) - 1) / Alignment * Alignment;
            Address = (nint)Start;
            SetHandle(Address);
            memory._buffers.Add(Start, this);
            Interlocked.Add(ref memory._live.Bytes, sizeInBytes);
        }

        public long Start { get; }

        public long SizeInBytes { get; }

        public ArrayView<byte> All { get; }

        protected override bool ReleaseHandle()
        {
            lock (_memory.Gate)
            {
                _memory._buffers.Remove(Start);
                _buffer.Dispose();
            }

            Interlocked.Add(ref _memory._live.Bytes, -SizeInBytes);
            return true;
        }
    }

    private sealed class HostBuffer : BufferHandle
    {
        private readonly Counter _live;
        private readonly long _sizeInBytes;

        public HostBuffer(long sizeInBytes, Counter live)
        {
            (_live, _sizeInBytes) = (live, sizeInBytes);
            Address = (nint)NativeMemory.AlignedAlloc((nuint)sizeInBytes, (nuint)Alignment);
            SetHandle(Address);
            Interlocked.Add(ref live.Bytes, sizeInBytes);
        }

        protected override bool ReleaseHandle()
        {
            NativeMemory.AlignedFree((void*)handle);
            Interlocked.Add(ref _live.Bytes, -_sizeInBytes);
            return true;
        }
    }

    private Accelerator Accelerator => accelerator;
}
