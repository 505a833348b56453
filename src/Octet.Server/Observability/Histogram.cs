namespace Octet.Server.Observability;

/// <summary>A histogram as Prometheus has it, and the exact quantiles of what came within a window of time. Seconds; thread-safe.</summary>
/// <param name="bounds">The upper ends of the buckets, ascending; one more holds the rest.</param>
/// <param name="window">How far back quantiles look; zero: there are none.</param>
internal sealed class Histogram(double[] bounds, TimeSpan window)
{
    // What comes faster than this pushes the oldest out: 16,384 in a window are enough for a p99.
    private const int MostSamples = 1 << 14;

    private readonly Lock _lock = new();
    private readonly long[] _counts = new long[bounds.Length + 1];
    private readonly (long Time, double Value)[] _samples = new (long, double)[window > TimeSpan.Zero ? MostSamples : 0];
    private readonly double[] _sorted = new double[window > TimeSpan.Zero ? MostSamples : 0];
    private long _next;
    private double _sum;

    /// <summary>The upper ends of the buckets.</summary>
    public ReadOnlySpan<double> Bounds => bounds;

    /// <summary>Counts a value.</summary>
    public void Record(double seconds)
    {
        var bucket = 0;
        while (bucket < bounds.Length && seconds > bounds[bucket])
        {
            bucket++;
        }

        lock (_lock)
        {
            _counts[bucket]++;
            _sum += seconds;
            if (_samples.Length > 0)
            {
                _samples[_next++ % MostSamples] = (Environment.TickCount64, seconds);
            }
        }
    }

    /// <summary>Copies the counts of the buckets, not cumulated, and returns the sum of all values.</summary>
    /// <param name="counts">Room for one more than there are bounds.</param>
    public double Read(Span<long> counts)
    {
        lock (_lock)
        {
            _counts.CopyTo(counts);
            return _sum;
        }
    }

    /// <summary>The quantiles of the window, with linear interpolation; NaN where nothing came.</summary>
    /// <param name="shares">Ascending, 0 to 1.</param>
    /// <param name="quantiles">As many.</param>
    public void Quantiles(ReadOnlySpan<double> shares, Span<double> quantiles)
    {
        lock (_lock)
        {
            var (count, oldest) = (0, Environment.TickCount64 - (long)window.TotalMilliseconds);
            for (var i = _next - 1; i >= Math.Max(0, _next - MostSamples) && _samples[i % MostSamples].Time >= oldest; i--)
            {
                _sorted[count++] = _samples[i % MostSamples].Value;
            }

            var sorted = _sorted.AsSpan(0, count);
            sorted.Sort();
            for (var i = 0; i < shares.Length; i++)
            {
                quantiles[i] = Quantile(sorted, shares[i]);
            }
        }
    }

    private static double Quantile(ReadOnlySpan<double> sorted, double share)
    {
        if (sorted.IsEmpty)
        {
            return double.NaN;
        }

        var place = share * (sorted.Length - 1);
        var below = (int)place;
        return below + 1 == sorted.Length ? sorted[below] : sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]);
    }
}
