using System.Diagnostics;

namespace Octet.Cli.Bench;

/// <summary>Times work on a stream: by its events where the device runs apart from the host, else by the clock.</summary>
internal sealed class BenchClock(Device device) : IDisposable
{
    private readonly DeviceEvent _start = device.CreateEvent();
    private readonly DeviceEvent _finish = device.CreateEvent();

    /// <summary>Microseconds of one call.</summary>
    public double Time(Action work)
    {
        if (device.Name.StartsWith("cpu", StringComparison.Ordinal))
        {
            var begin = Stopwatch.GetTimestamp();
            work();
            return Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        }

        _start.Record(device.Stream);
        work();
        _finish.Record(device.Stream);
        device.Stream.Synchronize();
        return 1000.0 * _finish.ElapsedSince(_start);
    }

    public void Dispose()
    {
        _start.Dispose();
        _finish.Dispose();
    }

    /// <summary>The middle one.</summary>
    public static double Median(IEnumerable<double> samples) => Quantile(samples, 0.5);

    /// <summary>The sample below which a share of them lies.</summary>
    public static double Quantile(IEnumerable<double> samples, double share)
    {
        double[] sorted = [.. samples.Order()];
        return sorted.Length == 0 ? 0 : sorted[(int)(share * (sorted.Length - 1))];
    }
}
