using System.Reflection;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Algorithms;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using Octet.Backends;

namespace Octet.Ilgpu;

/// <summary>What ILGPU sees of this machine's accelerators, and why some of it cannot be used.</summary>
internal static class IlgpuDevices
{
    /// <summary>ILGPU's kinds of GPU, by the name they have here.</summary>
    public static IReadOnlyList<IlgpuKind> Gpus { get; } =
    [
        new(
            "cuda", "NVIDIA GPUs through ILGPU", "cuda", "libcuda.so.1", AcceleratorType.Cuda,
            "install the NVIDIA driver on a machine with one of its GPUs", builder => builder.Cuda(_ => true)),
        new(
            "opencl", "OpenCL devices through ILGPU", "OpenCL", "libOpenCL.so.1", AcceleratorType.OpenCL,
            "install an OpenCL loader (Debian: ocl-icd-libopencl1) and a driver with the generic address space", builder => builder.OpenCL(_ => true)),
    ];

    static IlgpuDevices()
    {
        try
        {
            NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, Resolve);
        }
        catch (InvalidOperationException)
        {
            // The application has a resolver of its own for ILGPU: it knows better.
        }
    }

    /// <summary>A context of its own, which the caller disposes.</summary>
    public static Context CreateContext(Func<Context.Builder, Context.Builder> devices) =>
        Context.Create(builder => devices(builder.EnableAlgorithms().Profiling()));

    /// <summary>ILGPU's CPU accelerator: groups of up to so many threads, one multiprocessor for each core unless told.</summary>
    public static Context CreateCpuContext(int groupThreads = 2, int multiprocessors = 0) =>
        CreateContext(builder => builder.CPU(
            new CPUDevice(2, groupThreads / 2, multiprocessors > 0 ? multiprocessors : Environment.ProcessorCount)));

    /// <summary>What a device is.</summary>
    public static DeviceProperties Describe(string name, ILGPU.Runtime.Device device) => new()
    {
        Name = name,
        Description = device is CPUDevice ? "ILGPU's CPU accelerator" : device.Name,
        Target = device switch
        {
            CudaDevice { Architecture: { } architecture } => $"sm_{architecture.Major}{architecture.Minor}",
            CLDevice opencl => opencl.DeviceType.HasFlag(CLDeviceType.CL_DEVICE_TYPE_GPU) ? "opencl-gpu" : "opencl-other",
            _ => "cpu",
        },
        ComputeUnits = device.NumMultiprocessors,
        WaveSize = device.WarpSize,
        SharedMemory = device is CPUDevice ? 0 : device.MaxSharedMemoryPerGroup,
        TotalMemory = device is CPUDevice ? GC.GetGCMemoryInfo().TotalAvailableMemoryBytes : device.MemorySize,
        UsesHostMemory = device is CPUDevice,
        Float8 = DType.Float8E4M3,
        SupportsGraphs = false,
    };

    /// <summary>Why ILGPU cannot compile for a device that is there; null if it can.</summary>
    public static string? Obstacle(ILGPU.Runtime.Device device) => device switch
    {
        CLDevice opencl => Obstacle(
            opencl.Capabilities.GenericAddressSpace, HasCollectives(opencl), opencl.MaxNumThreadsPerGroup, opencl.MaxSharedMemoryPerGroup),
        CudaDevice { Architecture: null } or CudaDevice { InstructionSet: null } => "ILGPU 1.5.3 knows no instruction set for this GPU",
        _ => null,
    };

    /// <summary>Why kernels cannot run on an OpenCL device; null if they can.</summary>
    public static string? Obstacle(bool hasGenericAddressSpace, bool hasCollectives, int maxGroupThreads, int sharedMemoryInBytes) =>
        !hasGenericAddressSpace ? "its driver lacks OpenCL's generic address space, which ILGPU's kernels need"
        : !hasCollectives ? "its driver lacks OpenCL's work-group collective functions, which ILGPU's sort needs"
        : maxGroupThreads < IlgpuShape.MaxThreads ? $"groups of at most {maxGroupThreads} threads, {IlgpuShape.MaxThreads} are needed"
        : sharedMemoryInBytes < 32 * 1024 ? $"{sharedMemoryInBytes} bytes of local memory, 32768 are needed"
        : null;

    /// <summary>The message nearest to the cause, on one line.</summary>
    public static string Reason(Exception error)
    {
        while (error is TargetInvocationException or TypeInitializationException or AggregateException && error.InnerException is { } inner)
        {
            error = inner;
        }

        var cause = error.InnerException is { } nearer && !error.Message.Contains(nearer.Message, StringComparison.Ordinal)
            ? $" ({Reason(nearer)})" : "";
        return error.Message.ReplaceLineEndings(" ").TrimEnd() + cause;
    }

    // Optional since OpenCL 3.0, with a query (CL_DEVICE_WORK_GROUP_COLLECTIVE_FUNCTIONS_SUPPORT) that 2.x, where they are a must, does not know.
    private static bool HasCollectives(CLDevice device) =>
        device.GetDeviceInfo((CLDeviceInfoType)0x1068, out int isSupported) != CLError.CL_SUCCESS || isSupported != 0;

    // Debian ships the OpenCL loader under its versioned name only; .NET looks for ILGPU's "OpenCL" as libOpenCL.so.
    private static nint Resolve(string library, Assembly assembly, DllImportSearchPath? path)
    {
        foreach (var kind in Gpus)
        {
            if (library == kind.Import && NativeLibrary.TryLoad(kind.Library, out var handle))
            {
                return handle;
            }
        }

        return 0;
    }
}

/// <summary>One kind of GPU.</summary>
/// <param name="Name">The part of a device's name behind "ilgpu:".</param>
/// <param name="Title">What it is, where there is none to describe.</param>
/// <param name="Import">The driver's library as ILGPU names it.</param>
/// <param name="Library">The driver's library as Linux names it.</param>
/// <param name="Type">ILGPU's word for it.</param>
/// <param name="Remedy">What brings one.</param>
/// <param name="Add">Adds all devices of the kind to a context.</param>
internal sealed record IlgpuKind(string Name, string Title, string Import, string Library, AcceleratorType Type, string Remedy, Func<Context.Builder, Context.Builder> Add);
