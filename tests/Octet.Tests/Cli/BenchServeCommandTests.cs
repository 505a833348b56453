using System.Text.Json;
using Octet.Tests.Cli.Serving;

namespace Octet.Tests.Cli;

/// <summary>octet bench serve against octet serve, both as a user runs them.</summary>
public sealed class BenchServeCommandTests
{
    [Fact]
    public async Task A_server_under_load_is_reported_in_full()
    {
        var folder = Directory.CreateTempSubdirectory("octet-").FullName;
        var (save, svg) = (Path.Combine(folder, "run.json"), Path.Combine(folder, "run.svg"));
        await using var server = await OctetServer.StartAsync();
        string[] bench = ["bench", "serve", "--base-url", server.Address, "--num-prompts", "12", "--max-concurrency", "4", "--random-input-len", "16", "--random-output-len", "8", "--ignore-eos"];
        var (code, output, error) = await OctetProcess.Run([.. bench, "--goodput", "ttft:100000", "tpot:100000", "--save", save, "--svg", svg]);
        Assert.Equal((0, "prompts: random token ids"), (code, error.Trim()));
        Assert.Contains("Successful requests:                     12        \nFailed requests:                         0         \n", output, StringComparison.Ordinal);
        Assert.Contains("Total input tokens:                      192       \nTotal generated tokens:                  96        \n", output, StringComparison.Ordinal);
        using var saved = JsonDocument.Parse(await File.ReadAllBytesAsync(save, TestContext.Current.CancellationToken));
        Assert.Equal(saved.RootElement.GetProperty("request_throughput").GetDouble(), saved.RootElement.GetProperty("request_goodput").GetDouble());
        Assert.All(saved.RootElement.GetProperty("requests").EnumerateArray(), request => Assert.Equal(8, request.GetProperty("output_tokens").GetInt32()));
        SvgTexts.LieInside(await File.ReadAllTextAsync(svg, TestContext.Current.CancellationToken));

        (code, output, _) = await OctetProcess.Run([.. bench, "--endpoint", "chat", "--request-rate", "100", "--json"]);
        using var json = JsonDocument.Parse(output);
        Assert.Equal((0, 12, 96), (code, json.RootElement.GetProperty("completed").GetInt32(), json.RootElement.GetProperty("total_output_tokens").GetInt32()));

        (code, _, error) = await OctetProcess.Run([.. bench, "--model", "other"]);
        Assert.Equal(2, code);
        Assert.Contains("a request before the run failed: status 404: the model 'other' is not served here", error, StringComparison.Ordinal);
        (code, _, error) = await OctetProcess.Run([.. bench, "--model", "other", "--warmup", "0"]);
        Assert.Equal(1, code);
        Assert.Contains("12 of 12 requests failed: status 404", error, StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData("--goodput is 'itl:5', expected ttft:MS, tpot:MS or e2el:MS", "--goodput", "itl:5")]
    [InlineData("--percentile-metrics has 'x'", "--percentile-metrics", "ttft,x")]
    [InlineData("--metric-percentiles has '101'", "--metric-percentiles", "101")]
    [InlineData("--extra-body is '[1]', expected a JSON object", "--extra-body", "[1]")]
    [InlineData("--base-url is 'localhost', expected an address", "--base-url", "localhost")]
    [InlineData("cannot be reached", "--base-url", "http://127.0.0.1:1")]
    public async Task What_cannot_be_run_is_one_line(string problem, params string[] arguments)
    {
        var (code, output, error) = await OctetProcess.Run(["bench", "serve", .. arguments]);
        Assert.Equal((2, ""), (code, output));
        Assert.Contains(problem, Assert.Single(error.TrimEnd().Split('\n')), StringComparison.Ordinal);
    }
}
