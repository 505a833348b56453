using System.Diagnostics;

namespace Octet.Tests;

/// <summary>What eng/native.sh lets people see of a build that takes minutes; ninja, cmake and sleep are stand-ins of a second.</summary>
public sealed class NativeBuildTests : IDisposable
{
    private const string Steps =
        """
        for step in 1 2 3 4 5 6 7 8; do /bin/sleep 0.1; echo "[$step/8] Compiling gemm for gfx942"; done
        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("octet-").FullName;

    public NativeBuildTests()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "eng"));
        File.Copy(Path.Combine(TinyModel.Root, "eng", "native.sh"), Path.Combine(_folder, "eng", "native.sh"));
        WriteTool("clang++-22", "echo 22.1.8");
        WriteTool("cmake", "touch build/native/build.ninja");
        WriteTool("sleep", "exec /bin/sleep 0.2");

        // As MSBuild does: it reads what the script prints, and shows it or not.
        WriteTool("dotnet", "eng/native.sh");
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("run")]
    [InlineData("test")]
    public async Task Silent_dotnet_command_shows_duration_and_steps_on_its_stderr(string verb)
    {
        WriteTool("ninja", Steps);
        WriteTool("dotnet", "eng/native.sh 2>&1 | cat >/dev/null");
        var (code, output, error) = await Dotnet(verb);
        Assert.Equal((0, ""), (code, output));
        Assert.Matches(
            """
            ^octet: building the native library, which takes about \d+ min on \d+ cores the first time; log: build/native/build.log
            (octet: native library: \d of 8 steps \(\d+ %\) after \d+ s, about \d+ s to go
            )+$
            """.ReplaceLineEndings("\n") + "\n?",
            error);
    }

    [Fact]
    public async Task Talkative_dotnet_command_passes_the_same_lines_on()
    {
        WriteTool("ninja", Steps);
        var (code, output, error) = await Dotnet("build");
        Assert.Equal((0, ""), (code, error));
        Assert.StartsWith("octet: building the native library, which takes about ", output, StringComparison.Ordinal);
        Assert.Contains(" of 8 steps (", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_with_nothing_to_do_says_nothing()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "build", "native"));
        File.WriteAllText(Path.Combine(_folder, "build", "native", "liboctet.so"), "");
        WriteTool("ninja", "echo 'ninja: no work to do.'");
        Assert.Equal((0, "", ""), await Dotnet("run"));
        Assert.Equal((0, "", ""), await Dotnet("build"));
    }

    [Fact]
    public async Task Failed_step_is_shown_with_the_compilers_words()
    {
        WriteTool(
            "ninja",
            """
            echo '[1/2] Compiling norm for gfx942'
            echo 'FAILED: gemm.o'
            echo 'gemm.hip:1:1: error: expected unqualified-id'
            exit 1
            """);
        var (code, output, _) = await Dotnet("build");
        Assert.Equal(1, code);
        Assert.EndsWith("FAILED: gemm.o\ngemm.hip:1:1: error: expected unqualified-id\n", output, StringComparison.Ordinal);
        Assert.DoesNotContain("Compiling norm", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Second_build_says_that_it_waits_for_the_first()
    {
        WriteTool("ninja", "touch started; while [ ! -e go ]; do /bin/sleep 0.05; done");
        var first = Dotnet("build");
        while (!File.Exists(Path.Combine(_folder, "started")))
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        WriteTool("sleep", "exec /bin/sleep 10");
        using var second = Start("build");
        Assert.Equal("octet: waiting for another build of the native library", await second.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        File.WriteAllText(Path.Combine(_folder, "go"), "");
        await second.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, (await first).Code);
    }

    private Process Start(string verb)
    {
        var start = new ProcessStartInfo(Path.Combine(_folder, "bin", "dotnet"), [verb, "-c", "Release"])
        {
            WorkingDirectory = _folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["PATH"] = $"{Path.Combine(_folder, "bin")}:{Environment.GetEnvironmentVariable("PATH")}";
        return Process.Start(start)!;
    }

    private async Task<(int Code, string Output, string Error)> Dotnet(string verb)
    {
        using var process = Start(verb);
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output, await error);
    }

    private void WriteTool(string name, string script)
    {
        var path = Path.Combine(Directory.CreateDirectory(Path.Combine(_folder, "bin")).FullName, name);
        File.WriteAllText(path, $"#!/bin/sh\n{script}\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }
}
