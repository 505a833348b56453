using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace Octet.Tests.Cli;

/// <summary>The octet command at the ends of pipes, on closed and full outputs, and under signals.</summary>
public sealed class StreamsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("octet-").FullName;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // Without the summary, which stands at the end of every text: the text was not generated to its end.
    [Theory]
    [InlineData("head -c 1")]
    [InlineData("head -n 1")]
    [InlineData("true")]
    public async Task Generate_stops_silently_when_nobody_reads_any_more(string reader)
    {
        var (code, _, error) = await Shell(
            $"octet generate --device cpu --prompt ROMEO: --max-tokens 2000 --temperature 0.9 --seed 1 | {reader} >&2; exit ${{PIPESTATUS[0]}}");
        Assert.Equal(141, code);
        Assert.DoesNotContain("TTFT", error, StringComparison.Ordinal);
        Assert.DoesNotContain("octet:", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("generate --device cpu --prompt ROMEO: --max-tokens 2000 --json")]
    [InlineData("perplexity --device cpu --ids @$golden:perplexity.ids --window 512")]
    [InlineData("devices")]
    public async Task A_command_that_writes_at_its_end_stops_too(string command)
    {
        var (code, output, error) = await Shell($"golden={TinyModel.Golden("golden.safetensors")}; octet {command} | true; exit ${{PIPESTATUS[0]}}");
        Assert.Equal((141, "", ""), (code, output, error));
    }

    [Theory]
    [InlineData("generate --device cpu --prompt ROMEO:", ">&-", "stdout is closed")]
    [InlineData("generate --device cpu --prompt ROMEO:", "<&- >&-", "stdout is closed")]
    [InlineData("generate --device cpu --prompt ROMEO: --json", ">&-", "stdout is closed")]
    [InlineData("devices", ">&-", "stdout is closed")]
    [InlineData("--help", ">&-", "stdout is closed")]
    [InlineData("generate --device cpu --prompt ROMEO: --max-tokens 3", ">/dev/full", "stdout cannot be written: No space left on device")]
    [InlineData("devices --json", ">/dev/full", "stdout cannot be written: No space left on device")]
    public async Task An_output_that_cannot_be_written_is_one_line_and_exit_code_2(string command, string redirection, string message)
    {
        var (code, output, error) = await Shell($"octet {command} {redirection}");
        Assert.Equal((2, "", $"octet: {message}\n"), (code, output, error));
    }

    [Fact]
    public async Task A_prompt_comes_from_a_file_or_from_stdin_without_its_byte_order_mark()
    {
        const string Rest = "--device cpu --temperature 0 --max-tokens 8";
        var path = Write([.. Encoding.UTF8.Preamble, .. "ROMEO:\n"u8]);
        var expected = await Shell($"octet generate {Rest} --prompt $'ROMEO:\\n'");
        var file = await Shell($"octet generate {Rest} --prompt-file {path}");
        var input = await Shell($"octet generate {Rest} --prompt-file - < {path}");
        var pipe = await Shell($"octet generate {Rest} --prompt-file <(cat {path})");
        Assert.StartsWith("I'll not be a", expected.Output, StringComparison.Ordinal);
        Assert.All((int[])[expected.Code, file.Code, input.Code, pipe.Code], code => Assert.Equal(0, code));
        Assert.All((string[])[file.Output, input.Output, pipe.Output], output => Assert.Equal(expected.Output, output));
    }

    // One argument of a command has at most 128 kB.
    [Fact]
    public async Task A_prompt_of_200_kB_is_read_and_measured_against_the_context()
    {
        var path = Write(Encoding.UTF8.GetBytes(new string('a', 200_000)));
        var (code, _, error) = await Shell($"octet generate --device cpu --prompt-file - < {path}");
        Assert.Equal(2, code);
        Assert.Matches(@"^octet: the prompt has \d+ tokens, the context of the model 2048: ", error);
    }

    [Theory]
    [InlineData(new byte[] { 0x61, 0xFF, 0x62 }, "not UTF-8: the byte 0xff at offset 1")]
    [InlineData(new byte[] { 0xEF, 0xBB, 0xBF, 0x61, 0xC3 }, "not UTF-8: the byte 0xc3 at offset 4")]
    [InlineData(new byte[] { 0xFF, 0xFE, 0x61, 0x00 }, "not UTF-8: the byte 0xff at offset 0")]
    [InlineData(new byte[] { 0xED, 0xA0, 0x80 }, "not UTF-8: the byte 0xed at offset 0")]
    [InlineData(new byte[] { }, "the prompt is empty")]
    [InlineData(new byte[] { 0xEF, 0xBB, 0xBF }, "the prompt is empty")]
    public async Task A_prompt_that_is_not_text_is_refused_with_the_place(byte[] bytes, string problem)
    {
        var (code, output, error) = await Shell($"octet generate --device cpu --prompt-file {Write(bytes)}");
        Assert.Equal((2, ""), (code, output));
        Assert.Contains(problem, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "--prompt and --prompt-file is required")]
    [InlineData("--prompt a --prompt-file b", "cannot both be given")]
    [InlineData("--prompt-file /nonexistent", "/nonexistent cannot be read")]
    [InlineData("--prompt-file /tmp", "/tmp is a folder")]
    [InlineData("--prompt-file - <&-", "stdin cannot be read: it is closed")]
    public async Task A_prompt_that_is_missing_or_given_twice_is_refused(string arguments, string problem)
    {
        var (code, output, error) = await Shell($"octet generate {arguments}");
        Assert.Equal((2, ""), (code, output));
        Assert.Contains(problem, error, StringComparison.Ordinal);
        Assert.Equal(error.Length - 1, error.IndexOf('\n', StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(100_000, "length")]
    [InlineData(3, "length")]
    public async Task Json_says_why_the_text_ended(int most, string reason)
    {
        var (code, output, _) = await Shell($"octet generate --device cpu --temperature 0 --max-tokens {most} --prompt ROMEO: --json");
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        var root = json.RootElement;
        Assert.Equal(reason, root.GetProperty("finish_reason").GetString());
        Assert.Equal(Math.Min(most, 2048 - root.GetProperty("prompt_tokens").GetInt32()), root.GetProperty("ids").GetArrayLength());
    }

    [Fact]
    public async Task Json_says_that_the_model_ended_the_text_even_if_it_has_no_token()
    {
        // The end token's logit is 1000 times one number of the hidden state: behind some letter that is positive.
        using var model = Inference.Models.PatchedModel.WithLogit(token: 1021, column: 17, norm: 1, head: 1000);
        var stopped = 0;
        foreach (var prompt in "ABCDEFGH")
        {
            var (code, output, _) = await Shell($"octet generate --device cpu --model {model.Path} --temperature 0 --max-tokens 1 --prompt {prompt} --json");
            Assert.Equal(0, code);
            using var json = JsonDocument.Parse(output);
            var ids = json.RootElement.GetProperty("ids").GetArrayLength();
            Assert.Equal(ids == 0 ? "stop" : "length", json.RootElement.GetProperty("finish_reason").GetString());
            stopped += ids == 0 ? 1 : 0;
            if (stopped > 0)
            {
                break;
            }
        }

        Assert.NotEqual(0, stopped);
    }

    // More than a pipe holds has gone into stdin: the command is there and reads on.
    [Theory]
    [InlineData("INT", 130)]
    [InlineData("TERM", 143)]
    public async Task A_signal_ends_a_command_that_waits_for_its_prompt(string signal, int expected)
    {
        using var process = OctetProcess.StartWithInput("generate", "--device", "cpu", "--prompt-file", "-");
        var error = process.StandardError.ReadToEndAsync(Cancellation);
        await process.StandardInput.WriteAsync(new string('a', 1 << 20).AsMemory(), Cancellation);
        await process.StandardInput.FlushAsync(Cancellation);
        await Signal(process, signal);
        await process.WaitForExitAsync(Cancellation);
        Assert.Equal((expected, "octet: interrupted\n"), (process.ExitCode, await error));
    }

    // In the simulator the first step of this prompt takes far longer than the second signal; the trace says that it is under way.
    [Theory]
    [InlineData("INT", 130)]
    [InlineData("TERM", 143)]
    public async Task A_second_signal_ends_the_command_amid_a_step(string signal, int expected)
    {
        using var process = OctetProcess.StartWithInput("generate", "--device", "sim", "--prompt-file", "-");
        await process.StandardInput.WriteAsync(new string('a', 600).AsMemory(), Cancellation);
        process.StandardInput.Close();
        var line = "";
        while (line is not null && !line.Contains("moe_gate_up", StringComparison.Ordinal))
        {
            line = await process.StandardError.ReadLineAsync(Cancellation);
        }

        var error = process.StandardError.ReadToEndAsync(Cancellation);
        for (var i = 0; i < 10 && !process.HasExited; i++)
        {
            await Signal(process, signal);
            await Task.Delay(200, Cancellation);
        }

        await process.WaitForExitAsync(Cancellation);
        Assert.Equal(expected, process.ExitCode);
        Assert.DoesNotContain("interrupted", await error, StringComparison.Ordinal);
    }

    private static async Task Signal(Process process, string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", $"{process.Id}"]);
        await kill.WaitForExitAsync(Cancellation);
    }

    private static Task<(int Code, string Output, string Error)> Shell(string script) => OctetProcess.Shell(script);

    private string Write(byte[] bytes)
    {
        var path = Path.Combine(_folder, "prompt.txt");
        File.WriteAllBytes(path, bytes);
        return path;
    }
}
