using System.Text;
using System.Text.Json;
using System.Xml.Linq;
using Octet.Cases;
using Octet.Cli.Bench;

namespace Octet.Tests.Cli.Bench;

public sealed class BenchTests
{
    private static readonly BenchReport s_report = new(
        "cpu", new BenchCeilings(20, 200),
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
            Assert.Equal((s_report.Device, s_report.Ceilings), (read.Device, read.Ceilings));
            Assert.Equal(s_report.Results, read.Results);
            File.WriteAllText(path, "{\"device\": 3}");
            Assert.Contains(path, Assert.Throws<ArgumentException>(() => BenchJson.Read(path)).Message);
        }
        finally
        {
            File.Delete(path);
        }
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

    private static string Json()
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            BenchJson.Write(s_report, writer);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
