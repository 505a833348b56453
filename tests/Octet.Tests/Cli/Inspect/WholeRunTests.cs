using System.Globalization;
using Octet.Cli.Inspect;

namespace Octet.Tests.Cli.Inspect;

/// <summary>Laying out all that a kernel runs, and the time it takes.</summary>
public sealed class WholeRunTests
{
    [Fact]
    public void Loops_turn_as_often_as_asked_inside_each_other_too()
    {
        // 1: outer loop, 2: inner loop, 4: its end.
        var run = WholeRun.Of(Code("s_mov_b32", "v_add_u32", "v_mul_f32", "s_cbranch_scc1 >2", "s_cbranch_scc0 >1", "s_endpgm"), [2, 3]);
        string[] inner = ["v_mul_f32", "s_cbranch_scc1"];
        string[] outer = ["v_add_u32", .. inner, .. inner, .. inner, "s_cbranch_scc0"];
        Assert.Equal(["s_mov_b32", .. outer, .. outer, "s_endpgm"], Mnemonics(run));
    }

    [Fact]
    public void Of_a_branch_no_side_is_taken_with_a_loop_that_does_not_turn()
    {
        string[] code = ["s_cbranch_scc1 >4", "global_load_dwordx4", "s_cbranch_scc1 >1", "s_branch >5", "v_add_u32", "s_endpgm"];
        Assert.Equal(["s_cbranch_scc1", "v_add_u32", "s_endpgm"], Mnemonics(WholeRun.Of(Code(code), [0])));
        Assert.Equal(
            ["s_cbranch_scc1", "global_load_dwordx4", "s_cbranch_scc1", "global_load_dwordx4", "s_cbranch_scc1", "s_branch", "s_endpgm"],
            Mnemonics(WholeRun.Of(Code(code), [2])));
    }

    [Fact]
    public void Of_two_sides_that_the_compiler_lays_one_after_the_other_one_is_taken()
    {
        var set = new Instruction(0, "s_mov_b64", "s[2:3], -1", null);
        var code = new List<Instruction>
        {
            set, new(4, "s_cbranch_scc1", "", 16), new(8, "ds_write_b64", "", null), set with { Address = 12, Operands = "s[2:3], 0" },
            new(16, "s_and_b64", "vcc, exec, s[2:3]", null), new(20, "s_cbranch_vccz", "", 28), new(24, "ds_read_b128", "", null), new(28, "s_endpgm", "", null),
        };
        Assert.Equal(["s_mov_b64", "s_cbranch_scc1", "s_and_b64", "s_cbranch_vccz", "ds_read_b128", "s_endpgm"], Mnemonics(WholeRun.Of(code, [])));
    }

    [Fact]
    public void Another_number_of_loops_than_the_code_has_is_refused_with_their_places()
    {
        var error = Assert.Throws<ArgumentException>(() => WholeRun.Of(Code("s_mov_b32", "v_add_u32", "s_cbranch_scc1 >1", "s_endpgm"), [1, 1]));
        Assert.Equal("the turns of 2 loops are given, of 1 in the code: +0x4", error.Message);
    }

    [Fact]
    public void Accesses_to_LDS_and_scalar_loads_are_waited_for_where_the_code_does()
    {
        var wait = new Instruction(0, "s_waitcnt", "lgkmcnt(0)", null);
        Assert.Equal(Gpu.LdsClocks + 20, Clocks(new(0, "ds_read_b32", "v1, v0", null), wait));
        Assert.Equal(Gpu.LdsClocks + 20, Clocks(new(0, "s_load_dword", "s4, s[0:1], 0x8", null), wait));
        Assert.Equal(630 + 20, Clocks(new(0, "s_load_dword", "s4, s[2:3], 0x0", null), wait));
        Assert.Equal(40, Clocks(new(0, "ds_read_b32", "v1, v0", null), wait with { Operands = "lgkmcnt(1)" }));
    }

    // The wait comes half way, at 20 clocks of 40.
    private static double Clocks(params Instruction[] code) => new LoopTiming(new WholeRun([code], [0]), [40]).Once(1470, 630);

    private static IEnumerable<string> Mnemonics(WholeRun run) => run.Order.SelectMany(p => run.Pieces[p]).Select(i => i.Mnemonic);

    // "mnemonic" or "mnemonic >index of the target"; instructions are 4 bytes long.
    private static List<Instruction> Code(params string[] lines) =>
        [.. lines.Select((line, i) => line.Split(" >") is [var mnemonic, var target]
            ? new Instruction(4 * i, mnemonic, "", 4 * int.Parse(target, CultureInfo.InvariantCulture))
            : new Instruction(4 * i, line, "", null))];
}
