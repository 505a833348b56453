using System.Diagnostics;
using System.Reflection;

namespace Octet.Tests;

/// <summary>dotnet's own commands on this repository: its runner of tests, found through global.json and the project file, and its packages.</summary>
public sealed class DotnetTests
{
    private static readonly string s_configuration = typeof(DotnetTests).Assembly.GetCustomAttribute<AssemblyConfigurationAttribute>()!.Configuration;

    [Theory]
    [InlineData]
    [InlineData("--solution", "Kernels.sln")]
    [InlineData("--project", "tests/Octet.Tests", "--filter-class", "*.DotnetTests")]
    public async Task Dotnet_test_finds_the_tests(params string[] target)
    {
        var output = await Run("dotnet", ["test", .. target, "-c", s_configuration, "--no-build", "--list-tests"]);
        Assert.Contains(nameof(Dotnet_test_finds_the_tests), output, StringComparison.Ordinal);
    }

    // As README.md has it, but for a folder that is removed, and without any other source of packages.
    [Fact]
    public async Task Package_of_the_command_installs_and_generates_on_a_device_of_the_native_library()
    {
        var folder = Directory.CreateTempSubdirectory("octet-").FullName;
        var configuration = Path.Combine(folder, "NuGet.config");
        await File.WriteAllTextAsync(configuration, "<configuration><packageSources><clear /></packageSources></configuration>", TestContext.Current.CancellationToken);
        await Run("dotnet", ["pack", "src/Octet.Cli", "-c", s_configuration, "-o", $"{folder}/packages", "--no-build"]);
        await Run("dotnet", ["tool", "install", "--tool-path", $"{folder}/tool", "Octet.Cli", "--add-source", $"{folder}/packages", "--configfile", configuration]);
        var output = await Run($"{folder}/tool/octet", ["generate", "--prompt", "ROMEO:", "--max-tokens", "1", "--device", "sim", "--json"]);
        Assert.Contains("\"device\": \"sim:gfx942\"", output, StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
    }

    private static async Task<string> Run(string command, string[] arguments)
    {
        var start = new ProcessStartInfo(command, arguments) { WorkingDirectory = TinyModel.Root, RedirectStandardOutput = true, RedirectStandardError = true };

        // The library is packed as it lies there: a build of it would run beside the tests that use it.
        start.Environment["OctetBuildNative"] = "false";
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, $"exit code {process.ExitCode} of {command} {string.Join(' ', arguments)}: {output}{await error}");
        return output;
    }
}
