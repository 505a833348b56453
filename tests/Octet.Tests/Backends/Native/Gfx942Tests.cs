using System.Globalization;
using System.Text.Json;
using Octet.Inference.Loading;
using Octet.Tests.Cli;
using Octet.Tests.Inference.Parallel;

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

    [Fact]
    public async Task Several_emulated_devices_reach_one_another()
    {
        using var json = JsonDocument.Parse(Successful(await OctetProcess.Run(["devices", "--json"], Library, Devices(4))));
        var devices = json.RootElement.GetProperty("devices").EnumerateArray()
            .Where(device => device.GetProperty("name").GetString()!.StartsWith("hip:", StringComparison.Ordinal)).ToArray();
        Assert.Equal(["hip:0", "hip:1", "hip:2", "hip:3"], devices.Select(device => device.GetProperty("name").GetString()));
        Assert.All(devices, device =>
        {
            var peers = device.GetProperty("peers").EnumerateArray().ToArray();
            Assert.Equal(3, peers.Length);
            Assert.All(peers, peer => Assert.True(peer.GetProperty("reached").GetBoolean(), peer.ToString()));
        });
    }

    // Prefill, decode and replayed steps on 4 devices; then steps whose tokens are divided, on 2, 4 and 8.
    [Fact]
    public async Task Several_emulated_devices_have_the_bits_of_one()
    {
        string[] tests =
        [
            nameof(RankBitsTests.Replayed_steps_of_several_devices_have_the_bits_of_eager_ones_of_one),
            nameof(RankBitsTests.So_many_tokens_that_each_rank_norms_a_range_have_the_bits_of_one_device),
        ];
        var output = Successful(await OctetProcess.RunTests(tests, Library, Devices(8), (RankBitsTests.DeviceVariable, "hip")));
        Assert.Contains("Total: 8, Errors: 0, Failed: 0, Skipped: 0, Not Run: 0", output, StringComparison.Ordinal);
    }

    private static (string, string) Library
    {
        get
        {
            Assert.True(
                File.Exists(Path.Combine(Emulator, "libamdhip64.so.6")), $"{Emulator} has no libamdhip64.so.6: build it with ninja -C build/native");
            return ("LD_LIBRARY_PATH", Emulator);
        }
    }

    private static (string, string) Devices(int count) => ("GFX942_EMULATOR_DEVICES", count.ToString(CultureInfo.InvariantCulture));

    private static async Task<JsonDocument> Run(params string[] arguments) => JsonDocument.Parse(await Output(arguments));

    private static async Task<string> Output(params string[] arguments) => Successful(await OctetProcess.Run(arguments, Library));

    private static string Successful((int Code, string Output, string Error) run)
    {
        Assert.True(run.Code == 0, $"exit code {run.Code}: {run.Error}\n{run.Output}");
        return run.Output;
    }
}
