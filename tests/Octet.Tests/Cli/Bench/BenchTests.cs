using System.Text;
using System.Text.Json;
using System.Xml.Linq;
using Octet.Cases;
using Octet.Cli.Bench;

namespace Octet.Tests.Cli.Bench;

public sealed class BenchTests
{
    private static readonly BenchReport s_report = new(
        "cpu", new BenchOrigin("AMD EPYC 7B13", new string('a', 40) + "-dirty", "AMD EPYC 7B13", 64, "Linux x64", ".NET 10.0.1", "2026-01-31T12:00:00Z"),
        new BenchCeilings(20, 200),
        [new("gemm", "QKV m1", 100, 0.02, 10, 16, 0.8, 0), new("gemm", "QKV m64", 5000, 0.01, 120, 0.5, 0.6, 0), new("norm", "1 x 4096", 4, 0.1, 0, 8, 0.4, 0)]);

    [Fact]
    public void Workload_on_the_cpu_is_timed_against_its_ceilings_and_allocates_nothing()
    {
        using var device = Device.Open("cpu");
        using var runner = new BenchRunner(device, 0.02, CancellationToken.None);
        var result = runner.Run(WorkloadList.Gemm("small", 2, 64, 256));
        Assert.True(result is { Microseconds: > 0, GFlops: > 0, GBytesPerSecond: > 0, ShareOfCeiling: > 0, AllocatedBytes: 0 }, result.ToString());
        Assert.True(runner.Ceilings is { GBytesPerSecond: > 0.1, GFlops: > 0.1 }, runner.Ceilings.ToString());
    }

