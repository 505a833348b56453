using Octet.Backends;
using Octet.Cases;

namespace Octet.Benchmarks;

/// <summary>A parity case on a device.</summary>
/// <param name="Device">The device's name.</param>
/// <param name="Case">The case.</param>
internal sealed record OpCase(string Device, Case Case)
{
    /// <summary>The model's shapes of every op on every device that runs on hardware; the simulator counts, it does not time.</summary>
    public static IEnumerable<OpCase> All =>
        from probe in Octet.Device.Probe()
        where probe.Present && probe.Properties is not null && IsHardware(probe.Name)
        from test in CaseList.All
        where test.Tier == CaseTier.Ci && (test.Name.StartsWith("model", StringComparison.Ordinal) || IsOnlyCase(test))
        select new OpCase(probe.Name, test);

    /// <summary>As the benchmark's parameter.</summary>
    public override string ToString() => $"{Device} {Case}";

    private static bool IsHardware(string name) =>
        name is not "cpu:fnuz" && !name.StartsWith("sim", StringComparison.Ordinal) && name != "ilgpu:cpu";

    // An op without a shape of the model's is timed on its first regular one.
    private static bool IsOnlyCase(Case test) =>
        !CaseList.All.Any(c => c.Op == test.Op && c.Tier == CaseTier.Ci && c.Name.StartsWith("model", StringComparison.Ordinal))
        && test == CaseList.All.First(c => c.Op == test.Op);
}
