using System.Text.Json;
using Octet.Cli;
using Octet.Inference.Loading;

namespace Octet.Tests.Cli;

/// <summary>The octet command as a user runs it: a process, its exit code, stdout and stderr.</summary>
public sealed class CommandTests
{
    [Fact]
    public async Task Generate_writes_the_continuation_to_stdout_and_the_summary_to_stderr()
    {
        var (code, output, error) = await Run("generate", "--prompt", "ROMEO:\n", "--temperature", "0", "--max-tokens", "20", "--device", "cpu");
        Assert.Equal(0, code);
        Assert.StartsWith("I'll not be a", output, StringComparison.Ordinal);
        Assert.Contains("TTFT", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cpu*2", "--dp", "2")]
    [InlineData("cpu*4", "--tp", "4")]
    [InlineData("cpu*4", "--dp", "2", "--tp", "2")]
    public async Task A_model_on_several_devices_gives_what_it_gives_on_one(string device, params string[] sizes)
    {
        string[] text = ["generate", "--prompt", "ROMEO:", "--max-tokens", "8", "--n", "4", "--seed", "3", "--json"];
        var (_, alone, _) = await Run([.. text, "--device", "cpu"]);
        var (code, output, _) = await Run([.. text, "--device", device, .. sizes]);
        Assert.Equal(0, code);
        using var expected = JsonDocument.Parse(alone);
        using var json = JsonDocument.Parse(output);
        Assert.Equal(device, json.RootElement.GetProperty("device").GetString());
        Assert.Equal(expected.RootElement.GetProperty("choices").GetRawText(), json.RootElement.GetProperty("choices").GetRawText());

        string[] perplexity = ["perplexity", "--ids", string.Join(',', Enumerable.Range(0, 60)), "--window", "10", "--json"];
        (_, alone, _) = await Run([.. perplexity, "--device", "cpu"]);
        (code, output, _) = await Run([.. perplexity, "--device", device, .. sizes]);
        Assert.Equal((0, alone.Replace("\"cpu\"", $"\"{device}\"", StringComparison.Ordinal)), (code, output));
    }

    [Fact]
    public async Task Generate_as_json_has_the_promised_fields()
    {
        var (code, output, _) = await Run("generate", "--prompt", "KING", "--max-tokens", "5", "--seed", "7", "--device", "cpu", "--json");
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        foreach (var field in (string[])["text", "ids", "finish_reason", "device", "prompt_tokens", "ttft_ms", "tpot_ms", "tokens_per_second"])
        {
            Assert.True(json.RootElement.TryGetProperty(field, out _), field);
        }
    }

    [Fact]
    public async Task Devices_names_hip_and_cuda_as_absent_with_reason_and_remedy()
    {
        var (code, output, _) = await Run("devices", "--json");
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        var devices = json.RootElement.GetProperty("devices").EnumerateArray().ToArray();
        Assert.Contains(devices, d => d.GetProperty("name").GetString() == "cpu" && d.GetProperty("present").GetBoolean());
        foreach (var driver in (string[])["hip", "cuda"])
        {
            var device = devices.First(d => d.GetProperty("name").GetString()!.StartsWith(driver, StringComparison.Ordinal));
            if (!device.GetProperty("present").GetBoolean())
            {
                Assert.NotEmpty(device.GetProperty("reason").GetString()!);
                Assert.NotEmpty(device.GetProperty("remedy").GetString()!);
            }
        }
    }

    [Fact]
    public async Task Devices_lists_those_of_ilgpu_and_which_are_usable()
    {
        var (_, output, _) = await Run("devices", "--json");
        using var json = JsonDocument.Parse(output);
        var devices = json.RootElement.GetProperty("devices").EnumerateArray().ToArray();
        Assert.True(devices.Single(d => d.GetProperty("name").GetString() == "ilgpu:cpu").GetProperty("usable").GetBoolean());
        foreach (var kind in (string[])["ilgpu:cuda", "ilgpu:opencl"])
        {
            var device = devices.First(d => d.GetProperty("name").GetString()!.StartsWith(kind, StringComparison.Ordinal));
            Assert.Equal(device.GetProperty("usable").GetBoolean(), device.GetProperty("reason").ValueKind == JsonValueKind.Null);
        }
    }

    [Fact]
    public void A_command_compiled_ahead_of_time_says_why_it_has_no_ilgpu_device()
    {
        var provider = new IlgpuDevices.AbsentProvider();
        var probe = Assert.Single(provider.Probe());
        Assert.False(probe.Present);
        Assert.Contains("compiled ahead of time", probe.Reason, StringComparison.Ordinal);
        var error = Assert.Throws<OctetException>(() => provider.Open("ilgpu:cpu"));
        Assert.Equal(OctetStatus.NoDevice, error.Status);
        Assert.Contains("device 'ilgpu:cpu': this program was compiled ahead of time", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Logits_writes_one_row_for_each_token()
    {
        var folder = Directory.CreateTempSubdirectory("octet-").FullName;
        var path = Path.Combine(folder, "logits.safetensors");
        var (code, output, _) = await Run(
            "logits", "--ids", $"@{TinyModel.Golden("golden.safetensors")}:line.ids", "--output", path, "--device", "cpu");
        Assert.Equal((0, ""), (code, output));
        using (var file = SafeTensorsFile.Open(path))
        {
            Assert.Equal([18, 1024], file["logits"].Shape.ToArray());
        }

        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData("config.json", false)]
    [InlineData("model.safetensors", false)]
    [InlineData("ids.safetensors", false)]
    [InlineData("model.safetensors", true)]
    public async Task Logits_are_never_written_over_what_is_read(string name, bool throughLink)
    {
        var top = Directory.CreateTempSubdirectory("octet-").FullName;
        var folder = Directory.CreateDirectory(Path.Combine(top, "models", "this")).FullName;
        Directory.CreateSymbolicLink(Path.Combine(top, "link"), "models");
        foreach (var file in Directory.GetFiles(TinyModel.Directory))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }

        var ids = Path.Combine(folder, "ids.safetensors");
        File.Copy(TinyModel.Golden("golden.safetensors"), ids);
        var path = Path.Combine(folder, name);
        var before = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        var (code, _, error) = await Run("logits", "--model", folder, "--ids", $"@{ids}:line.ids", "--output", throughLink ? Path.Combine(top, "link", "this", name) : path, "--device", "cpu");
        Assert.Equal(2, code);
        Assert.Contains("which is read; name another file", error, StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken));
        Directory.Delete(top, recursive: true);
    }

    [Fact]
    public async Task An_interrupt_ends_logits_with_130_and_leaves_no_file()
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var folder = Directory.CreateTempSubdirectory("octet-").FullName;
        using var process = OctetProcess.Start(
            "logits", "--ids", string.Join(',', Enumerable.Repeat("1", 2048)), "--output", Path.Combine(folder, "x.safetensors"), "--device", "cpu");
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);

        // The file beside the one to be appears with the first logits: then the command is in the middle of its work.
        while (!process.HasExited && !Directory.EnumerateFiles(folder).Any())
        {
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }

        using (var kill = System.Diagnostics.Process.Start("kill", ["-INT", $"{process.Id}"]))
        {
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        }

        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal((130, "octet: interrupted\n"), (process.ExitCode, await error));
        Assert.Empty(Directory.EnumerateFiles(folder));
        Directory.Delete(folder);
    }

