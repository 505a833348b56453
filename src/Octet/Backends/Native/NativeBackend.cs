using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>Devices behind <c>liboctet</c>: HIP, CUDA and the simulator are one backend with three drivers.</summary>
internal sealed partial class NativeBackend : Backend
{
    /// <summary>The name in LibraryImport.</summary>
    public const string Library = "octet";

    private readonly NativeDeviceHandle _device;

    public NativeBackend(string name)
    {
        Check(octet_device_open(name, out var device));
        _device = new NativeDeviceHandle(device);
        var native = QueryProperties();
        Properties = Describe(name, in native);
    }

    public override DeviceProperties Properties { get; }

    public override long LiveBytes => QueryProperties().LiveBytes;

    public override long FreeMemory
    {
        get
        {
            if (Properties.UsesHostMemory)
            {
                // The simulator has so many addresses, and pages of the host behind them.
                return Math.Clamp(Properties.TotalMemory - LiveBytes, 0, base.FreeMemory);
            }

            Check(octet_device_free_memory(_device, out var bytes));
            return bytes;
        }
    }

    public override BufferHandle Allocate(long sizeInBytes, MemoryKind kind)
    {
        Check(octet_buffer_create(_device, sizeInBytes, kind, out var buffer));
        return new NativeBufferHandle(buffer, _device);
    }

    public override SafeHandle CreateStream(nint? native)
    {
        nint stream;
        Check(native is { } borrowed
            ? octet_stream_borrow(_device, borrowed, out stream)
            : octet_stream_create(_device, out stream));
        return new NativeChildHandle(stream, _device, octet_stream_destroy);
    }

    public override void Synchronize(DeviceStream stream) => Check(octet_stream_synchronize(stream.Handle));

    public override void Wait(DeviceStream stream, DeviceEvent deviceEvent) =>
        Check(octet_stream_wait(stream.Handle, deviceEvent.Handle));

    public override void Copy(DeviceStream stream, nint destination, nint source, long sizeInBytes, CopyKind kind) =>
        Check(octet_copy(stream.Handle, destination, source, sizeInBytes, kind));

    public override void Fill(DeviceStream stream, nint destination, byte value, long sizeInBytes) =>
        Check(octet_fill(stream.Handle, destination, value, sizeInBytes));

    public override SafeHandle CreateEvent()
    {
        Check(octet_event_create(_device, out var handle));
        return new NativeChildHandle(handle, _device, octet_event_destroy);
    }

    public override void Record(DeviceEvent deviceEvent, DeviceStream stream) =>
        Check(octet_event_record(deviceEvent.Handle, stream.Handle));

    public override void Synchronize(DeviceEvent deviceEvent) => Check(octet_event_synchronize(deviceEvent.Handle));

    public override float Elapsed(DeviceEvent start, DeviceEvent finish)
    {
        Check(octet_event_elapsed(start.Handle, finish.Handle, out var milliseconds));
        return milliseconds;
    }

    public override void BeginCapture(DeviceStream stream) => Check(octet_graph_begin(stream.Handle));

    public override SafeHandle EndCapture(DeviceStream stream)
    {
        Check(octet_graph_end(stream.Handle, out var graph));
        return new NativeChildHandle(graph, _device, octet_graph_destroy);
    }

    public override void Launch(DeviceGraph graph, DeviceStream stream) =>
        Check(octet_graph_launch(graph.Handle, stream.Handle));

    protected override void Dispose(bool disposing) => _device.Dispose();

    /// <summary>Throws what the library said about the last call on this thread.</summary>
    internal static void Check(OctetStatus status)
    {
        if (status != OctetStatus.Ok)
        {
            throw new OctetException(status, LastError());
        }
    }

    /// <summary>Devices the driver sees, or why it has none.</summary>
    internal static bool TryProbe(string driver, out int count, out string reason)
    {
        var status = octet_probe(driver, out count);
        reason = status == OctetStatus.Ok ? "" : LastError();
        return status == OctetStatus.Ok;
    }

    /// <summary>Compiler, targets and commit of the library.</summary>
    internal static string BuildInfo() => Marshal.PtrToStringUTF8(octet_build_info()) ?? "";

    /// <summary>What a call through the ABI costs: checks the stream and returns.</summary>
    internal static void Noop(DeviceStream stream) => Check(octet_noop(stream.Handle));

