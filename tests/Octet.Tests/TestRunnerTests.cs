using System.Diagnostics;
using System.Reflection;

namespace Octet.Tests;

/// <summary>'dotnet test' finds its runner through global.json and the project file.</summary>
public sealed class TestRunnerTests
{
    [Theory]
    [InlineData]
    [InlineData("--solution", "Kernels.sln")]
    [InlineData("--project", "tests/Octet.Tests")]
    public async Task Dotnet_test_finds_the_tests(params string[] target)
    {
        var configuration = typeof(TestRunnerTests).Assembly.GetCustomAttribute<AssemblyConfigurationAttribute>()!.Configuration;
        var start = new ProcessStartInfo("dotnet") { WorkingDirectory = TinyModel.Root, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["test", .. target, "-c", configuration, "--no-build", "--list-tests", "--filter-class", "*.TestRunnerTests"])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, $"exit code {process.ExitCode}: {output}{await error}");
        Assert.Contains(nameof(Dotnet_test_finds_the_tests), output, StringComparison.Ordinal);
    }
}
