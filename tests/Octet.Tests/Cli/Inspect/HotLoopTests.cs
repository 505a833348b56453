using Octet.Cli.Inspect;

namespace Octet.Tests.Cli.Inspect;

/// <summary>Finding the loop that does the work, and laying out one turn of it.</summary>
public sealed class HotLoopTests
{
    private const string Mfma = "v_mfma_f32_16x16x32_fp8_fp8";

    [Fact]
    public void The_loop_with_the_most_matrix_work_is_found_among_several()
    {
        var loop = HotLoop.Find(Code("s_mov_b32", "global_load_dwordx4", "s_cbranch_scc1 >1", Mfma, Mfma, "s_cbranch_scc1 >3", "s_endpgm"));
        Assert.True(loop.IsLoop);
        Assert.Equal([Mfma, Mfma, "s_cbranch_scc1"], loop.Instructions.Select(i => i.Mnemonic));
    }

    [Fact]
    public void Of_two_loops_with_the_same_matrix_work_and_nearly_the_same_traffic_the_shorter_is_found()
    {
        string[] turn = [.. Enumerable.Repeat("ds_read_b128", 8), Mfma, "global_load_dwordx4"];
        var loop = HotLoop.Find(Code([.. turn, "v_add_u32", "global_load_dword", "s_cbranch_scc1 >0", .. turn, "s_cbranch_scc1 >13", "s_endpgm"]));
        Assert.Equal(turn.Length + 1, loop.Instructions.Count);
    }

    [Fact]
    public void Of_two_loops_with_the_same_matrix_work_the_one_without_loads_for_the_next_turn_is_left_out()
    {
        var loop = HotLoop.Find(Code("global_load_dwordx4", Mfma, "s_cbranch_scc1 >0", Mfma, "s_cbranch_scc1 >3", "s_endpgm"));
        Assert.Equal("global_load_dwordx4", loop.Instructions[0].Mnemonic);
    }

    [Fact]
    public void Without_matrix_work_the_loop_that_moves_most_is_found()
    {
        var loop = HotLoop.Find(Code("global_load_dword", "s_cbranch_scc1 >0", "global_load_dwordx4", "s_cbranch_scc1 >2", "s_endpgm"));
        Assert.Equal("global_load_dwordx4", loop.Instructions[0].Mnemonic);
    }

    [Fact]
    public void A_turn_with_two_ways_back_takes_the_one_that_loads_for_the_next()
    {
        // 0: header; a branch skips the loads on the last turn; two edges back, the second after the write to LDS.
        var loop = HotLoop.Find(Code(
            "ds_read_b128", "s_cbranch_vccnz >3", "global_load_dwordx4", Mfma, "s_cbranch_scc1 >0", "ds_write_b128", "s_branch >0", "s_endpgm"));
        Assert.Equal(
            ["ds_read_b128", "s_cbranch_vccnz", "global_load_dwordx4", Mfma, "s_cbranch_scc1", "ds_write_b128", "s_branch"],
            loop.Instructions.Select(i => i.Mnemonic));
    }

    [Fact]
    public void Loads_of_unaligned_rows_are_left_out_and_active_lanes_are_assumed()
    {
        var loop = HotLoop.Find(Code(
            "s_cbranch_execz >2", "global_load_dwordx4", "s_cbranch_execz >5", "global_load_ushort", "global_load_ushort",
            "s_cbranch_execz >7", "v_exp_f32_e32", "s_cbranch_scc1 >0", "s_endpgm"));
        var mix = InstructionMix.Count(loop.Instructions);
        Assert.Equal((1, 0, 1), (mix["global_load_b128"], mix["global_load_b16"], mix["transcendental"]));
    }

    [Fact]
    public void A_loop_inside_runs_once_where_the_outer_one_has_the_matrix_work()
    {
        var loop = HotLoop.Find(Code(Mfma, "v_add_u32", "s_cbranch_scc1 >1", "s_cbranch_scc0 >0", "s_endpgm"));
        Assert.Equal([Mfma, "v_add_u32", "s_cbranch_scc1", "s_cbranch_scc0"], loop.Instructions.Select(i => i.Mnemonic));
    }

    [Fact]
    public void A_kernel_without_a_loop_is_one_turn()
    {
        var loop = HotLoop.Find(Code("global_load_dwordx4", "s_cbranch_execz >3", "global_store_dwordx4", "s_endpgm"));
        Assert.False(loop.IsLoop);
        Assert.Equal(4, loop.Instructions.Count);
    }

    [Fact]
    public void Instructions_are_counted_by_kind_and_width()
    {
        var mix = InstructionMix.Count(Code(
            Mfma, "v_pk_fma_f32", "v_exp_f32_e32", "ds_read_b128", "ds_read2_b64", "ds_write_b64", "ds_bpermute_b32", "buffer_load_dwordx4",
            "global_load_ubyte", "global_store_short", "s_waitcnt", "s_barrier", "s_load_dwordx4", "s_add_u32", "s_endpgm"));
        Assert.Equal((1, 1, 1), (mix["mfma"], mix["valu"], mix["transcendental"]));
        Assert.Equal((2, 1, 1), (mix["lds_read_b128"], mix["lds_write_b64"], mix["lds_permute"]));
        Assert.Equal((1, 1, 1), (mix["global_load_b128"], mix["global_load_b8"], mix["global_store_b16"]));
        Assert.Equal((1, 1, 1, 2), (mix["wait"], mix["barrier"], mix["scalar_load"], mix["salu"]));
        Assert.Equal(15, mix.Total);
        Assert.Equal(64 * (16 + 16 + 8 + 4), mix.LdsBytes);
        Assert.Equal((64 * 17, 64 * 2), (mix.GlobalLoadBytes, mix.GlobalStoreBytes));
        Assert.Equal((16 * 16 * 32, 4 + 4 + 16), (mix.Macs, mix.VectorClocks));
    }

    // "mnemonic" or "mnemonic >index of the target"; instructions are 4 bytes long.
    private static List<Instruction> Code(params string[] lines) =>
        [.. lines.Select((line, i) => line.Split(" >") is [var mnemonic, var target]
            ? new Instruction(4 * i, mnemonic, "", 4 * int.Parse(target, System.Globalization.CultureInfo.InvariantCulture))
            : new Instruction(4 * i, line, "", null))];
}
