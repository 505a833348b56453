using System.Diagnostics;
using Octet.Tests.Cli.Serving;

namespace Octet.Tests.Server;

/// <summary>
/// The page in Chromium, headless, against octet serve: page.test.mjs says what is seen. It needs node and npm, and Chromium. With the
/// variable OCTET_PAGE_PICTURE a picture of the page is written to that file of the repository: docs/serve-page.png is one.
/// </summary>
public sealed class PageTests
{
    private static readonly string Source = Path.Combine(TinyModel.Root, "tests", "Octet.Tests", "Server", "Page");
    private static readonly string Folder = Path.Combine(TinyModel.Root, "build", "page-test");

    [Fact]
    public async Task People_use_the_page_in_a_browser()
    {
        var picture = Environment.GetEnvironmentVariable("OCTET_PAGE_PICTURE");
        var browser = Find("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome");
        Assert.SkipWhen(Find("npm") is null, "npm is not there: install nodejs 20 or later");
        Assert.SkipWhen(browser is null, "Chromium is not there: apt-get install chromium-headless-shell");
        await InstallAsync();
        var keys = Path.Combine(Folder, "keys");
        await File.WriteAllTextAsync(keys, "page-key");
        await using var open = await OctetServer.StartAsync();
        await using var keyed = await OctetServer.StartAsync("--api-key-file", keys);
        var (code, output) = await RunAsync(
            "node", ["--test", "--test-reporter=spec", "--test-timeout=300000", "page.test.mjs"],
            ("OCTET_URL", open.Address), ("OCTET_KEYED_URL", keyed.Address), ("OCTET_KEY", "page-key"), ("CHROMIUM", browser),
            ("SCREENSHOT", picture is { Length: > 0 } ? Path.Combine(TinyModel.Root, picture) : null));
        Assert.True(code == 0, output);
    }

    // What the test needs of npm, in the versions of the lock file, into a folder that builds share.
    private static async Task InstallAsync()
    {
        Directory.CreateDirectory(Folder);
        foreach (var file in Directory.GetFiles(Source))
        {
            File.Copy(file, Path.Combine(Folder, Path.GetFileName(file)), overwrite: true);
        }

        var (code, output) = await RunAsync("npm", ["ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]);
        Assert.SkipWhen(code != 0, $"npm cannot install playwright-core: {output}");
    }

    private static async Task<(int Code, string Output)> RunAsync(
        string command, string[] arguments, params (string Name, string? Value)[] variables)
    {
        var start = new ProcessStartInfo(command, arguments)
        {
            WorkingDirectory = Folder, RedirectStandardOutput = true, RedirectStandardError = true,
        };
        foreach (var (name, value) in variables)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync();
        return (process.ExitCode, await output + await error);
    }

    private static string? Find(params string[] names) =>
        (from name in names
         from folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
         select Path.Combine(folder, name)).FirstOrDefault(File.Exists);
}