    /// <summary>What the simulator counted for each kernel since the device was opened or last reset.</summary>
    /// <exception cref="OctetException">A real device counts nothing.</exception>
    internal NativeKernelCounters[] SimCounters()
    {
        var count = 0;
        Check(octet_sim_counters(_device, null, ref count));
        var counters = new NativeKernelCounters[count];
        Check(octet_sim_counters(_device, counters, ref count));
        return counters;
    }

    /// <summary>Sets the simulator's counters to zero.</summary>
    internal void ResetSimCounters() => Check(octet_sim_reset_counters(_device));

    /// <summary>The device code in the library for one target, by kernel family; copies.</summary>
    internal static unsafe List<(string Family, byte[] Code)> Images(string target)
    {
        var images = new List<(string, byte[])>();
        for (var i = 0; i < octet_image_count(); i++)
        {
            Check(octet_image(i, out var family, out var imageTarget, out var data, out var size));
            if (Marshal.PtrToStringUTF8(imageTarget) == target)
            {
                images.Add((Marshal.PtrToStringUTF8(family)!, new ReadOnlySpan<byte>((void*)data, checked((int)size)).ToArray()));
            }
        }

        return images;
    }

    /// <summary>What the ops on this planned device launched since the last call.</summary>
    /// <exception cref="OctetException">Not a planned device.</exception>
    internal NativePlannedLaunch[] TakePlannedLaunches()
    {
        var count = 0;
        Check(octet_plan_launches(_device, null, ref count));
        var launches = new NativePlannedLaunch[count];
        Check(octet_plan_launches(_device, launches, ref count));
        return launches;
    }

    private static string LastError() => Marshal.PtrToStringUTF8(octet_last_error()) ?? "";

    private unsafe NativeDeviceProperties QueryProperties()
    {
        var native = new NativeDeviceProperties { StructSize = (nuint)sizeof(NativeDeviceProperties) };
        Check(octet_device_get_properties(_device, ref native));
        return native;
    }

    private static unsafe DeviceProperties Describe(string name, in NativeDeviceProperties native)
    {
        fixed (byte* product = native.Name, target = native.Target)
        {
            var targetName = Marshal.PtrToStringUTF8((nint)target)!;
            return new DeviceProperties
            {
                Name = name == "sim" ? $"sim:{targetName}" : name,
                Description = Marshal.PtrToStringUTF8((nint)product)!,
                Target = targetName,
                ComputeUnits = native.ComputeUnits,
                WaveSize = native.WaveSize,
                SharedMemory = native.SharedMemory,
                TotalMemory = native.TotalMemory,
                UsesHostMemory = name.Split(':')[0] == "sim",
                Float8 = native.Fp8,
                SupportsGraphs = HipGraphs.Obstacle(name, native.RuntimeVersion) is null,
                GraphsReason = HipGraphs.Obstacle(name, native.RuntimeVersion),
            };
        }
    }

    private static NativeWeight Pack(Weight weight) => new()
    {
        Data = weight.Values.Address,
        Scales = weight.Scales.Address,
        N = weight.N,
        K = weight.K,
        RowStride = weight.Values.Strides[^2],
        ExpertStride = weight.Values.Rank == 3 ? weight.Values.Strides[0] : 0,
        ScaleRowStride = weight.Scales.IsNull ? 0 : weight.Scales.Strides[^2],
        ScaleExpertStride = weight.Scales.Rank == 3 ? weight.Scales.Strides[0] : 0,
        Experts = (int)weight.Experts,
        ScaleRowOffset = weight.ScaleRowOffset,
        ScaleColumnOffset = weight.ScaleColumnOffset,
        Dtype = weight.Values.DType,
        Layout = weight.Layout,
    };

    private static NativeKvCache Pack(KvCache cache) => new()
    {
        K = cache.K.Address,
        V = cache.V.Address,
        KScales = cache.KScales.Address,
        VScales = cache.VScales.Address,
        Blocks = cache.Blocks,
        KvHeads = cache.KvHeads,
        BlockSize = cache.BlockSize,
        HeadDim = cache.HeadDim,
        ScaleCount = (int)cache.KScales.ElementCount,
        Dtype = cache.K.DType,
    };

    [LibraryImport(Library)]
    private static partial nint octet_build_info();