    [Fact]
    public async Task Generate_gives_several_choices_with_log_probabilities_and_ends_at_a_stop_string()
    {
        var (code, output, _) = await Run(
            "generate", "--prompt", "ROMEO:", "--max-tokens", "30", "--temperature", "1", "--seed", "3", "--n", "3", "--logprobs", "2", "--stop", "the", "--stop", "\n",
            "--min-p", "0.01", "--repetition-penalty", "1.1", "--presence-penalty", "0.1", "--frequency-penalty", "0.1", "--device", "cpu", "--json");
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        var choices = json.RootElement.GetProperty("choices").EnumerateArray().ToArray();
        Assert.Equal(3, choices.Length);
        Assert.Equal(json.RootElement.GetProperty("text").GetString(), choices[0].GetProperty("text").GetString());
        foreach (var choice in choices)
        {
            Assert.DoesNotContain("the", choice.GetProperty("text").GetString()!, StringComparison.Ordinal);
            Assert.Equal(choice.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32()), choice.GetProperty("logprobs").EnumerateArray().Select(token => token.GetProperty("id").GetInt32()));
            Assert.All(choice.GetProperty("logprobs").EnumerateArray(), token => Assert.Equal(2, token.GetProperty("most_likely").GetArrayLength()));
        }
    }

    [Fact]
    public async Task Generate_gives_the_log_probabilities_of_the_prompt()
    {
        var (code, output, _) = await Run("generate", "--prompt", "ROMEO:", "--max-tokens", "1", "--prompt-logprobs", "2", "--device", "cpu", "--json");
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        var logprobs = json.RootElement.GetProperty("prompt_logprobs").EnumerateArray().ToArray();
        Assert.Equal(json.RootElement.GetProperty("prompt_tokens").GetInt32(), logprobs.Length);
        Assert.Equal(JsonValueKind.Null, logprobs[0].ValueKind);
        Assert.All(logprobs.Skip(1), token =>
        {
            Assert.True(token.GetProperty("logprob").GetDouble() < 0);
            Assert.Equal(2, token.GetProperty("most_likely").GetArrayLength());
        });
    }

    [Fact]
    public async Task Generate_with_room_for_3_of_16_texts_says_how_often_one_made_room_and_gives_the_same_texts()
    {
        string[] arguments = ["generate", "--prompt", "ROMEO:", "--max-tokens", "120", "--temperature", "1", "--seed", "3", "--n", "16", "--device", "cpu", "--json"];
        using var roomy = JsonDocument.Parse((await Run(arguments)).Output);
        var (code, output, _) = await Run([.. arguments, "--kv-tokens", "384"]);
        Assert.Equal(0, code);
        using var tight = JsonDocument.Parse(output);
        Assert.Equal(0, roomy.RootElement.GetProperty("preemptions").GetInt32());
        Assert.True(tight.RootElement.GetProperty("preemptions").GetInt32() > 0, output);
        Assert.True(tight.RootElement.GetProperty("recomputed_tokens").GetInt32() >= 0, output);
        Assert.Equal(roomy.RootElement.GetProperty("choices").GetRawText(), tight.RootElement.GetProperty("choices").GetRawText());
    }

    [Fact]
    public async Task Without_a_native_library_generate_runs_on_cpu_and_says_so_in_one_line()
    {
        var (code, output, error) = await OctetProcess.Run(
            ["generate", "--prompt", "ROMEO:", "--max-tokens", "2"], ("OCTET_NATIVE_PATH", "/no/such/liboctet.so"));
        Assert.Equal(0, code);
        Assert.NotEmpty(output);
        var lines = error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        Assert.StartsWith("octet: running on cpu: the native library was not found, tried /no/such/liboctet.so; ", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("cpu (", lines[1], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Check_runs_on_the_device_of_the_environment_alone()
    {
        var (code, output, _) = await OctetProcess.Run(["check", "--op", "sampling", "--json"], ("OCTET_DEVICE", "cpu:fnuz"));
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        Assert.Equal(["cpu:fnuz"], json.RootElement.GetProperty("cases").EnumerateArray().Select(c => c.GetProperty("device").GetString()).Distinct());
    }

    [Theory]
    [InlineData("tpu:0", "generate", "--prompt", "x")]
    [InlineData("hip:99", "generate", "--prompt", "x")]
    [InlineData("hip:99", "check", "--op", "norm")]
    [InlineData("tpu:0", "bench", "--op", "norm")]
    [InlineData("sim:gfx90a", "logits", "--ids", "1", "--output", "octet-unwritten.safetensors")]
    [InlineData("cpu:ocp", "perplexity", "--ids", "1,2,3", "--window", "3")]
    public async Task Bad_device_in_the_environment_is_an_error_that_names_it_and_nothing_else_is_opened(string device, params string[] arguments)
    {
        var (code, output, error) = await OctetProcess.Run(arguments, ("OCTET_DEVICE", device));
        Assert.Equal((2, ""), (code, output));
        Assert.StartsWith($"octet: OCTET_DEVICE: {(device.StartsWith("hip", StringComparison.Ordinal) ? "device" : "unknown device")} '{device}'", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Devices_says_which_one_is_opened_where_none_is_named()
    {
        var (code, output, _) = await OctetProcess.Run(["devices", "--json"], ("OCTET_DEVICE", "sim"));
        Assert.Equal(0, code);
        using var json = JsonDocument.Parse(output);
        Assert.Equal("sim:gfx942", json.RootElement.GetProperty("default").GetString());
        Assert.True(json.RootElement.GetProperty("devices").EnumerateArray().Single(d => d.GetProperty("name").GetString() == "cpu:fnuz").GetProperty("only_when_named").GetBoolean());
        Assert.False(json.RootElement.GetProperty("devices").EnumerateArray().Single(d => d.GetProperty("name").GetString() == "cpu").GetProperty("only_when_named").GetBoolean());

        (code, output, _) = await OctetProcess.Run(["devices"], ("OCTET_DEVICE", "tpu"));
        Assert.Equal(0, code);
        Assert.Contains("\nwithout --device (OCTET_DEVICE=tpu): none; OCTET_DEVICE: unknown device 'tpu'", Unfolded(output), StringComparison.Ordinal);

        (_, output, _) = await OctetProcess.Run(["devices"], ("OCTET_NATIVE_PATH", "/no/such/liboctet.so"));
        Assert.Contains("\nwithout --device: cpu; the native library was not found, tried /no/such/liboctet.so", Unfolded(output), StringComparison.Ordinal);
        Assert.All(output.Split('\n'), line => Assert.True(line.Length <= 80, line));
    }

    // A line that goes on below is indented there.
    private static string Unfolded(string output) => System.Text.RegularExpressions.Regex.Replace(output, "\n {4,8}(?=[^ ])", " ");

    [Fact]
    public async Task Without_a_command_the_help_text_comes_on_stderr()
    {
        var (code, output, error) = await Run();
        Assert.Equal((2, ""), (code, output));
        Assert.Contains("octet [command]", error, StringComparison.Ordinal);
        Assert.Contains("generate", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("generate")]
    [InlineData("generate", "--prompt", "x", "--max-tokens", "many")]
    [InlineData("generate", "--prompt", "x", "--logprobs", "2")]
    [InlineData("generate", "--prompt", "x", "--logprobs", "21", "--json")]
    [InlineData("generate", "--prompt", "x", "--prompt-logprobs", "2")]
    [InlineData("generate", "--prompt", "x", "--prompt-logprobs", "21", "--json")]
    [InlineData("generate", "--prompt", "x", "--kv-tokens", "0")]
    [InlineData("generate", "--prompt", "x", "--stop", "")]
    [InlineData("generate", "--prompt", "x", "--n", "0")]
    [InlineData("generate", "--prompt", "x", "--min-p", "1.5")]
    [InlineData("generate", "--prompt", "x", "--presence-penalty", "3")]
    [InlineData("generate", "--prompt", "x", "--repetition-penalty", "0")]
    [InlineData("generate", "--prompt", "x", "--kv", "fp4")]
    [InlineData("generate", "--prompt", "x", "--device", "tpu:0")]
    [InlineData("generate", "--prompt", "x", "--device", "hip:99")]
    [InlineData("generate", "--prompt", "x", "--device", "hip:0,0")]
    [InlineData("generate", "--prompt", "x", "--device", "cpu*2")]
    [InlineData("generate", "--prompt", "x", "--device", "cpu", "--dp", "2")]
    [InlineData("generate", "--prompt", "x", "--device", "cpu*3", "--dp", "3")]
    [InlineData("generate", "--prompt", "x", "--device", "cpu*2", "--tp", "2", "--ep", "4")]
    [InlineData("generate", "--prompt", "", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--model", "/nonexistent", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--model", "", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--temperature", "-1", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--temperature", "0,5", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--top-p", "2", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--top-k", "-1", "--device", "cpu")]
    [InlineData("generate", "--prompt", "x", "--max-tokens", "0", "--device", "cpu")]
    [InlineData("generate", "--promt", "x")]
    [InlineData("logits", "--ids", "1", "--output", "", "--device", "cpu")]
    [InlineData("logits", "--ids", "1", "--output", "/no/such/folder/x", "--device", "cpu")]
    [InlineData("logits", "--ids", "1,x", "--output", "octet-unwritten.safetensors", "--device", "cpu")]
    [InlineData("logits", "--ids", "1,5000", "--output", "octet-unwritten.safetensors", "--device", "cpu")]
    [InlineData("logits", "--ids", "@missing.safetensors:ids", "--output", "octet-unwritten.safetensors", "--device", "cpu")]
    [InlineData("perplexity", "--ids", "1,2,3", "--window", "1", "--device", "cpu")]
    [InlineData("perplexity", "--ids", "1,2,3", "--window", "4", "--device", "cpu")]
    [InlineData("check", "--op", "convolution")]
    [InlineData("frobnicate")]
    public async Task Bad_input_is_exit_code_2_and_one_line(params string[] arguments)
    {
        var (code, output, error) = await Run(arguments);
        Assert.Equal((2, ""), (code, output));
        Assert.StartsWith("octet: ", error, StringComparison.Ordinal);
        Assert.Equal(error.Length - 1, error.IndexOf('\n', StringComparison.Ordinal));
        Assert.DoesNotContain("System.", error, StringComparison.Ordinal);
        Assert.False(File.Exists("octet-unwritten.safetensors"));
    }

    private static Task<(int Code, string Output, string Error)> Run(params string[] arguments) => OctetProcess.Run(arguments);
}
