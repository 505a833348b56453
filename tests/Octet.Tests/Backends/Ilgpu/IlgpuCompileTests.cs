using System.Globalization;
using System.Reflection;
using System.Text.RegularExpressions;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.OpenCL;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using Octet.Ilgpu;

namespace Octet.Tests.Backends.Ilgpu;

/// <summary>What GPUs are given, made without one: ILGPU's PTX and OpenCL C of every kernel. Whether it runs, only a GPU says.</summary>
public sealed partial class IlgpuCompileTests
{
    private const int SharedMemoryInBytes = 32 * 1024; // the least an OpenCL device is taken with

    [Fact]
    public void Every_kernel_compiles_to_ptx()
    {
        using var context = IlgpuDevices.CreateCpuContext();
        using var backend = new PTXBackend(context, CudaArchitecture.SM_60, CudaInstructionSet.ISA_60, null!);
        var largest = 0;
        foreach (var (name, kernel) in Kernels())
        {
            var ptx = ((PTXCompiledKernel)backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(kernel), default)).PTXAssembly;
            Assert.Contains(".target sm_60", ptx, StringComparison.Ordinal);
            Assert.False(ptx.Contains(".f64", StringComparison.Ordinal), $"{name}: doubles are slow where they exist at all");
            var shared = SharedArray().Matches(ptx).Sum(m => int.Parse(m.Groups[1].Value, CultureInfo.InvariantCulture));
            Assert.True(shared <= SharedMemoryInBytes, $"{name}: {shared} bytes of shared memory");
            largest = Math.Max(largest, shared);
        }

        Assert.True(largest > SharedMemoryInBytes / 2, $"{largest} bytes at most: tiles need more");
    }

    [Fact]
    public void Every_kernel_compiles_to_opencl()
    {
        using var context = IlgpuDevices.CreateCpuContext();
        var capabilities = new CLCapabilityContext(false, false, true, false, false); // the generic address space alone: no doubles, no 64-bit atomics
        using var backend = new CLBackend(context, capabilities, CLDeviceVendor.Other, new CLCVersion(2, 0));
        foreach (var (name, kernel) in Kernels())
        {
            var source = ((CLCompiledKernel)backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(kernel), default)).Source;
            Assert.Contains("kernel void", source, StringComparison.Ordinal);
        }
    }

    // The kernels as GPUs get them, tiled.
    private static List<(string Name, MethodInfo Kernel)> Kernels()
    {
        List<(string, MethodInfo)> kernels = [];
        var context = IlgpuDevices.CreateCpuContext(SharedTile.Threads, multiprocessors: 1);
        using var backend = new IlgpuBackend("ilgpu:cpu", context, context.Devices[0], IlgpuShape.Gpu, compiler => kernels.AddRange(compiler.Compiled));
        Assert.True(kernels.Count > 20);
        return kernels;
    }

    [GeneratedRegex(@"\.shared [^\[\n]*\[(\d+)\]")]
    private static partial Regex SharedArray();
}
