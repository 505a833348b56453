using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace Octet.Backends;

/// <summary>The devices of one driver of <c>liboctet</c>: "hip", "cuda", "sim" or "plan".</summary>
internal sealed class NativeProvider(string driver, int preference) : BackendProvider
{
    private static readonly string[] SimTargets = ["sim:gfx942", "sim:gfx950", "sim:sm_90"];
    private static readonly string[] PlanTargets = ["plan:gfx942", "plan:gfx950"];

    static NativeProvider() =>
        NativeLibrary.SetDllImportResolver(typeof(NativeProvider).Assembly, NativeLibraryLoader.Resolve);

    public override string Prefix => driver;

    public override int Preference => preference;

    // The simulator checks kernels; nobody gets it without asking.
    public override bool IsDefaultCandidate(DeviceProbe probe) => probe.IsUsable && driver != "sim";

    public override IReadOnlyList<DeviceProbe> Probe()
    {
        // A planned device computes nothing: it is opened by name, and none is found by looking.
        if (driver == "plan")
        {
            return [];
        }

        if (!NativeLibraryLoader.TryLoad(out var failure))
        {
            return [Absent(driver, failure, NativeLibraryLoader.Remedy)];
        }

        if (!NativeBackend.TryProbe(driver, out var count, out var reason))
        {
            return [Absent(driver, reason, RuntimeRemedy)];
        }

        if (count == 0)
        {
            return [Absent(driver, "the runtime is there but sees no device", RuntimeRemedy)];
        }

        var names = driver == "sim" ? SimTargets : Enumerable.Range(0, count).Select(i => $"{driver}:{i}");
        return [.. names.Select(ProbeDevice)];
    }

    public override Backend Open(string name)
    {
        var targets = driver switch { "sim" => SimTargets, "plan" => PlanTargets, _ => null };
        var known = targets is null ? IsOrdinal(name) : name == "sim" || targets.Contains(name);
        if (!known)
        {
            throw new ArgumentException(
                $"unknown device '{name}': known are {(targets is null ? $"{driver}:0, {driver}:1, ..." : string.Join(", ", targets))}");
        }

        if (!NativeLibraryLoader.TryLoad(out var failure))
        {
            throw new OctetException(OctetStatus.NoDevice, $"device '{name}': {failure}; {NativeLibraryLoader.Remedy}");
        }

        try
        {
            return new NativeBackend(name == driver && targets is null ? $"{driver}:0" : name);
        }
        catch (OctetException error) when (error.Status == OctetStatus.NoDevice)
        {
            throw new OctetException(OctetStatus.NoDevice, $"device '{name}': {error.Message}; {RuntimeRemedy}", error);
        }
    }

    private string RuntimeRemedy => driver switch
    {
        "hip" => "install ROCm 6 or 7 with a gfx942 or gfx950 GPU and make libamdhip64.so findable (LD_LIBRARY_PATH=/opt/rocm/lib)",
        "cuda" => "install the NVIDIA driver (libcuda.so.1) on a machine with a GPU of compute capability 9.0",
        _ => "build liboctet with its simulator",
    };

    private string Title => driver switch
    {
        "hip" => "AMD GPUs through HIP",
        "cuda" => "NVIDIA GPUs through CUDA",
        _ => "the simulator",
    };

    private bool IsOrdinal(string name) =>
        name == driver || (name.StartsWith(driver + ":", StringComparison.Ordinal) && int.TryParse(name.AsSpan(driver.Length + 1), out var i) && i >= 0);

    private DeviceProbe ProbeDevice(string name)
    {
        try
        {
            using var backend = new NativeBackend(name);
            return new DeviceProbe(name, true, backend.Properties.Description, null, null, backend.Properties);
        }
        catch (OctetException error)
        {
            // The runtime counts it, so it is there.
            return new DeviceProbe(name, true, Title, error.Message, RuntimeRemedy, null);
        }
    }

    private DeviceProbe Absent(string name, string reason, string remedy) => new(name, false, Title, reason, remedy, null);
}
