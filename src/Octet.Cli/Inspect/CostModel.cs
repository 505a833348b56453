namespace Octet.Cli.Inspect;

/// <summary>What one launch has to do.</summary>
/// <param name="Kernel">What a turn of its hot loop costs.</param>
/// <param name="Blocks">Blocks that work; surplus ones leave at once.</param>
/// <param name="Waves">Waves of a block.</param>
/// <param name="LdsBytes">LDS of a block.</param>
/// <param name="Macs">Multiply-adds of the matrix unit, padding of the tiles included; 0: it moves bytes.</param>
/// <param name="HbmBytes">Read and written, each byte once.</param>
/// <param name="Loads">Bytes of the widest loads in the hot loops, where they tell the number of turns better; 0: they do not.</param>
internal sealed record LaunchWork(KernelCost Kernel, double Blocks, int Waves, long LdsBytes, double Macs, double HbmBytes, double Loads = 0);

/// <summary>Where the microseconds of a launch, or of a sequence of them, go.</summary>
/// <param name="Matrix">Matrix unit, spread over the chip: flops / ceiling, or its clocks.</param>
/// <param name="Vector">Vector unit, spread over the chip.</param>
/// <param name="Lds">LDS, spread over the chip.</param>
/// <param name="Cache">L2 to the CUs, in whole transactions: what narrow and strided accesses cost, whose lines are used again.</param>
/// <param name="Hbm">Memory at the rate of a stream.</param>
/// <param name="Wait">Waves waiting for loads and for their own instructions, and the first load.</param>
/// <param name="Launch">From launch to launch.</param>
/// <param name="Tail">What CUs without a block in the last round cost the busiest unit.</param>
/// <param name="Total">max(hbm, cache, max(matrix, vector, lds) + tail + wait) + first load + launch; without a loop, that load is part of the wait.</param>
internal readonly record struct Terms(
    double Matrix, double Vector, double Lds, double Cache, double Hbm, double Wait, double Launch, double Tail, double Total)
{
    public static Terms operator +(Terms a, Terms b) => new(
        a.Matrix + b.Matrix, a.Vector + b.Vector, a.Lds + b.Lds, a.Cache + b.Cache, a.Hbm + b.Hbm, a.Wait + b.Wait,
        a.Launch + b.Launch, a.Tail + b.Tail, a.Total + b.Total);

    /// <summary>All but the total, by name.</summary>
    public IEnumerable<(string Name, double Microseconds)> Named =>
        [("matrix", Matrix), ("vector", Vector), ("lds", Lds), ("cache", Cache), ("hbm", Hbm), ("wait", Wait), ("launch", Launch), ("tail", Tail)];

    /// <summary>The largest term.</summary>
    public string Binds => Named.MaxBy(t => t.Microseconds).Name;
}

/// <summary>The modelled time of a launch: pure arithmetic on the compiled kernel, the work, and the chip.</summary>
internal static class CostModel
{
    /// <summary>Blocks a CU holds at once: by wave slots and by LDS.</summary>
    public static int BlocksPerCu(Gpu gpu, KernelCost kernel, int waves, long ldsBytes)
    {
        var byWaves = kernel.Resources.WavesPerSimd * Gpu.SimdsPerCu / Math.Max(1, waves);
        var byLds = ldsBytes == 0 ? byWaves : gpu.LdsBytes / ldsBytes;
        return (int)Math.Max(1, Math.Min(byWaves, byLds));
    }

    /// <summary>Share of the CUs' time that is used when blocks are dealt out evenly: (blocks / CUs) / ceil(blocks / CUs).</summary>
    public static double TailShare(Gpu gpu, double blocks) => blocks / gpu.ComputeUnits / Math.Ceiling(blocks / gpu.ComputeUnits);

    /// <summary>Turns of the hot loop each wave makes.</summary>
    public static double Turns(LaunchWork work)
    {
        if (!work.Kernel.IsLoop)
        {
            return 1;
        }

        var mix = work.Kernel.Mix;
        var waves = work.Blocks * work.Waves;
        var perWave = work.Loads > 0 && mix.WidestLoadBytes > 0 ? work.Loads / mix.WidestLoadBytes / waves
            : work.Macs > 0 && mix.Macs > 0 ? work.Macs / mix.Macs / waves
            : mix.GlobalLoadBytes + mix.GlobalStoreBytes is var bytes and > 0 ? work.HbmBytes / bytes / waves : 1;
        return Math.Max(1, perWave);
    }

