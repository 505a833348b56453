namespace Octet.Cli.Inspect;

/// <summary>A GEMM whose time on this chip is published, in the configuration its authors tuned, described by hand.</summary>
/// <param name="Name">The shape.</param>
/// <param name="Work">The configuration.</param>
/// <param name="Microseconds">Published.</param>
internal sealed record PublicFigure(string Name, LaunchWork Work, double Microseconds)
{
    /// <summary>Modelled / published.</summary>
    public double Ratio => CostModel.Time(Gpu.Gfx942, Work, Counted.Ideal).Total / Microseconds;
}

/// <summary>The model held to what others measured: AITER's tuned block-scaled FP8 GEMM on gfx942.</summary>
internal static class PublicFigures
{
    private const int Waves = 4, WaveTile = 16 * 16 * 32, MatrixClocks = 16;

    /// <summary>16x64x256 without split-K for M up to 128; 128x128x128 from M = 2048.</summary>
    public static readonly IReadOnlyList<PublicFigure> All =
    [
        new("M=16 N=1280 K=4096", Gemm(16, 1280, 4096, 16, 64, 256), 14.5),
        new("M=16 N=4096 K=1024", Gemm(16, 4096, 1024, 16, 64, 256), 5.9),
        new("M=16 N=4096 K=4096", Gemm(16, 4096, 4096, 16, 64, 256), 15.6),
        new("M=4096 N=4096 K=4096", Gemm(4096, 4096, 4096, 128, 128, 128), 2.0 * 4096 * 4096 * 4096 / 870e6),
    ];

    // Four waves; operands go through LDS, written once and read by the waves that share them; the next turn's loads run beside
    // this turn's products; promotion is 4 vector instructions for every 4 matrix ones.
    private static LaunchWork Gemm(long m, long n, long k, int tileM, int tileN, int tileK)
    {
        var macs = (long)tileM * tileN * tileK / Waves;
        var matrix = (int)(macs / WaveTile);
        var (rows, columns) = tileM >= 64 ? (tileM / 2, tileN / 2) : (tileM, tileN / Waves);
        var loads = (long)(tileM + tileN) * tileK / Waves;
        var lds = loads + (long)(rows + columns) * tileK;
        var mix = new InstructionMix(new Dictionary<string, int> { ["mfma"] = matrix, ["valu"] = matrix }, lds, loads, 0, macs, 2 * 4 * matrix);
        var resources = new KernelResources($"{tileM}x{tileN}x{tileK}", 128, 0, 64, 0, 0, 0, Waves * 64);
        var kernel = new KernelCost("gemm", "gfx942", resources, mix, true, MatrixClocks * matrix, MatrixClocks * matrix, new(MatrixClocks * matrix, waits: true));
        var blocks = Math.Ceiling((double)m / tileM) * Math.Ceiling((double)n / tileN);
        return new(kernel, blocks, Waves, (tileM + tileN) * tileK, (double)m * n * k, (double)(m + n) * k + 2.0 * m * n);
    }
}