    [Fact]
    public void Json_is_read_back_as_it_was_written()
    {
        var path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, Json());
            var read = BenchJson.Read(path);
            Assert.Equal((s_report.Device, s_report.Origin, s_report.Ceilings), (read.Device, read.Origin, read.Ceilings));
            Assert.Equal(s_report.Results, read.Results);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Theory]
    [InlineData("", "JSON")]
    [InlineData("{\"device\": \"cpu\", \"ceilings\"", "LineNumber: 0")]
    [InlineData("[]", "an object with 'ceilings' belongs stands a list")]
    [InlineData("null", "an object with 'ceilings' belongs stands null")]
    [InlineData("{\"kernels\": [], \"shapes\": []}", "'ceilings' is missing")]
    [InlineData("{\"ceilings\": 3}", "'ceilings' is a number, not an object")]
    [InlineData("{\"ceilings\": {}, \"results\": [3]}", "an object with 'microseconds' belongs stands a number")]
    [InlineData("{\"ceilings\": {}, \"results\": [{\"microseconds\": 0}]}", "microseconds = 0 must be positive")]
    [InlineData("{\"ceilings\": {}, \"results\": [{\"microseconds\": 1e999}]}", "must be finite")]
    [InlineData("{\"ceilings\": {}, \"results\": [{\"microseconds\": \"1\"}]}", "'microseconds' is a string, not a number")]
    [InlineData("{\"ceilings\": {}, \"results\": []}", "'device' is missing")]
    public void A_file_that_is_no_run_is_refused_with_the_place(string text, string problem)
    {
        var path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, text);
            var message = Assert.Throws<ArgumentException>(() => BenchJson.Read(path)).Message;
            Assert.StartsWith($"--compare: {path} is no output of 'octet bench --json': ", message, StringComparison.Ordinal);
            Assert.Contains(problem, message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_result_that_is_there_twice_is_refused_and_a_file_without_an_origin_is_read()
    {
        var path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, Json(s_report with { Results = [s_report.Results[0], s_report.Results[0]] }));
            Assert.Contains("'gemm QKV m1' is there twice", Assert.Throws<ArgumentException>(() => BenchJson.Read(path)).Message, StringComparison.Ordinal);
            using var json = JsonDocument.Parse(Json());
            File.WriteAllText(path, "{" + string.Join(",", json.RootElement.EnumerateObject()
                .Where(p => p.Name is "device" or "ceilings" or "results").Select(p => p.ToString())) + "}");
            var read = BenchJson.Read(path);
            Assert.Equal((BenchOrigin.Unknown, BenchOrigin.Unknown), (read.Origin.Commit, read.Origin.DeviceDescription));
            BenchComparison.Require(path, read, "cpu", "any processor", [("gemm", "QKV m1")]);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Theory]
    [InlineData("cuda:0", "AMD EPYC 7B13", "QKV m1", "old.json is of cpu (AMD EPYC 7B13), this run would be of cuda:0 (AMD EPYC 7B13)")]
    [InlineData("cpu:fnuz", "AMD EPYC 7B13", "QKV m1", "this run would be of cpu:fnuz")]
    [InlineData("cpu", "Xeon", "QKV m1", "this run would be of cpu (Xeon)")]
    [InlineData("cpu", "AMD EPYC 7B13", "QKV m2", "none of the 3 results of old.json is among the 1 workloads")]
    [InlineData("cpu", "AMD EPYC 7B13", "1 x 4096", "none of the 3 results")] // norm's, not gemm's
    public void A_run_of_another_device_or_of_other_workloads_is_refused(string device, string description, string name, string problem) =>
        Assert.Contains(
            problem,
            Assert.Throws<ArgumentException>(() => BenchComparison.Require("old.json", s_report, device, description, [("gemm", name)])).Message,
            StringComparison.Ordinal);

    [Fact]
    public void A_share_over_105_percent_is_marked()
    {
        var fast = s_report.Results[0] with { ShareOfCeiling = 1.06 };
        Assert.True(fast.IsAboveCeiling);
        Assert.False((fast with { ShareOfCeiling = 1.05 }).IsAboveCeiling);
        var report = s_report with { Results = [fast, s_report.Results[1]] };
        using var json = JsonDocument.Parse(Json(report));
        Assert.Equal([true, false], json.RootElement.GetProperty("results").EnumerateArray().Select(r => r.GetProperty("above_ceiling").GetBoolean()));
        Assert.Equal([true, false], BenchComparison.Of(s_report, report, 0.1).Select(c => c.IsAboveCeiling));
        Assert.Equal([true, false], BenchComparison.Of(report, s_report, 0.1).Select(c => c.IsAboveCeiling));
    }

    [Fact]
    public async Task The_command_records_where_it_ran_and_refuses_what_it_cannot_compare_before_it_times_anything()
    {
        var folder = Directory.CreateTempSubdirectory("octet").FullName;
        try
        {
            string[] bench = ["bench", "--op", "norm", "--name", "64 x", "--seconds", "0.01"];
            var (code, output, _) = await OctetProcess.Run([.. bench, "--device", "cpu", "--json"]);
            Assert.Equal(0, code);
            using (var json = JsonDocument.Parse(output))
            {
                Assert.Equal("cpu", json.RootElement.GetProperty("device").GetString());
                Assert.Matches("^([0-9a-f]{40}(-dirty)?|unknown)$", json.RootElement.GetProperty("commit").GetString()!);
                Assert.Equal(Environment.ProcessorCount, json.RootElement.GetProperty("host").GetProperty("processors").GetInt32());
                Assert.StartsWith(".NET ", json.RootElement.GetProperty("runtime").GetString()!, StringComparison.Ordinal);
                Assert.InRange(json.RootElement.GetProperty("date").GetDateTime().ToUniversalTime(), DateTime.UtcNow.AddMinutes(-10), DateTime.UtcNow.AddMinutes(1));
            }

            var path = Path.Combine(folder, "old.json");
            await File.WriteAllTextAsync(path, output);
            (code, output, _) = await OctetProcess.Run([.. bench, "--device", "cpu", "--threshold", "0.99", "--compare", path]);
            Assert.Equal(0, code);
            Assert.Contains("against ", output, StringComparison.Ordinal);
            Assert.All(output.Split('\n'), line => Assert.True(line.Length <= 80, line));
            await RefusesInOneLine("cpu:fnuz", "--op", "norm", "--device", "cpu:fnuz", "--compare", path);
            await RefusesInOneLine("none of the", "--op", "gemm", "--device", "cpu", "--compare", path);
            await RefusesInOneLine("no output of 'octet bench --json'", "--op", "norm", "--device", "cpu", "--compare", typeof(BenchTests).Assembly.Location);
            await RefusesInOneLine("it is a folder", "--op", "norm", "--device", "cpu", "--compare", folder);
            await RefusesInOneLine("missing.json", "--op", "norm", "--device", "cpu", "--compare", Path.Combine(folder, "missing.json"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task RefusesInOneLine(string problem, params string[] arguments)
    {
        var (code, output, error) = await OctetProcess.Run(["bench", .. arguments]);
        Assert.Equal((2, ""), (code, output));
        Assert.Contains(problem, error, StringComparison.Ordinal);
        Assert.Equal(1, error.Count(c => c == '\n'));
    }

    [Fact]
    public void Comparison_is_of_shares_so_a_slower_machine_is_no_regression()
    {
        // Twice the time under half the ceilings: the same share. Then a real loss of a quarter.
        var slower = s_report with { Results = [s_report.Results[0] with { Microseconds = 200 }, s_report.Results[1] with { ShareOfCeiling = 0.45 }] };
        var comparisons = BenchComparison.Of(s_report, slower, 0.1);
        Assert.Equal([(2.0, 1.0, false), (1.0, 0.75, true)], comparisons.Select(c => (c.TimeRatio, Math.Round(c.SpeedRatio, 3), c.IsWorse)));
        Assert.DoesNotContain(BenchComparison.Of(s_report, slower, 0.3), c => c.IsWorse);
    }

    [Fact]
    public void Plot_is_an_svg_with_a_point_for_each_result_that_computes()
    {
        var svg = XDocument.Parse(BenchPlot.Write(s_report));
        Assert.Equal(2, svg.Descendants().Count(e => e.Name.LocalName == "title"));
    }

    [Fact]
    public void No_text_of_the_plot_is_cut_whatever_the_device_is_called_and_however_many_ops_there_are()
    {
        var name = "ilgpu:opencl:0 " + string.Join(' ', Enumerable.Repeat("Intel(R) Data Center GPU Max 1550 with a WWWWWWW of a name", 4)) + new string('W', 120);
        SvgTexts.LieInside(BenchPlot.Write(s_report));
        SvgTexts.LieInside(BenchPlot.Write(s_report with { Ceilings = new BenchCeilings(12345.6, 2_614_900), Origin = s_report.Origin with { DeviceDescription = name } }));
        SvgTexts.LieInside(BenchPlot.Write(s_report with { Device = name, Results = [] }));
        SvgTexts.LieInside(BenchPlot.Write(s_report with { Ceilings = new BenchCeilings(0, 0) }));
        var ops = Enumerable.Range(0, 40).Select(i => s_report.Results[0] with { Op = $"attention_prefill_of_kind_{i}", GFlops = i + 1 }).ToArray();
        SvgTexts.LieInside(BenchPlot.Write(s_report with { Results = ops }));
    }

    private static string Json(BenchReport? report = null)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            BenchJson.Write(report ?? s_report, writer);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
