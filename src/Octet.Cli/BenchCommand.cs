using System.CommandLine;
using Octet.Cases;
using Octet.Cli.Bench;

namespace Octet.Cli;

/// <summary>octet bench: how fast the ops are on a device, against what it can do at most; and, below it, how fast a server is.</summary>
internal static class BenchCommand
{
    public static Command Create()
    {
        var command = new Command("bench", "Time the ops on the shapes of the target model, beside the ceilings measured in the same run; exit code 1 if --compare finds a loss");
        var op = new Option<string?>("--op") { Description = "One op only, by its name in the C ABI: gemm, moe_gate_up, ..." };
        var name = new Option<string?>("--name") { Description = "Only workloads whose name contains this" };
        var device = ModelArguments.CreateDevice();
        var seconds = NumberOption.Create("--seconds", "Time for each workload", 1.0, "a number over 0 and at most 3600", x => x is > 0 and <= 3600);
        var json = new Option<bool>("--json") { Description = "One JSON object" };
        var compare = new Option<string?>("--compare") { Description = "An earlier run's JSON: print the ratios" };
        var threshold = NumberOption.Create(
            "--threshold", "With --compare: the loss that counts as a regression, 0.1 for a tenth", 0.1, "a number between 0 and 1", x => x is > 0 and < 1);
        var plot = new Option<string?>("--plot") { Description = "Draw the roofline to this SVG file" };
        foreach (var option in (Option[])[op, name, device, seconds, json, compare, threshold, plot])
        {
            command.Add(option);
        }

        command.Add(BenchServeCommand.Create());
        command.SetAction((parsed, cancellation) =>
        {
            var workloads = Select(parsed.GetValue(op), parsed.GetValue(name));
            var earlier = parsed.GetValue(compare) is { } path ? BenchJson.Read(path) : null;
            using var opened = Open(parsed.GetValue(device));
            if (earlier is not null)
            {
                BenchComparison.Require(
                    parsed.GetValue(compare)!, earlier, opened.Name, opened.Properties.Description, [.. workloads.Select(w => (w.Op, w.Name))]);
            }

            var asJson = parsed.GetValue(json);
            var report = Run(workloads, opened, parsed.GetValue(seconds), asJson, cancellation);
            if (asJson)
            {
                JsonOutput.Write(writer => BenchJson.Write(report, writer));
            }

            if (parsed.GetValue(plot) is { } file)
            {
                File.WriteAllText(file, BenchPlot.Write(report));
            }

            return Task.FromResult(earlier is null ? CommandLine.Success : Compare(earlier, report, parsed.GetValue(threshold), asJson));
        });
        return command;
    }

    private static Workload[] Select(string? op, string? name)
    {
        var known = WorkloadList.All.Select(w => w.Op).Distinct().ToArray();
        if (op is not null && !known.Contains(op))
        {
            throw new ArgumentException($"--op: no workload of an op called '{op}'; there are {string.Join(", ", known)}");
        }

        Workload[] selected =
            [.. WorkloadList.All.Where(w => (op is null || w.Op == op) && (name is null || w.Name.Contains(name, StringComparison.Ordinal)))];
        return selected.Length > 0 ? selected : throw new ArgumentException($"--name: no workload's name contains '{name}'");
    }

    private static Device Open(string? name)
    {
        var device = ModelArguments.OpenDevice(name);
        if (!device.Name.StartsWith("sim", StringComparison.Ordinal))
        {
            return device;
        }

        device.Dispose();
        throw new ArgumentException("the simulator counts, it does not time: use 'octet inspect' for what a kernel costs");
    }

    private static BenchReport Run(Workload[] workloads, Device device, double seconds, bool json, CancellationToken cancellation)
    {
        var origin = BenchOrigin.Of(device);
        if (!json)
        {
            Terminal.WriteLine($"{device.Name} ({origin.DeviceDescription}): {origin}");
        }

        using var runner = new BenchRunner(device, seconds, cancellation);
        using var bar = new ProgressBar("timing");
        var progress = bar.Report<int>(done => (done, workloads.Length));
        var results = new List<BenchResult>();
        foreach (var workload in workloads)
        {
            progress.Report(results.Count);
            results.Add(runner.Run(workload));
            if (!json)
            {
                Write(results[^1]);
            }
        }

        bar.Dispose();
        var (ceilings, above) = (runner.Ceilings, results.Count(r => r.IsAboveCeiling));
        if (!json)
        {
            Terminal.WriteLine($"{device.Name}: ceilings {ceilings.GBytesPerSecond:f1} GB/s, {ceilings.GFlops:f0} GFLOP/s, measured in turn with the ops");
        }

        if (above > 0)
        {
            CommandLine.Note(
                $"! {above} of {results.Count} results lie over {BenchResult.MostShare:P0} of the ceiling measured beside them, more than there can be: do not rely on those shares; a run with a larger --seconds on an idle machine says whether they stand");
        }

        return new BenchReport(device.Name, origin, ceilings, results);
    }

    private static void Write(BenchResult result) => Terminal.WriteRow(
        $"{result.Op,-18} {result.Name,-48}",
        $"{result.Microseconds,10:f1} us +-{result.Spread,4:P0} {result.GFlops,8:f1} GFLOP/s {result.GBytesPerSecond,7:f2} GB/s "
        + $"{result.ShareOfCeiling,5:P0} of ceiling{(result.IsAboveCeiling ? '!' : ' ')} {result.AllocatedBytes} B");

    private static int Compare(BenchReport earlier, BenchReport now, double threshold, bool json)
    {
        var comparisons = BenchComparison.Of(earlier, now, threshold);
        var (output, columns) = json ? (Console.Error, int.MaxValue) : (Console.Out, Terminal.Columns);
        output.WriteLine(Terminal.Fold($"against {earlier.Results.Count} results of {earlier.Origin}", columns));
        foreach (var c in comparisons)
        {
            output.WriteLine(Terminal.Row(
                $"{(c.IsWorse ? "WORSE" : "     ")} {c.Op,-18} {c.Name,-48}",
                $"time x {c.TimeRatio:f2}, speed against the ceiling x {c.SpeedRatio:f2}{(c.IsAboveCeiling ? " !" : "")}", columns, indent: 6));
        }

        if (comparisons.Any(c => c.IsAboveCeiling))
        {
            output.WriteLine(Terminal.Fold($"! one of the two was measured at over {BenchResult.MostShare:P0} of its ceiling: the ratio is not to be relied on", columns));
        }

        return comparisons.Any(c => c.IsWorse) ? CommandLine.CheckFailed : CommandLine.Success;
    }
}
