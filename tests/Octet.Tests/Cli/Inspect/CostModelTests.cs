using Octet.Cli.Inspect;

namespace Octet.Tests.Cli.Inspect;

/// <summary>The arithmetic of the model against values worked out by hand, and the model against published times.</summary>
public sealed class CostModelTests
{
    [Theory]
    [InlineData(1, 8)]
    [InlineData(8, 51.6)]
    [InlineData(16, 82.4)]
    [InlineData(32, 111.8)]
    [InlineData(64, 125.9)]
    public void Distinct_experts_are_those_of_the_models_notes(int tokens, double experts) =>
        Assert.Equal(experts, CostModel.DistinctExperts(128, 128, 8, tokens), 0.05);

    [Theory]
    [InlineData(1, 128, 16, 8)]
    [InlineData(64, 16, 64, 15.74)]        // every expert that is chosen fills one tile: 16 (1 - (15/16)^64)
    [InlineData(16384, 128, 64, 2111.9)]   // 1,024 slots an expert, half a tile lost on average but for the last row
    public void Expert_tiles_are_the_expected_number(int tokens, int local, int rows, double tiles) =>
        Assert.Equal(tiles, CostModel.ExpertTiles(128, local, 8, tokens, rows), 0.002 * tiles);

    [Fact]
    public void One_expert_for_all_fills_whole_tiles() => Assert.Equal(3, CostModel.ExpertTiles(8, 1, 8, 129, 64));

    [Fact]
    public void The_tail_of_1024_tiles_on_304_CUs_is_84_percent() => Assert.Equal(0.842, CostModel.TailShare(Gpu.Gfx942, 1024), 0.0005);

    [Fact]
    public void Blocks_of_a_CU_are_bounded_by_waves_and_by_LDS()
    {
        var kernel = Kernel(clocks: 100, matrix: 0, registers: 128); // 4 waves on each SIMD
        Assert.Equal(4, CostModel.BlocksPerCu(Gpu.Gfx942, kernel, 4, 0));
        Assert.Equal(2, CostModel.BlocksPerCu(Gpu.Gfx942, kernel, 8, 0));
        Assert.Equal(3, CostModel.BlocksPerCu(Gpu.Gfx942, kernel, 4, 20_000));
        Assert.Equal(1, CostModel.BlocksPerCu(Gpu.Gfx942, kernel, 16, 65_536));
    }

    [Fact]
    public void A_full_large_gemm_is_bound_by_the_ceiling_and_the_tail()
    {
        // 64 matrix instructions of 16 clocks a turn, always busy: 97.5 us / 0.842 + first load + launch.
        var work = new LaunchWork(Kernel(clocks: 1024, matrix: 1024, macs: 64 * 8192), 1024, 4, 65_536, Math.Pow(4096, 3), 5e7);
        var terms = CostModel.Time(Gpu.Gfx942, work, Counted.Ideal);
        Assert.Equal(97.54, terms.Matrix, 0.01);
        Assert.Equal(97.54 * (1 / 0.8421 - 1), terms.Tail, 0.05);
        Assert.Equal(("matrix", 1.5), (terms.Binds, terms.Launch));
        Assert.Equal(terms.Matrix + terms.Tail + terms.Wait + terms.Launch, terms.Total, 1e-9);
        Assert.InRange(2 * Math.Pow(4096, 3) / terms.Total * 1e-6, 1150, 1186);
    }

    [Theory]
    [InlineData(1024, 1186.5)] // always busy: the power ceiling, less the tail
    [InlineData(2048, 1101.0)] // busy half the time: 52.57 us / 0.5 / 0.842
    public void Loops_alone_are_bound_by_the_ceiling_or_by_the_busy_share(double clocks, double teraflops)
    {
        var work = new LaunchWork(Kernel(clocks, matrix: 1024, macs: 64 * 8192), 1024, 4, 65_536, Math.Pow(4096, 3), 5e7);
        Assert.Equal(teraflops, 2 * Math.Pow(4096, 3) / CostModel.LoopMicroseconds(Gpu.Gfx942, work) * 1e-6, 0.1);
        Assert.Equal(0, CostModel.LoopMicroseconds(Gpu.Gfx942, work with { Kernel = Kernel(clocks, matrix: 0) }));
    }

    [Fact]
    public void A_stream_is_bound_by_memory_and_transactions_stretch_the_caches_part()
    {
        var work = new LaunchWork(Kernel(clocks: 40, matrix: 0, loads: 4096, waits: true), 2432, 4, 0, 0, 486e6);
        var ideal = CostModel.Time(Gpu.Gfx942, work, Counted.Ideal);
        Assert.Equal((100.0, "hbm"), (Math.Round(ideal.Hbm, 6), ideal.Binds));
        Assert.Equal(486e6 / 34.4e6, ideal.Cache, 1e-6);
        var scattered = CostModel.Time(Gpu.Gfx942, work, new(16, 1));
        Assert.Equal((16 * ideal.Cache, ideal.Hbm, "cache"), (scattered.Cache, scattered.Hbm, scattered.Binds));
    }

    [Fact]
    public void A_chain_of_turns_is_bound_by_the_latency()
    {
        // 20 blocks, 16 turns of one load each: 16 x 0.7 us of waiting, and the first load.
        var work = new LaunchWork(Kernel(clocks: 10, matrix: 0, loads: 1024, waits: true), 20, 4, 0, 0, 20 * 4 * 16 * 1024);
        var terms = CostModel.Time(Gpu.Gfx942, work, Counted.Ideal);
        Assert.Equal(16, CostModel.Turns(work));
        Assert.Equal("wait", terms.Binds);
        Assert.Equal(17 * 0.7 + 1.5, terms.Total, 0.15);
    }

