using Octet.Backends;
using Octet.Cases;
using Octet.Cli.Bench;

namespace Octet.Benchmarks;

/// <summary>What BenchmarkDotNet's clock does not see: device time from events, and what each device can do at most.</summary>
internal static class DeviceTimes
{
    private const int Runs = 20;
    private const double CacheBytes = 64 << 20;

    private static readonly Dictionary<(string Device, string Case), double> s_microseconds = [];
    private static readonly Dictionary<string, BenchCeilings> s_ceilings = [];

    /// <summary>Measures the device's ceilings once, and on a GPU the case by events.</summary>
    public static void Measure(string name, Case test, Device device, Action launch)
    {
        using var clock = new BenchClock(device);
        if (!s_ceilings.ContainsKey(name))
        {
            using var probe = new BenchProbe(device, clock, CacheBytes);
            for (var i = 0; i < Runs; i++)
            {
                probe.Floor(1, CacheBytes);
            }

            s_ceilings[name] = probe.Ceilings;
        }

        if (device.Backend is not CpuBackend)
        {
            s_microseconds[(name, test.ToString())] = BenchClock.Median(Enumerable.Range(0, Runs).Select(_ => clock.Time(launch)));
        }
    }

    /// <summary>Null on a processor, whose ops run on the caller's clock.</summary>
    public static double? Microseconds(OpCase of) =>
        s_microseconds.TryGetValue((of.Device, of.Case.ToString()), out var time) ? time : null;

    /// <summary>Null before the device was measured.</summary>
    public static BenchCeilings? Ceilings(string device) => s_ceilings.GetValueOrDefault(device);
}