    [LibraryImport(Library)]
    private static partial nint octet_last_error();

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    private static partial OctetStatus octet_probe(string driver, out int count);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    private static partial OctetStatus octet_device_open(string name, out nint device);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_device_close(nint device);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_device_get_properties(SafeHandle device, ref NativeDeviceProperties properties);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_device_free_memory(SafeHandle device, out long bytes);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_buffer_create(SafeHandle device, long size, MemoryKind kind, out nint buffer);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_buffer_destroy(nint buffer);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_buffer_pointer(nint buffer, out nint pointer);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_copy(SafeHandle stream, nint destination, nint source, long size, CopyKind kind);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_fill(SafeHandle stream, nint destination, int value, long size);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_stream_create(SafeHandle device, out nint stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_stream_borrow(SafeHandle device, nint native, out nint stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_stream_destroy(nint stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_stream_synchronize(SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_stream_wait(SafeHandle stream, SafeHandle deviceEvent);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_event_create(SafeHandle device, out nint deviceEvent);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_event_destroy(nint deviceEvent);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_event_record(SafeHandle deviceEvent, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_event_synchronize(SafeHandle deviceEvent);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_event_elapsed(SafeHandle start, SafeHandle finish, out float milliseconds);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_graph_begin(SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_graph_end(SafeHandle stream, out nint graph);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_graph_launch(SafeHandle graph, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_graph_destroy(nint graph);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_noop(SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_sim_counters(SafeHandle device, [In, Out] NativeKernelCounters[]? entries, ref int count);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_sim_reset_counters(SafeHandle device);

    [LibraryImport(Library)]
    private static partial int octet_image_count();

    [LibraryImport(Library)]
    private static partial OctetStatus octet_image(int index, out nint family, out nint target, out nint data, out long size);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_plan_launches(SafeHandle device, [In, Out] NativePlannedLaunch[]? entries, ref int count);

    /// <summary>Closes the device when the last of its buffers, streams, events and graphs is gone.</summary>
    private sealed class NativeDeviceHandle : SafeHandle
    {
        public NativeDeviceHandle(nint device)
            : base(0, ownsHandle: true) => SetHandle(device);

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle() => octet_device_close(handle) == OctetStatus.Ok;
    }

    /// <summary>A stream, event or graph; it keeps its device open.</summary>
    private sealed class NativeChildHandle : SafeHandle
    {
        private readonly SafeHandle _device;
        private readonly Func<nint, OctetStatus> _destroy;

        public NativeChildHandle(nint child, SafeHandle device, Func<nint, OctetStatus> destroy)
            : base(0, ownsHandle: true)
        {
            var added = false;
            device.DangerousAddRef(ref added);
            _device = device;
            _destroy = destroy;
            SetHandle(child);
        }

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle()
        {
            var status = _destroy(handle);
            _device.DangerousRelease();
            return status == OctetStatus.Ok;
        }
    }

    private sealed class NativeBufferHandle : BufferHandle
    {
        private readonly SafeHandle _device;

        public NativeBufferHandle(nint buffer, SafeHandle device)
        {
            var added = false;
            device.DangerousAddRef(ref added);
            _device = device;
            SetHandle(buffer);
            Check(octet_buffer_pointer(buffer, out var address));
            Address = address;
        }

        protected override bool ReleaseHandle()
        {
            var status = octet_buffer_destroy(handle);
            _device.DangerousRelease();
            return status == OctetStatus.Ok;
        }
    }
}

/// <summary><c>octet_device_properties</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeDeviceProperties
{
    public nuint StructSize;
    public fixed byte Name[128];
    public fixed byte Target[32];
    public long TotalMemory;
    public long LiveBytes;
    public int ComputeUnits;
    public int WaveSize;
    public int SharedMemory;
    public DType Fp8;
    public int RuntimeVersion;
}

/// <summary><c>octet_kernel_counters</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeKernelCounters
{
    public fixed byte Kernel[64];
    public long Launches;
    public long Blocks;
    public long GlobalReadBytes;
    public long GlobalWriteBytes;
    public long GlobalTransactions;
    public long LdsAccesses;
    public long LdsBankConflicts;
    public long Mfma;
    public long Barriers;

    /// <summary>The kernel's name.</summary>
    public readonly string KernelName
    {
        get
        {
            fixed (byte* name = Kernel)
            {
                return Marshal.PtrToStringUTF8((nint)name)!;
            }
        }
    }
}

/// <summary><c>octet_planned_launch</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativePlannedLaunch
{
    public fixed byte Kernel[64];
    public long Blocks;
    public long LdsBytes;
    public int Threads;
    public int Reserved;

    /// <summary>The kernel's name.</summary>
    public readonly string KernelName
    {
        get
        {
            fixed (byte* name = Kernel)
            {
                return Marshal.PtrToStringUTF8((nint)name)!;
            }
        }
    }
}
