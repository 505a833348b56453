using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace Octet.Clients.Tests.Http;

/// <summary>
/// The npm packages openai, and ai with @ai-sdk/openai-compatible, against octet serve: the scripts of tests/clients, each of which prints
/// a line of JSON for each thing it tries. Skipped where node or the packages are not to be had.
/// </summary>
[Collection(nameof(Servers))]
public sealed class NodeTests(Servers servers)
{
    private static readonly Lazy<Task<(string Folder, string? Problem)>> s_packages = new(InstallAsync);

    [Fact]
    public async Task Package_openai_chats_streams_fails_retries_and_cancels()
    {
        var said = await RunAsync("openai.mjs");
        var (whole, stream) = (said["chat"], said["stream"]);
        Assert.NotEmpty(whole.GetProperty("text").GetString()!);
        Assert.Equal(whole.GetProperty("text").GetString(), stream.GetProperty("text").GetString());
        foreach (var answer in (JsonElement[])[whole, stream])
        {
            Assert.Equal("length", answer.GetProperty("reason").GetString());
            Assert.Equal(16, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        }

        Weather.Check(said["schema"].GetProperty("text").GetString()!);
        foreach (var call in (JsonElement[])[said["tool"], said["streamed tool"]])
        {
            Assert.Equal(("tell", "tool_calls"), (call.GetProperty("function").GetString(), call.GetProperty("reason").GetString()));
            Weather.Check(call.GetProperty("arguments").GetString()!);
        }

        Assert.NotEmpty(said["plain"].GetProperty("text").GetString()!);
        Assert.Equal(Servers.Model, Assert.Single(said["models"].GetProperty("ids").EnumerateArray()).GetString());
        Assert.Equal((401, "AuthenticationError"), Refusal("key"));
        Assert.Equal((404, "NotFoundError"), Refusal("model"));
        Assert.Equal((400, "BadRequestError"), Refusal("context"));
        Assert.Equal("context_length_exceeded", said["context"].GetProperty("code").GetString());
        Assert.Equal((503, "InternalServerError"), Refusal("busy"));
        Assert.Equal("length", said["retried"].GetProperty("reason").GetString());
        Assert.Equal(3, said["cancelled"].GetProperty("chunks").GetInt32());
        await Servers.IdleAsync(await servers.RoomyAsync());

        (int Status, string? Kind) Refusal(string name) =>
            (said[name].GetProperty("status").GetInt32(), said[name].GetProperty("kind").GetString());
    }

    [Fact]
    public async Task Package_ai_chats_streams_fails_and_cancels()
    {
        var said = await RunAsync("ai.mjs");
        var (whole, stream) = (said["chat"], said["stream"]);
        Assert.NotEmpty(whole.GetProperty("text").GetString()!);
        Assert.Equal(whole.GetProperty("text").GetString(), stream.GetProperty("text").GetString());
        foreach (var answer in (JsonElement[])[whole, stream])
        {
            Assert.Equal("length", answer.GetProperty("reason").GetString());
            Assert.Equal(16, answer.GetProperty("usage").GetProperty("outputTokens").GetInt32());
        }

        Weather.Check(said["schema"].GetProperty("text").GetString()!);
        Weather.Check(said["tool"].GetProperty("arguments").GetString()!);
        Assert.Equal("tool-calls", said["tool"].GetProperty("reason").GetString());
        Assert.Equal(401, said["key"].GetProperty("status").GetInt32());
        Assert.Equal(404, said["model"].GetProperty("status").GetInt32());
        Assert.Equal(400, said["context"].GetProperty("status").GetInt32());
        Assert.Contains("context_length_exceeded", said["context"].GetProperty("body").GetString(), StringComparison.Ordinal);
        Assert.True(said["cancelled"].GetProperty("aborted").GetBoolean());
        await Servers.IdleAsync(await servers.RoomyAsync());
    }

    private async Task<Dictionary<string, JsonElement>> RunAsync(string script)
    {
        var (folder, problem) = await s_packages.Value;
        Assert.SkipWhen(problem is not null, problem ?? "");
        var (code, output, error) = await RunAsync(
            folder, "node", script, $"{await servers.RoomyAsync()}", $"{await servers.NarrowAsync()}", Servers.Key, Servers.Model,
            Servers.EndOfText.ToString(CultureInfo.InvariantCulture), Weather.Schema);
        Assert.True(code == 0, $"{script} ended with {code}: {output}{error}");
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => JsonElement.Parse(line))
            .ToDictionary(line => line.GetProperty("name").GetString()!);
    }

    // The packages lie under build/, where the next run finds them: nothing is fetched again while the lock file is the same.
    private static async Task<(string Folder, string? Problem)> InstallAsync()
    {
        var source = Path.Combine(Root(), "tests", "clients");
        var folder = Path.Combine(Root(), "build", "clients");
        var wanted = Path.Combine(source, "package-lock.json");
        var installed = Path.Combine(folder, "node_modules", "installed-lock.json");
        var isCurrent = File.Exists(installed) && await File.ReadAllTextAsync(installed) == await File.ReadAllTextAsync(wanted);
        Directory.CreateDirectory(folder);
        foreach (var file in Directory.GetFiles(source))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        }

        try
        {
            var (_, version, _) = await RunAsync(folder, "node", "--version");
            if (!isCurrent)
            {
                var (code, _, error) = await RunAsync(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error");
                if (code != 0)
                {
                    return (folder, $"npm could not install the packages of tests/clients with node {version.Trim()}: {error.Trim()}");
                }

                File.Copy(wanted, installed);
            }

            return (folder, null);
        }
        catch (Win32Exception error)
        {
            return (folder, $"node and npm are needed: {error.Message}");
        }
    }

    private static async Task<(int Code, string Output, string Error)> RunAsync(string folder, string command, params string[] arguments)
    {
        var start = new ProcessStartInfo(command, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        try
        {
            var error = process.StandardError.ReadToEndAsync(limit.Token);
            var output = await process.StandardOutput.ReadToEndAsync(limit.Token);
            await process.WaitForExitAsync(limit.Token);
            return (process.ExitCode, output, await error);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            return (-1, "", $"{command} {arguments[0]} did not end in three minutes");
        }
    }

    private static string Root()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "Kernels.sln")))
        {
            folder = folder.Parent ?? throw new InvalidOperationException("the tests run from inside the repository");
        }

        return folder.FullName;
    }
}
