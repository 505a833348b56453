using ILGPU.Runtime;
using Octet.Backends;
using Octet.Ilgpu;

namespace Octet.Tests.Backends.Ilgpu;

/// <summary>The list of devices, whatever drivers are missing or broken.</summary>
public sealed class IlgpuDevicesTests
{
    [Fact]
    public void Every_kind_is_listed_and_what_is_of_no_use_says_why()
    {
        var probes = new IlgpuProvider().Probe();
        foreach (var kind in (string[])["ilgpu:cuda", "ilgpu:opencl", "ilgpu:cpu"])
        {
            Assert.Contains(probes, p => p.Name.StartsWith(kind, StringComparison.Ordinal));
        }

        Assert.All(probes, p => Assert.True(p.IsUsable ? p is { Reason: null, Properties: not null } : p is { Reason.Length: > 0, Remedy.Length: > 0 }));
        Assert.True(probes.Single(p => p.Name == "ilgpu:cpu").IsUsable);
    }

    [Theory]
    [InlineData("libnothing-of-the-kind.so.1", false, "libnothing-of-the-kind.so.1 was not found")]
    [InlineData("libc.so.6", true, "broken at the root")]
    [InlineData("libc.so.6", false, "libc.so.6 is there but lists no device")]
    public void A_missing_a_broken_and_an_empty_driver_are_absent_with_the_reason(string library, bool isBroken, string reason)
    {
        var kind = new IlgpuKind("odd", "odd devices", "odd", library, AcceleratorType.OpenCL, "replace it", builder => isBroken
            ? throw new TypeInitializationException("Driver", new DllNotFoundException("broken\nat the root")) : builder);
        var probe = Assert.Single(IlgpuProvider.Probe(kind));
        Assert.False(probe.Present);
        Assert.Equal(("ilgpu:odd", "odd devices", reason, "replace it"), (probe.Name, probe.Description, probe.Reason, probe.Remedy));
    }

    [Fact]
    public void A_library_that_is_no_library_is_not_said_to_be_missing()
    {
        var folder = Directory.CreateTempSubdirectory("octet-");
        var library = Path.Combine(folder.FullName, "libodd.so.1");
        File.WriteAllText(library, "");
        var probe = Assert.Single(IlgpuProvider.Probe(new IlgpuKind("odd", "odd devices", "odd", library, AcceleratorType.OpenCL, "replace it", builder => builder)));
        Assert.StartsWith($"{library} cannot be loaded: ", probe.Reason, StringComparison.Ordinal);
        folder.Delete(recursive: true);
    }

    [Theory]
    [InlineData(true, true, 256, 65_536, null)]
    [InlineData(false, false, 4096, 1 << 20, "generic address space")] // PoCL 3.1
    [InlineData(true, false, 256, 65_536, "collective functions")]
    [InlineData(true, true, 64, 65_536, "at most 64 threads")]
    [InlineData(true, true, 256, 16_384, "16384 bytes of local memory")]
    public void An_opencl_device_without_what_kernels_need_has_an_obstacle(
        bool generic, bool collectives, int threads, int sharedMemory, string? expected)
    {
        var obstacle = IlgpuDevices.Obstacle(generic, collectives, threads, sharedMemory);
        if (expected is null)
        {
            Assert.Null(obstacle);
        }
        else
        {
            Assert.Contains(expected, obstacle, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("sm_75", null, true)]
    [InlineData("opencl-gpu", null, true)]
    [InlineData("opencl-gpu", "a driver of no use", false)]
    [InlineData("opencl-other", null, false)]
    [InlineData("cpu", null, false)]
    public void Only_a_usable_gpu_is_taken_unasked(string target, string? reason, bool expected)
    {
        var properties = new DeviceProperties
        {
            Name = "ilgpu:x",
            Description = "x",
            Target = target,
            ComputeUnits = 1,
            WaveSize = 32,
            SharedMemory = 0,
            TotalMemory = 1,
            Float8 = DType.Float8E4M3,
            SupportsGraphs = false,
        };
        Assert.Equal(expected, new IlgpuProvider().IsDefaultCandidate(new DeviceProbe("ilgpu:x", true, "x", reason, null, properties)));
    }

    [Fact]
    public void Ilgpu_is_asked_behind_hip_and_cuda_and_before_the_processor() => Assert.Equal(2, new IlgpuProvider().Preference);
}
