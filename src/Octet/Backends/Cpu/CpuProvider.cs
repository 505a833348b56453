using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>The processor as a device: "cpu" computes in OCP FP8, "cpu:fnuz" in FNUZ (to compare with gfx942).</summary>
internal sealed class CpuProvider : BackendProvider
{
    public override string Prefix => "cpu";

    public override int Preference => 3;

    public override IReadOnlyList<DeviceProbe> Probe() => [ProbeOne("cpu", DType.Float8E4M3), ProbeOne("cpu:fnuz", DType.Float8E4M3Fnuz)];

    public override bool IsDefaultCandidate(DeviceProbe probe) => probe.Name == "cpu";

    public override Backend Open(string name) => Open(name, sharers: 1);

    public override Backend Open(string name, int sharers) => new CpuBackend(
        Describe(
            name,
            name switch
            {
                "cpu" => DType.Float8E4M3,
                "cpu:fnuz" => DType.Float8E4M3Fnuz,
                _ => throw new ArgumentException($"unknown device '{name}': the processor is 'cpu' (OCP FP8) or 'cpu:fnuz'"),
            }),
        new CpuThreads(Math.Max(CpuThreads.DefaultCount() / sharers, 1), CpuKernels.Create()));

    /// <summary>What the processor is, as a device that computes in one FP8 encoding.</summary>
    internal static DeviceProperties Describe(string name, DType float8) => new()
    {
        Name = name,
        Description = ProcessorName(),
        Target = RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(),
        ComputeUnits = Environment.ProcessorCount,
        WaveSize = 1,
        SharedMemory = 0,
        TotalMemory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
        SharesHostMemory = true,
        UsesHostMemory = true,
        Float8 = float8,
        SupportsGraphs = false,
    };

    private static DeviceProbe ProbeOne(string name, DType float8)
    {
        var properties = Describe(name, float8);
        return new DeviceProbe(name, true, properties.Description, null, null, properties);
    }

    internal static string ProcessorName()
    {
        try
        {
            var line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
            if (line?.Split(':', 2) is [_, var model])
            {
                return model.Trim();
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Not Linux, or /proc is closed: the architecture says what is left to say.
        }

        return $"{RuntimeInformation.ProcessArchitecture} processor";
    }
}