    [Fact]
    public void Turns_follow_from_the_widest_loads_where_those_are_given()
    {
        // Two loads of 16 bytes a lane: 2 KiB a wave and turn.
        var work = new LaunchWork(Kernel(clocks: 10, matrix: 16, macs: 8192), 2, 4, 0, 8 * 3 * 8192, 1e6);
        Assert.Equal(3, CostModel.Turns(work));
        Assert.Equal(5, CostModel.Turns(work with { Loads = 8 * 5 * 2048 }));
    }

    [Fact]
    public void Bank_conflicts_stretch_LDS_only()
    {
        var work = new LaunchWork(Kernel(clocks: 100, matrix: 0, loads: 1024, lds: 8192), 304, 4, 0, 0, 1e6);
        var (ideal, conflicts) = (CostModel.Time(Gpu.Gfx942, work, Counted.Ideal), CostModel.Time(Gpu.Gfx942, work, new(1, 3)));
        Assert.Equal(3 * ideal.Lds, conflicts.Lds, 1e-9);
        Assert.Equal((ideal.Hbm, ideal.Vector), (conflicts.Hbm, conflicts.Vector));
    }

    [Fact]
    public void Waits_count_by_what_may_be_outstanding()
    {
        var load = new Instruction(0, "global_load_dwordx4", "v[0:3], v4, s[0:1]", null);
        var add = new Instruction(4, "v_add_u32_e32", "v0, v1, v2", null);
        Instruction Wait(int n) => new(8, "s_waitcnt", $"vmcnt({n}) lgkmcnt(0)", null);

        // Waiting for the load of this turn costs what is left of the latency; for that of the last turn, a turn less.
        Assert.Equal(1050, new LoopTiming([load, add, Wait(0), add], 100).Period(1000, 0), 1e-6);
        Assert.Equal(525, new LoopTiming([load, add, Wait(1), add], 100).Period(1000, 0), 1e-6);
        Assert.Equal(100, new LoopTiming([load, add, Wait(1), add], 100).Period(90, 0), 1e-6);
        Assert.Equal(100, new LoopTiming([load, add, add, add], 100).Period(1000, 0), 1e-6);
    }

    [Fact]
    public void A_kernel_without_a_loop_waits_for_its_loads_once()
    {
        var load = new Instruction(0, "global_load_dwordx4", "v[0:3], v4, s[0:1]", null);
        var wait = new Instruction(8, "s_waitcnt", "vmcnt(0)", null);
        var timing = new LoopTiming([load, wait], 210);
        var kernel = Kernel(clocks: 210, matrix: 0, loads: 1024) with { IsLoop = false, Timing = timing };
        Assert.Equal(1575, timing.Once(1470, 630), 1e-6); // from the load on; what comes after the wait is half of 210

        // Of 4 turns' bytes each wave still runs the code once: 0.75 us + launch, where a loop had the first load before it.
        var work = new LaunchWork(kernel, 1, 1, 0, 0, 4096);
        Assert.Equal(1, CostModel.Turns(work));
        Assert.Equal(1575 / 2100.0 + 1.5, CostModel.Time(Gpu.Gfx942, work, Counted.Ideal).Total, 1e-6);
    }

    [Fact]
    public void Narrow_loads_take_the_time_of_the_caches()
    {
        var scales = new Instruction(0, "global_load_dword", "v4, v5, s[0:1]", null);
        var wide = new Instruction(4, "global_load_dwordx4", "v[0:3], v5, s[0:1]", null);
        var wait = new Instruction(8, "s_waitcnt", "vmcnt(1)", null);
        Assert.Equal(300, new LoopTiming([scales, wide, wait], 30).Period(310, 290), 15);
    }

    [Fact]
    public void Waits_for_memory_are_taken_out_of_an_instruction()
    {
        Assert.Null(LoopTiming.WithoutMemoryWaits(new(0, "s_waitcnt", "vmcnt(3)", null)));
        Assert.Equal("s_waitcnt lgkmcnt(0)", LoopTiming.WithoutMemoryWaits(new(0, "s_waitcnt", "vmcnt(3) lgkmcnt(0)", null)));
        Assert.Equal("s_barrier", LoopTiming.WithoutMemoryWaits(new(0, "s_barrier", "", null)));
    }

    [Fact]
    public void The_matrix_units_share_takes_the_slowest_of_issue_LDS_and_vector_unit()
    {
        Assert.Equal(0.5, Kernel(clocks: 200, matrix: 100).MatrixBusy);
        Assert.Equal(0.25, Kernel(clocks: 200, matrix: 100, lds: 12_800).MatrixBusy); // 4 waves x 12,800 B / 128 = 400 clocks
        Assert.Equal(0, Kernel(clocks: 200, matrix: 0).MatrixBusy);
    }

    [Fact]
    public void The_model_lands_within_a_factor_of_1_5_of_published_times() =>
        Assert.All(PublicFigures.All, f => Assert.True(f.Ratio is > 1 / 1.5 and < 1.5, $"{f.Name}: modelled / published = {f.Ratio:f2}"));

    internal static KernelCost Kernel(
        double clocks, double matrix, int registers = 128, long macs = 0, long loads = 0, long lds = 0, bool waits = false) => new(
        "gemm", "gfx942", new("gemm_fp8_m64n128", registers, 0, 50, 0, 0, 0, 256),
        new(new Dictionary<string, int> { ["mfma"] = 1, ["valu"] = 3, ["global_load_b128"] = 2 }, lds, loads, 0, macs, 4), true, clocks, matrix,
        new(clocks, waits));
}
