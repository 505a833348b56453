using System.Text.Json;
using Octet.Cli.Serving;

namespace Octet.Tests.Cli.Serving;

/// <summary>The figures of a run, its table, JSON and drawing.</summary>
public sealed class LoadReportTests
{
    internal static readonly LoadSettings Settings = new()
    {
        BaseUrl = "http://127.0.0.1:8000",
        Model = "m",
        Endpoint = "/v1/completions",
        Prompts = "random token ids",
        Pace = new(null, 2, 0),
        Date = new(2026, 1, 31, 12, 0, 0, DateTimeKind.Utc),
        Goodput = [("ttft", 150), ("tpot", 20)],
    };

    // TTFT 100, 200, 300 ms; TPOT 10, 20, none; the last one has one token, and one failed.
    private static readonly LoadReport s_report = new(
        Settings,
        [
            new() { Start = 0, FirstToken = 0.1, Latency = 0.12, Gaps = [0.005, 0.015], PromptTokens = 10, OutputTokens = 3 },
            new() { Start = 0.1, FirstToken = 0.2, Latency = 0.24, Gaps = [0.04], PromptTokens = 10, OutputTokens = 3 },
            new() { Start = 0.2, FirstToken = 0.3, Latency = 0.3, PromptTokens = 10, OutputTokens = 1 },
            new() { Start = 0.3, Error = "status 503: full" },
        ],
        2);

    [Theory]
    [InlineData("ttft", 200, 200, 280, 298)]
    [InlineData("tpot", 15, 15, 19, 19.9)]
    [InlineData("itl", 20, 15, 35, 39.5)]
    [InlineData("e2el", 220, 240, 288, 298.8)]
    public void Percentiles_are_interpolated_over_requests_and_for_gaps_over_tokens(string metric, double mean, double median, double p90, double p99)
    {
        Assert.Equal(mean, s_report.Mean(metric), 9);
        Assert.Equal(median, s_report.Percentile(metric, 50), 9);
        Assert.Equal(p90, s_report.Percentile(metric, 90), 9);
        Assert.Equal(p99, s_report.Percentile(metric, 99), 9);
    }

    [Fact]
    public void Throughput_is_of_answered_requests_and_goodput_of_those_that_met_all_targets()
    {
        Assert.Equal((3, 1), (s_report.Answered.Count, s_report.Failed));
        Assert.Equal((1.5, 3.5, 18.5), (s_report.RequestThroughput, s_report.OutputThroughput, s_report.TotalThroughput));
        Assert.Equal(0.5, s_report.Goodput);
        Assert.Null(new LoadReport(Settings with { Goodput = [] }, s_report.Records, 2).Goodput);
        Assert.Equal([("status 503: full", 1)], s_report.Reasons);
    }

    [Fact]
    public void The_table_has_the_form_that_others_print()
    {
        var lines = LoadReportWriter.Table(s_report).Split('\n');
        Assert.Equal("============ Serving Benchmark Result ============", lines[0]);
        Assert.Equal("Successful requests:                     3         ", lines[1]);
        Assert.Equal("Failed requests:                         1         ", lines[2]);
        Assert.Equal("Maximum request concurrency:             2         ", lines[3]);
        Assert.Equal("Benchmark duration (s):                  2.00      ", lines[4]);
        Assert.Contains("Request goodput (req/s):                 0.50      ", lines);
        Assert.Contains("---------------Time to First Token----------------", lines);
        Assert.Contains("-----Time per Output Token (excl. 1st token)------", lines);
        Assert.Contains("---------------Inter-token Latency----------------", lines);
        Assert.Contains("----------------End-to-end Latency----------------", lines);
        Assert.Contains("Mean TTFT (ms):                          200.00    ", lines);
        Assert.Contains("P99 TPOT (ms):                           19.90     ", lines);
        Assert.Equal(new string('=', 50), lines[^2]);
        Assert.Equal(11 + 4 * 5 + 1, lines.Length - 1);
    }

    [Fact]
    public void Json_has_the_names_that_others_write_and_each_request()
    {
        var json = JsonElement.Parse(LoadRequest.Write(writer =>
        {
            writer.WriteStartObject();
            LoadReportWriter.Write(s_report, writer);
            LoadReportWriter.WriteRequests(s_report, writer);
            writer.WriteEndObject();
        }).Span);
        string[] names = ["duration", "completed", "failed", "max_concurrency", "request_throughput", "request_goodput", "output_throughput", "total_token_throughput"];
        string[] figures = [.. from metric in LoadReport.Metrics from figure in (string[])["mean", "median", "p90", "p99"] select $"{figure}_{metric}_ms"];
        Assert.All(names.Concat(figures), name => Assert.Equal(JsonValueKind.Number, json.GetProperty(name).ValueKind));
        Assert.Equal(280, json.GetProperty("p90_ttft_ms").GetDouble());
        Assert.Equal("status 503: full", json.GetProperty("requests")[3].GetProperty("error").GetString());
        Assert.Equal([5, 15], json.GetProperty("requests")[0].GetProperty("itl_ms").EnumerateArray().Select(gap => gap.GetDouble()));
    }

    [Fact]
    public void Every_latency_is_drawn_and_no_text_is_cut()
    {
        var svg = LoadPlot.Write(s_report);
        SvgTexts.LieInside(svg);
        Assert.Equal(3 + 2 + 3 + 2 * 4, svg.Split("<circle").Length - 1);
        Assert.Equal(5, svg.Split("fill=\"none\"").Length - 1);
        Assert.DoesNotContain("NaN", svg, StringComparison.Ordinal);

        var name = string.Join('/', Enumerable.Repeat("a-model-of-a-long-name", 9));
        SvgTexts.LieInside(LoadPlot.Write(new LoadReport(Settings with { Model = name }, [], 0)));
        SvgTexts.LieInside(LoadPlot.Write(new LoadReport(
            Settings, [new() { Start = 0, FirstToken = 123.456, Latency = 7654.321, Gaps = [1e-7, 8000], OutputTokens = 2 }], 9000)));
    }
}
