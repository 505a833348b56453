using System.Diagnostics;
using Octet.Backends;
using Octet.Cases;

namespace Octet.Cli.Bench;

/// <summary>Runs workloads: warm-up, then samples in turn with the ceilings, until the time for one workload is up.</summary>
internal sealed class BenchRunner(Device device, double seconds, CancellationToken cancellation) : IDisposable
{
    private const int FewestSamples = 5;
    private const int MostSamples = 400;
    private const double GpuCacheBytes = 256e6;

    // A sample is long enough that reading the clock and waking the threads is not what is measured.
    private const double SampleMicroseconds = 200;

    private readonly double _cacheBytes = device.Backend is CpuBackend ? LastLevelCache() : GpuCacheBytes;
    private readonly BenchClock _clock = new(device);
    private BenchProbe? _probe;

    /// <summary>The medians over all samples so far.</summary>
    public BenchCeilings Ceilings => Probe.Ceilings;

    private BenchProbe Probe => _probe ??= new BenchProbe(device, _clock, _cacheBytes);

    /// <summary>Times one workload.</summary>
    public BenchResult Run(Workload workload)
    {
        using var context = new WorkloadContext(device, _cacheBytes);
        var launch = workload.Prepare(context);
        device.Stream.Synchronize();
        var next = 0;
        var warm = Stopwatch.GetTimestamp();
        double once;
        do
        {
            cancellation.ThrowIfCancellationRequested();
            once = _clock.Time(() => launch(next++));
        }
        while (next < FewestSamples && Stopwatch.GetElapsedTime(warm).TotalSeconds < seconds);

        var before = GC.GetAllocatedBytesForCurrentThread();
        launch(next++);
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        device.Stream.Synchronize();

        var repeat = (int)Math.Clamp(SampleMicroseconds / once, 1, 1000);
        var (times, shares) = (new List<double>(), new List<double>());
        var start = Stopwatch.GetTimestamp();
        while (times.Count < FewestSamples || (times.Count < MostSamples && Stopwatch.GetElapsedTime(start).TotalSeconds < seconds))
        {
            cancellation.ThrowIfCancellationRequested();
            var floor = Probe.Floor(workload.Flops, workload.Bytes);
            times.Add(_clock.Time(() =>
            {
                for (var i = 0; i < repeat; i++)
                {
                    launch(next++);
                }
            }) / repeat);
            shares.Add(floor / times[^1]);
        }

        var median = BenchClock.Median(times);
        var spread = (BenchClock.Quantile(times, 0.75) - BenchClock.Quantile(times, 0.25)) / 2 / median;
        return new BenchResult(
            workload.Op, workload.Name, median, spread, workload.Flops / median / 1e3, workload.Bytes / median / 1e3, BenchClock.Median(shares), allocated);
    }

    public void Dispose()
    {
        _probe?.Dispose();
        _clock.Dispose();
    }

    // Linux tells; elsewhere 32 MiB, as large as most.
    private static double LastLevelCache()
    {
        try
        {
            var sizes = Directory.GetDirectories("/sys/devices/system/cpu/cpu0/cache", "index*")
                .Select(index => File.ReadAllText(Path.Combine(index, "size")).Trim())
                .Where(size => size.EndsWith('K')).Select(size => 1024.0 * int.Parse(size[..^1]));
            return sizes.DefaultIfEmpty(32 << 20).Max();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or FormatException)
        {
            return 32 << 20;
        }
    }
}
