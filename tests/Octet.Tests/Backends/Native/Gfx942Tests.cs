using System.Text.Json;
using Octet.Inference.Loading;
using Octet.Tests.Cli;

namespace Octet.Tests.Backends.Native;

/// <summary>
/// The HIP driver and the machine code of gfx942, executed by the emulator of tests/native/gfx942 in the place of ROCm: what the
/// kernels compute after compilation, nothing of how fast. Each test is a process, since the loader looks for libamdhip64 only once.
/// </summary>
public sealed class Gfx942Tests
{
    private static readonly string Emulator = Path.Combine(TinyModel.Root, "build", "native", "gfx942_emulator");

    [Fact]
    public async Task The_emulated_device_is_listed_as_a_gfx942()
    {
        using var json = await Run("devices", "--json");
        var device = json.RootElement.GetProperty("devices").EnumerateArray().Single(d => d.GetProperty("name").GetString() == "hip:0");
        Assert.True(device.GetProperty("present").GetBoolean());
        Assert.Contains("gfx942 emulator", device.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_parity_case_holds_for_the_machine_code()
    {
        using var json = await Run("check", "--device", "hip:0", "--json");
        Assert.All(
            json.RootElement.GetProperty("cases").EnumerateArray(),
            c => Assert.True(c.GetProperty("passed").GetBoolean(), c.ToString()));
        Assert.Equal(Octet.Cases.CaseList.All.Count(c => c.Tier == Octet.Cases.CaseTier.Ci), json.RootElement.GetProperty("passed").GetInt32());
    }

    [Theory]
    [InlineData("short", "fp8", "w8a8_kv8")]
    [InlineData("line", "bf16", "w8a8")]
    public async Task Logits_match_the_golden_ones(string prompt, string kv, string golden)
    {
        var folder = Directory.CreateTempSubdirectory("octet-").FullName;
        var path = Path.Combine(folder, "logits.safetensors");
        var ids = $"@{TinyModel.Golden("golden.safetensors")}:{prompt}.ids";
        Assert.Equal("", await Output("logits", "--ids", ids, "--output", path, "--device", "hip:0", "--kv", kv));
        using (var file = SafeTensorsFile.Open(path))
        {
            var difference = TinyModel.Difference(file["logits"].As<float>().ToArray(), TinyModel.Read<float>($"{prompt}.logits_{golden}"));
            Assert.InRange(difference, double.NegativeInfinity, 2e-4);
        }

        Directory.Delete(folder, recursive: true);
    }

    // Decoding replays graphs.
    [Fact]
    public async Task Greedy_generation_starts_with_the_golden_text()
    {
        var text = await Output("generate", "--prompt", "ROMEO:\n", "--temperature", "0", "--max-tokens", "20", "--device", "hip:0");
        Assert.StartsWith("I'll not be a", text, StringComparison.Ordinal);
    }

    private static async Task<JsonDocument> Run(params string[] arguments) => JsonDocument.Parse(await Output(arguments));

    private static async Task<string> Output(params string[] arguments)
    {
        Assert.True(
            File.Exists(Path.Combine(Emulator, "libamdhip64.so.6")), $"{Emulator} has no libamdhip64.so.6: build it with ninja -C build/native");
        var (code, output, error) = await OctetProcess.Run(arguments, Emulator);
        Assert.True(code == 0, $"exit code {code}: {error}\n{output}");
        return output;
    }
}
