namespace Octet.Cli.Bench;

/// <summary>What a device can do at most, measured in the run itself; 0 where there is no probe for it.</summary>
/// <param name="GBytesPerSecond">Plain multi-threaded reading (cpu), or copying (GPU: read and written).</param>
/// <param name="GFlops">f32 multiply-adds in registers (cpu).</param>
internal sealed record BenchCeilings(double GBytesPerSecond, double GFlops);

/// <summary>How fast one workload ran.</summary>
/// <param name="Op">The op.</param>
/// <param name="Name">The shape.</param>
/// <param name="Microseconds">Median time of one run.</param>
/// <param name="Spread">Half the middle of the samples, relative to the median.</param>
/// <param name="GFlops">From the median.</param>
/// <param name="GBytesPerSecond">From the median.</param>
/// <param name="ShareOfCeiling">Median over pairs, run in turn, of the time the ceilings allow to the time it took; 0 without a probe.</param>
/// <param name="AllocatedBytes">Managed bytes of one run.</param>
internal sealed record BenchResult(
    string Op, string Name, double Microseconds, double Spread, double GFlops, double GBytesPerSecond, double ShareOfCeiling, long AllocatedBytes)
{
    /// <summary>What no right measurement reaches: a ceiling is noisy by some percent, no more.</summary>
    public const double MostShare = 1.05;

    /// <summary>Whether it was measured so far above the ceiling that the ceiling, or the count of its bytes and operations, is wrong.</summary>
    public bool IsAboveCeiling => ShareOfCeiling > MostShare;

    /// <summary>Floating-point operations per byte; 0 for an op that only moves bytes.</summary>
    public double Intensity => GBytesPerSecond > 0 ? GFlops / GBytesPerSecond : 0;
}

/// <summary>A run of <c>octet bench</c>.</summary>
internal sealed record BenchReport(string Device, BenchOrigin Origin, BenchCeilings Ceilings, IReadOnlyList<BenchResult> Results);