    /// <summary>
    /// The model. With r waves on a SIMD a turn of all of them takes one wave's turn + (r - 1) x the clocks of the unit it uses most:
    /// waves hide each other's waits, never each other's work. One wave alone is what llvm-mca and the matrix unit's busy share describe.
    /// </summary>
    /// <param name="gpu">The chip.</param>
    /// <param name="work">What is launched.</param>
    /// <param name="counted">What the simulator counted of this kernel; <see cref="Counted.Ideal"/> where it did not run.</param>
    public static Terms Time(Gpu gpu, LaunchWork work, Counted counted)
    {
        var (kernel, mix) = (work.Kernel, work.Kernel.Mix);
        var turns = Turns(work);
        var waveTurns = turns * work.Blocks * work.Waves;
        var clocksPerMicrosecond = gpu.GigaHertz * 1e3;
        var simds = gpu.ComputeUnits * Gpu.SimdsPerCu;
        double Spread(double clocks) => waveTurns * clocks / simds / clocksPerMicrosecond;

        var ceiling = gpu.Fp8Teraflops * (mix.IsBFloat16 ? 0.5 : 1);
        var matrix = Math.Max(Spread(kernel.MatrixClocks), 2 * waveTurns * mix.Macs / ceiling * 1e-6);
        var vector = Spread(mix.VectorClocks);
        var ldsClocks = kernel.LdsClocks * counted.LdsPasses;
        var lds = Spread(ldsClocks);
        var cache = waveTurns * mix.GlobalLoadBytes * counted.Transactions / gpu.CacheTerabytes * 1e-6;
        var hbm = work.HbmBytes / gpu.HbmTerabytes * 1e-6;
        var busiest = Math.Max(matrix, Math.Max(vector, lds));
        var tail = busiest * (1 / TailShare(gpu, work.Blocks) - 1);

        // The busiest CU runs its blocks in rounds of as many as it holds; each round is a chain of turns.
        var perCu = Math.Ceiling(work.Blocks / gpu.ComputeUnits);
        var together = Math.Min(perCu, BlocksPerCu(gpu, kernel, work.Waves, work.LdsBytes));
        var wavesPerSimd = together * work.Waves / Gpu.SimdsPerCu;
        var missed = Math.Min(1, work.HbmBytes / Math.Max(1, waveTurns * mix.GlobalLoadBytes));
        var latency = Gpu.CacheMicroseconds + (Gpu.MemoryMicroseconds - Gpu.CacheMicroseconds) * missed;
        var unit = Math.Max(kernel.MatrixClocks, Math.Max(mix.VectorClocks, ldsClocks));
        var (wide, other) = (latency * clocksPerMicrosecond, Gpu.CacheMicroseconds * clocksPerMicrosecond);
        var period = Math.Max(unit, kernel.IsLoop ? kernel.Timing.Period(wide, other) : kernel.Timing.Once(wide, other));
        var round = period + Math.Max(0, wavesPerSimd - 1) * unit;
        var chain = Math.Ceiling(perCu / together) * turns * round / clocksPerMicrosecond;
        var wait = Math.Max(0, chain - busiest - tail);

        // The first load comes before the loop. A kernel without one waits for its loads where its code does: they are in the chain.
        var beforeLoop = kernel.IsLoop ? latency : 0;
        var total = Math.Max(Math.Max(hbm, cache) + latency, busiest + tail + wait + beforeLoop) + Gpu.LaunchMicroseconds;
        return new(matrix, vector, lds, cache, hbm, wait + beforeLoop, Gpu.LaunchMicroseconds, tail, total);
    }

    /// <summary>
    /// A launch's time by its hot loop's busy share alone, as if no load were ever waited for beyond what llvm-mca knows:
    /// max(flops / ceiling, matrix clocks / busy share) / tail. 0 without matrix work.
    /// </summary>
    public static double LoopMicroseconds(Gpu gpu, LaunchWork work)
    {
        if (work.Kernel.MatrixBusy == 0)
        {
            return 0;
        }

        var waveTurns = Turns(work) * work.Blocks * work.Waves;
        var clocks = waveTurns * work.Kernel.MatrixClocks / (gpu.ComputeUnits * Gpu.SimdsPerCu) / work.Kernel.MatrixBusy;
        var ceiling = gpu.Fp8Teraflops * (work.Kernel.Mix.IsBFloat16 ? 0.5 : 1);
        return Math.Max(2 * waveTurns * work.Kernel.Mix.Macs / ceiling * 1e-6, clocks / gpu.GigaHertz * 1e-3) / TailShare(gpu, work.Blocks);
    }

    /// <summary>Experts that get at least one of the tokens when each token chooses topK of all at random: local (1 - (1 - topK/all)^tokens).</summary>
    public static double DistinctExperts(int all, int local, int topK, long tokens) => local * (1 - Math.Pow(1 - (double)topK / all, tokens));

    /// <summary>Tiles of <paramref name="rows"/> slots that the local experts fill on average: local x E[ceil(n / rows)], n binomial.</summary>
    public static double ExpertTiles(int all, int local, int topK, long tokens, int rows)
    {
        var p = (double)topK / all;
        if (p >= 1)
        {
            return local * Math.Ceiling((double)tokens / rows);
        }

        // E[ceil(n / rows)] is the sum over t of P(n > t x rows); the terms of the distribution follow from each other.
        double expected = 0, above = 0;
        var logTerm = tokens * Math.Log(p);
        for (var n = tokens; n > 0; n--)
        {
            above += Math.Exp(logTerm);
            expected += (n - 1) % rows == 0 ? above : 0;
            logTerm += Math.Log((double)n / (tokens - n + 1)) + Math.Log((1 - p) / p);
        }

        return local * expected;
    }
}
