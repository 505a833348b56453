using Octet.Cli.Inspect;

namespace Octet.Tests.Cli.Inspect;

/// <summary>Reading of code objects and of what llvm-objdump prints of them.</summary>
public sealed class DisassemblyTests
{
    // As llvm-objdump 22 prints it: raw words and branch targets in the comment, padding after the end.
    private const string Recorded = """

        gemm.co:	file format elf64-amdgpu

        Disassembly of section .text:

        0000000000001800 <tiny>:
        	s_load_dwordx2 s[0:1], s[0:1], 0x0                         // 000000001800: C0060000 00000000
        	s_waitcnt vmcnt(0) lgkmcnt(0)                              // 000000001808: BF8C0070
        	v_mfma_f32_16x16x32_fp8_fp8 v[0:3], v[8:9], v[10:11], 0    // 00000000180C: D3F30000 02021508
        	s_cbranch_scc1 65533                                       // 000000001814: BF85FFFD <tiny+0x8>
        	s_endpgm                                                   // 000000001818: BF810000
        	s_nop 0                                                    // 00000000181C: BF800000

        0000000000001900 <next>:
        	s_branch 65535                                             // 000000001900: BF82FFFF <next>
        	s_endpgm                                                   // 000000001904: BF810000
        """;

    [Fact]
    public void Recorded_text_gives_instructions_with_addresses_and_branch_targets()
    {
        var functions = Disassembly.Parse(Recorded.Replace("        ", "", StringComparison.Ordinal));
        Assert.Equal(["tiny", "next"], functions.Keys);
        var tiny = functions["tiny"];
        Assert.Equal(["s_load_dwordx2", "s_waitcnt", "v_mfma_f32_16x16x32_fp8_fp8", "s_cbranch_scc1", "s_endpgm"], tiny.Select(i => i.Mnemonic));
        Assert.Equal("v_mfma_f32_16x16x32_fp8_fp8 v[0:3], v[8:9], v[10:11], 0", tiny[2].Text);
        Assert.Equal((0x1814L, 0x1808L), (tiny[3].Address, tiny[3].Target));
        Assert.Equal(0x1900L, functions["next"][0].Target);
        Assert.All(tiny.Where(i => i.Mnemonic != "s_cbranch_scc1"), i => Assert.Null(i.Target));
    }

    [Fact]
    public void An_instruction_without_an_address_is_refused() =>
        Assert.Throws<InvalidDataException>(() => Disassembly.Parse("0000000000001800 <tiny>:\n\ts_endpgm\n"));

    [Fact]
    public void MessagePack_values_come_back()
    {
        byte[] map = [0x82, 0xA4, .. ".abc"u8, 0x93, 0x05, 0xCD, 0x01, 0x00, 0xFF, 0xA1, (byte)'x', 0xDA, 0x00, 0x02, .. "hi"u8];
        var value = Assert.IsType<Dictionary<string, object?>>(new MessagePackReader(map).Read());
        Assert.Equal([5L, 256L, -1L], Assert.IsType<List<object?>>(value[".abc"]));
        Assert.Equal("hi", value["x"]);
    }

    [Fact]
    public void MessagePack_that_ends_early_is_refused() =>
        Assert.Throws<InvalidDataException>(() => new MessagePackReader([0xA5, (byte)'x']).Read());

    [Theory]
    [InlineData(64, 0, 8)]
    [InlineData(65, 0, 7)]
    [InlineData(80, 0, 6)]
    [InlineData(96, 0, 5)]
    [InlineData(60, 68, 4)]
    [InlineData(168, 0, 3)]
    [InlineData(256, 0, 2)]
    [InlineData(256, 256, 1)]
    [InlineData(3, 0, 8)]
    public void Waves_follow_from_both_kinds_of_vector_registers(int arch, int acc, int waves) =>
        Assert.Equal(waves, new KernelResources("k", arch, acc, 0, 0, 0, 0, 256).WavesPerSimd);

    [Theory]
    [InlineData("gfx942")]
    [InlineData("gfx950")]
    public void The_librarys_code_objects_describe_every_kernel(string target)
    {
        using var device = Device.Open("sim"); // loads the library
        var images = Octet.Backends.NativeBackend.Images(target);
        var kernels = images.SelectMany(i => CodeObject.Read(i.Code)).ToList();
        Assert.Contains(images, i => i.Family == "gemm");
        Assert.Contains(kernels, k => k.Name == "norm_row");
        Assert.Equal(kernels.Count, kernels.Select(k => k.Name).Distinct().Count());
        Assert.All(kernels, k => Assert.True(k is { ArchVgprs: > 0, Sgprs: > 0, MaxThreads: >= 64 and <= 1024 }, k.ToString()));
    }

    [Fact]
    public void A_file_that_is_no_code_object_is_refused() => Assert.Throws<InvalidDataException>(() => CodeObject.Read(new byte[100]));
}
