using Octet.Backends;

namespace Octet.Tests.Backends.Cpu;

/// <summary>CPU devices of a chosen vector width and number of threads: "cpu-test:256:3", or "cpu-test:256:3:fnuz".</summary>
internal sealed class CpuDevices : BackendProvider
{
    public override string Prefix => "cpu-test";

    public override int Preference => int.MaxValue;

    public static Device Open(int bits, int threads, bool fnuz = false)
    {
        Device.Register(new CpuDevices());
        return Device.Open($"cpu-test:{bits}:{threads}{(fnuz ? ":fnuz" : "")}");
    }

    public override IReadOnlyList<DeviceProbe> Probe() => [];

    public override Backend Open(string name)
    {
        var parts = name.Split(':');
        return new CpuBackend(
            CpuProvider.Describe(name, parts.Length > 3 ? DType.Float8E4M3Fnuz : DType.Float8E4M3),
            new CpuThreads(int.Parse(parts[2]), CpuKernels.Create(int.Parse(parts[1]))));
    }
}
