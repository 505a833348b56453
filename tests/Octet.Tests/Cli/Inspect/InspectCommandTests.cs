using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Octet.Backends;
using Octet.Cli.Inspect;

namespace Octet.Tests.Cli.Inspect;

/// <summary>The planned device, the form of the output, comparison, and the command as a whole.</summary>
public sealed class InspectCommandTests
{
    [Fact]
    public void A_planned_device_writes_launches_down_and_runs_nothing()
    {
        using var plan = new OpSession("plan:gfx942");
        var launch = Assert.Single(plan.Plan(Step.Gemm(4096, 4096, 4096)).Launches);
        Assert.StartsWith("gemm_fp8", launch.Kernel, StringComparison.Ordinal);
        Assert.True(launch is { Blocks: > 0, Threads: >= 64, LdsBytes: > 0 and <= 65_536 }, launch.ToString());
        Assert.Empty(((NativeBackend)plan.Device.Backend).TakePlannedLaunches());
    }

    [Fact]
    public void Only_a_planned_device_has_planned_launches()
    {
        using var device = Device.Open("sim");
        var error = Assert.Throws<OctetException>(() => ((NativeBackend)device.Backend).TakePlannedLaunches());
        Assert.Equal(OctetStatus.Unsupported, error.Status);
        Assert.DoesNotContain(Device.Probe(), p => p.Name.StartsWith("plan", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("gfx942")]
    [InlineData("gfx950")]
    public void Every_shape_of_the_table_can_be_planned(string target)
    {
        using var plan = new OpSession($"plan:{target}");
        var shapes = ShapeTable.All();
        Assert.Equal(shapes.Count, shapes.Select(s => (s.Op, s.Name)).Distinct().Count());
        Assert.All(shapes.SelectMany(s => s.Steps).Concat(ColdSteps.All).Concat(ShapeTable.Small.SelectMany(s => new[] { s.Short, s.Long }).OfType<Step>()), s => Assert.NotEmpty(plan.Plan(s).Launches));
    }

    [Fact]
    public void Counters_become_ratios_to_the_ideal()
    {
        // 2 accesses of 16 bytes a lane: 8 rows of the banks each. 4 extra passes for 8 ideal ones.
        var mix = new InstructionMix(new Dictionary<string, int> { ["lds_read_b128"] = 2 }, 2 * 64 * 16, 0, 0, 0, 0);
        var counters = new NativeKernelCounters
        {
            GlobalReadBytes = 1024, GlobalWriteBytes = 1024, GlobalTransactions = 48, LdsAccesses = 1, LdsBankConflicts = 4,
        };
        Assert.Equal(new Counted(1.5, 1.5), Simulation.Ratios(counters, mix));
        Assert.Equal(Counted.Ideal, Simulation.Ratios(default, mix));
    }

    [Fact]
    public void A_longer_run_less_a_shorter_one_is_the_loops_part()
    {
        var less = new NativeKernelCounters { GlobalReadBytes = 100, GlobalTransactions = 4, LdsAccesses = 10, LdsBankConflicts = 8 };
        var more = new NativeKernelCounters { GlobalReadBytes = 228, GlobalTransactions = 6, LdsAccesses = 20, LdsBankConflicts = 8 };
        var loop = Simulation.Difference(more, less);
        Assert.Equal((128, 2, 10, 0), (loop.GlobalReadBytes, loop.GlobalTransactions, loop.LdsAccesses, loop.LdsBankConflicts));
        Assert.Equal(more.GlobalReadBytes, Simulation.Difference(more, more).GlobalReadBytes);
    }

    [Fact]
    public void The_simulator_counts_the_small_shapes()
    {
        var kernel = CostModelTests.Kernel(100, 0);
        kernel = kernel with { Resources = kernel.Resources with { Name = "norm_row" } };
        var counted = Simulation.Count("gfx942", "norm", new Dictionary<string, KernelCost> { ["norm_row"] = kernel }, null);
        Assert.InRange(counted["norm_row"].Transactions, 1, 2);
    }

    [Fact]
    public void Matrix_launches_get_the_products_and_the_others_what_lies_in_the_workspace()
    {
        var gemm = CostModelTests.Kernel(clocks: 100, matrix: 50, macs: 8192);
        var reduce = CostModelTests.Kernel(clocks: 100, matrix: 0, loads: 1024);
        var op = new OpWork(200, 1000, _ => 64_000);
        var works = ModelledShape.Divide(
            op, [new("gemm_fp8_m64n128", 10, 256, 1024), new("gemm_reduce", 3, 128, 0)], 400,
            new Dictionary<string, KernelCost> { ["gemm_fp8_m64n128"] = gemm, ["gemm_reduce"] = reduce }).ToList();
        Assert.Equal([(64_000.0, 1400.0, 4, 10.0), (0.0, 400.0, 2, 3.0)], works.Select(w => (w.Macs, w.HbmBytes, w.Waves, w.Blocks)));
    }

    [Fact]
    public void Json_has_the_documented_fields()
    {
        using var json = Json(microseconds: 12.3456);
        Assert.Equal(["target", "build", "kernels", "shapes"], json.RootElement.EnumerateObject().Select(p => p.Name));
        var kernel = json.RootElement.GetProperty("kernels")[0];
        Assert.Equal(
            ["op", "name", "target", "vgprs", "agprs", "sgprs", "lds_bytes", "spills", "scratch_bytes", "waves_per_simd", "hot_loop"],
            kernel.EnumerateObject().Select(p => p.Name));
        Assert.Equal(["cycles", "matrix_busy", "instructions"], kernel.GetProperty("hot_loop").EnumerateObject().Select(p => p.Name));
        Assert.Equal((6, 1), (kernel.GetProperty("hot_loop").GetProperty("instructions").GetProperty("total").GetInt32(), kernel.GetProperty("hot_loop").GetProperty("instructions").GetProperty("mfma").GetInt32()));
        Assert.Equal(2048, kernel.GetProperty("lds_bytes").GetInt64());
        var shape = json.RootElement.GetProperty("shapes")[0];
        Assert.Equal(
            ["op", "name", "config", "blocks", "microseconds", "tflops", "gbytes_per_second", "binds", "terms"],
            shape.EnumerateObject().Select(p => p.Name));
        Assert.Equal(12.346, shape.GetProperty("microseconds").GetDouble());
        Assert.Equal("hbm", shape.GetProperty("binds").GetString());
        Assert.Equal(
            ["matrix", "vector", "lds", "cache", "hbm", "wait", "launch", "tail"], shape.GetProperty("terms").EnumerateObject().Select(p => p.Name));
    }

    [Theory]
    [InlineData(10, 10, 0.02, 0)]
    [InlineData(10, 10.1, 0.02, 0)]
    [InlineData(10, 10.3, 0.02, 1)]
    [InlineData(10, 10.3, 0.05, 0)]
    [InlineData(10, 5, 0.02, 0)]
    public void A_time_is_a_regression_beyond_the_threshold(double before, double after, double threshold, int regressions)
    {
        using var old = Json(before);
        using var now = Json(after);
        Assert.Equal(regressions, Comparison.Of(old.RootElement, now.RootElement, threshold).Regressions);
    }

    [Fact]
    public void Spills_and_a_less_busy_matrix_unit_are_regressions_and_gains_are_told()
    {
        using var old = Json(10);
        using var spilled = Json(5, spills: 3, clocks: 150);
        var comparison = Comparison.Of(old.RootElement, spilled.RootElement, 0.02);
        Assert.Equal(2, comparison.Regressions);
        Assert.Contains(comparison.Lines, l => l.StartsWith("worse", StringComparison.Ordinal) && l.EndsWith("spills 0 -> 3", StringComparison.Ordinal));
        Assert.Contains(comparison.Lines, l => l.StartsWith("worse", StringComparison.Ordinal) && l.Contains("matrix_busy 0.5 -> 0.333", StringComparison.Ordinal));
        Assert.Contains(comparison.Lines, l => l.StartsWith("better", StringComparison.Ordinal) && l.Contains("microseconds 10 -> 5 (-50.0 %)", StringComparison.Ordinal));
    }

    [Fact]
    public void What_is_new_or_gone_is_told_and_is_no_regression()
    {
        using var old = Json(10, name: "old");
        using var now = Json(10, name: "now");
        var comparison = Comparison.Of(old.RootElement, now.RootElement, 0.02);
        Assert.Equal(["gone    gemm old", "new     gemm now"], comparison.Lines);
        Assert.Equal(0, comparison.Regressions);
    }

    [Fact]
    public async Task The_command_writes_json_and_compares_with_it()
    {
        var path = Path.Combine(Directory.CreateTempSubdirectory("octet").FullName, "old.json");
        var (code, output, error) = await Run(null, "inspect", "--op", "kv_cache", "--target", "gfx942", "--no-sim", "--json");
        Assert.Equal((0, ""), (code, error));
        using (var json = JsonDocument.Parse(output))
        {
            Assert.Contains(json.RootElement.GetProperty("kernels").EnumerateArray(), k => k.GetProperty("name").GetString() == "kv_write");
        }

        await File.WriteAllTextAsync(path, output);
        (code, output, _) = await Run(null, "inspect", "--op", "kv_cache", "--target", "gfx942", "--no-sim", "--compare", path);
        Assert.Equal(0, code);
        Assert.Matches("^against gfx942 of clang .*no regression$", output.Trim().ReplaceLineEndings(" "));

        // Fewer spills than none cannot be: the same figures against a better past are a regression.
        await File.WriteAllTextAsync(path, (await File.ReadAllTextAsync(path)).Replace("\"spills\": 0", "\"spills\": -1", StringComparison.Ordinal));
        (code, output, _) = await Run(null, "inspect", "--op", "kv_cache", "--target", "gfx942", "--no-sim", "--compare", path);
        Assert.Equal(1, code);
        Assert.Contains("regressions", output, StringComparison.Ordinal);
        Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);
    }

    [Fact]
    public async Task Missing_tools_unknown_ops_and_bad_files_are_exit_code_2_with_a_remedy()
    {
        var empty = Directory.CreateTempSubdirectory("octet").FullName;
        var (code, _, error) = await Run(empty, "inspect", "--op", "norm");
        Assert.Equal(2, code);
        Assert.Contains("llvm-objdump", error, StringComparison.Ordinal);
        (code, _, error) = await Run(null, "inspect", "--op", "convolution");
        Assert.Equal(2, code);
        Assert.Contains("moe_gate_up", error, StringComparison.Ordinal);
        var file = Path.Combine(empty, "no.json");
        await File.WriteAllTextAsync(file, "{}");
        (code, _, error) = await Run(null, "inspect", "--compare", file);
        Assert.Equal(2, code);
        Assert.Contains("kernels and shapes", error, StringComparison.Ordinal);
        await File.WriteAllTextAsync(file, "{\"target\": \"gfx950\", \"kernels\": [], \"shapes\": []}");
        (code, _, error) = await Run(null, "inspect", "--compare", file);
        Assert.Equal(2, code);
        Assert.Contains("it is of gfx950, this run is of gfx942", error, StringComparison.Ordinal);
        await File.WriteAllTextAsync(file, "{\"target\": \"gfx942\", \"kernels\": [], \"shapes\": []}");
        (code, _, error) = await Run(null, "inspect", "--op", "kv_cache", "--no-sim", "--compare", file);
        Assert.Equal(2, code);
        Assert.Matches("has none of this run's [0-9]+ kernels and [0-9]+ shapes: the same --op is needed\\s*$", error);
        Directory.Delete(empty, recursive: true);
    }

    [Theory]
    [InlineData("[]", "no output of octet inspect --json")]
    [InlineData("{\"kernels\": 1, \"shapes\": []}", "no output of octet inspect --json")]
    [InlineData("{\"kernels\": [3], \"shapes\": []}", "one of its kernels lacks a name or a figure (target, name, spills")]
    [InlineData("{\"kernels\": [], \"shapes\": [{\"op\": \"gemm\", \"name\": \"a\", \"microseconds\": \"1\"}]}", "one of its shapes lacks")]
    [InlineData("{\"kernels\": [], \"shapes\": [{\"op\": \"gemm\", \"name\": \"a\", \"microseconds\": 1}, {\"op\": \"gemm\", \"name\": \"a\", \"microseconds\": 1}]}", "'gemm a' is twice among its shapes")]
    [InlineData("{\"kernels\": [{\"target\": \"gfx950\", \"name\": \"k\", \"spills\": 0, \"scratch_bytes\": 0, \"waves_per_simd\": 1, \"hot_loop\": {\"matrix_busy\": 1}}], \"shapes\": []}", "it is of gfx950, this run is of gfx942")]
    public void A_file_that_cannot_be_compared_is_refused_with_the_reason(string text, string reason)
    {
        using var json = JsonDocument.Parse(text);
        Assert.Contains(reason, Assert.Throws<FormatException>(() => Comparison.Require(json.RootElement, "gfx942")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_table_wider_than_the_terminal_goes_on_in_another_with_the_same_names()
    {
        string[] header = ["kernel", "registers", "clocks"];
        string[][] rows = [["gemm", "128", "1000"], ["norm", "9", "7"]];
        Assert.Equal(
            "kernel  registers  clocks\ngemm          128    1000\nnorm            9       7\n", InspectTable.Plain(header, rows, 1, 25).ReplaceLineEndings("\n"));
        Assert.Equal(
            "kernel  registers\ngemm          128\nnorm            9\n\nkernel  clocks\ngemm      1000\nnorm         7\n",
            InspectTable.Plain(header, rows, 1, 24).ReplaceLineEndings("\n"));
    }

    private static JsonDocument Json(double microseconds, int spills = 0, double clocks = 100, string name = "square")
    {
        var kernel = CostModelTests.Kernel(clocks, matrix: 50);
        kernel = kernel with { Resources = kernel.Resources with { Spills = spills } };
        var terms = new Terms(1, 2, 3, 4, 5, 0, 1, 0, microseconds);
        var shape = new ModelledShape("gemm", name, kernel.Name, 1, 64, 1e9, 1e6, terms, 0);
        var inspection = new Inspection(
            new(Gpu.Gfx942, new Dictionary<string, KernelCost>(), new Dictionary<string, Counted>()), [kernel], [shape],
            new Dictionary<string, long> { [kernel.Name] = 2048 }, "clang 22");
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            InspectJson.Write(inspection, writer);
            writer.WriteEndObject();
        }

        return JsonDocument.Parse(Encoding.UTF8.GetString(buffer.ToArray()));
    }

    private static async Task<(int Code, string Output, string Error)> Run(string? llvm, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, "Octet.Cli.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (llvm is not null)
        {
            start.Environment["OCTET_LLVM"] = llvm;
        }

        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output, await error);
    }
}
