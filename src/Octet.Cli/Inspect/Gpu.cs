namespace Octet.Cli.Inspect;

/// <summary>
/// The chip the model assumes. Peaks are the maker's, ceilings what others reach on normal data; nothing here was measured by
/// this project.
/// </summary>
/// <param name="Target">"gfx942" or "gfx950".</param>
/// <param name="ComputeUnits">CUs, of four SIMDs each.</param>
/// <param name="LdsBytes">LDS of a CU.</param>
/// <param name="GigaHertz">Clock under load.</param>
/// <param name="Fp8Teraflops">What FP8 matrix work reaches; bf16 reaches half.</param>
/// <param name="HbmTerabytes">What a stream from HBM reaches, per second.</param>
/// <param name="CacheTerabytes">What all L2s deliver to the CUs, per second.</param>
/// <param name="LinkGigabytes">What one link to a peer brings each way, per second.</param>
/// <param name="MemoryBytes">Of HBM.</param>
internal sealed record Gpu(
    string Target, int ComputeUnits, int LdsBytes, double GigaHertz, double Fp8Teraflops, double HbmTerabytes, double CacheTerabytes,
    double LinkGigabytes, long MemoryBytes)
{
    public const int SimdsPerCu = 4, LdsBytesPerClock = 128;

    /// <summary>From one launch to the next that depends on it. Fitted, with <see cref="MemoryMicroseconds"/>, to AITER's published times of 4 and 16 turns.</summary>
    public const double LaunchMicroseconds = 1.5;

    /// <summary>Of a load from HBM under load.</summary>
    public const double MemoryMicroseconds = 0.7;

    /// <summary>Of a load that hits in L2 or Infinity Cache, under load.</summary>
    public const double CacheMicroseconds = 0.3;

    /// <summary>Of an LDS access or an exchange between lanes whose banks are free. Assumed, from what is told of GCN; llvm-mca counts 20 and says "between 2 and 64 passes".</summary>
    public const double LdsClocks = 64;

    /// <summary>
    /// MI325X: 1,409 TFLOP/s of FP8, 81 % of 6.0 TB/s and 46 of a link's 64 GB/s are published; the L2s give 2 KiB per clock and XCD.
    /// </summary>
    public static readonly Gpu Gfx942 = new("gfx942", 304, 64 << 10, 2.1, 1409, 4.86, 34.4, 46, 256L << 30);

    /// <summary>MI355X: the shares of the peak that the MI325X reaches, taken of 5,033 TFLOP/s, 8 TB/s and 76.8 GB/s.</summary>
    public static readonly Gpu Gfx950 = new("gfx950", 256, 160 << 10, 2.4, 2712, 6.48, 39.3, 55, 288L << 30);

    /// <exception cref="ArgumentException">Another target.</exception>
    public static Gpu Of(string target) => target switch
    {
        "gfx942" => Gfx942,
        "gfx950" => Gfx950,
        _ => throw new ArgumentException($"--target: '{target}' is not gfx942 or gfx950"),
    };
}
