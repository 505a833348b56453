using System.CommandLine;
using System.Text;
using System.Text.Json;
using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>octet inspect: what every kernel costs and how long every shape of the model takes, modelled from the compiled code.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        var command = new Command("inspect", "Read the compiled kernels and model the time of every shape of the model; no GPU is needed");
        var target = new Option<string?>("--target") { Description = "gfx942 or gfx950; without it the kernels of both, the shapes on gfx942" }.AcceptOnlyFromAmong(Inspection.Targets);
        var op = new Option<string?>("--op") { Description = "One op only, by its name in the C ABI, or a kernel family" };
        var noSim = new Option<bool>("--no-sim") { Description = "Leave the simulator's counts of small shapes out: transactions and bank conflicts count as ideal" };
        var json = new Option<bool>("--json") { Description = "One JSON object" };
        var compare = new Option<FileInfo?>("--compare") { Description = "Print what got better or worse than in this --json output; exit code 1 on a regression" };
        var threshold = NumberOption.Create("--threshold", "With --compare: share by which a figure may get worse", 0.02, "a number of at least 0", x => x >= 0);
        var report = new Option<FileInfo?>("--report") { Description = "Write the tables as Markdown to this file" };
        var step = new StepArguments();
        foreach (var option in (Option[])[target, op, noSim, json, compare, threshold, report, .. step.All])
        {
            command.Add(option);
        }

        command.SetAction(parsed =>
        {
            var gpu = Gpu.Of(parsed.GetValue(target) ?? Inspection.Targets[0]);
            if (step.Find(parsed, [op, compare, report], () => ReadCosts(gpu, !parsed.GetValue(noSim))) is { } cost)
            {
                Print(cost, gpu, parsed.GetValue(json));
                return CommandLine.Success;
            }

            using var old = parsed.GetValue(compare) is { } file ? Load(file, parsed.GetValue(target) ?? Inspection.Targets[0]) : null;
            var inspection = Inspect(parsed.GetValue(target), parsed.GetValue(op), !parsed.GetValue(noSim));
            if (parsed.GetValue(report) is { } path)
            {
                File.WriteAllText(path.FullName, InspectReport.Write(inspection));
            }

            if (old is not null)
            {
                return Compare(parsed.GetValue(compare)!, old.RootElement, inspection, parsed.GetValue(threshold));
            }

            if (parsed.GetValue(json))
            {
                JsonOutput.Write(writer => InspectJson.Write(inspection, writer));
            }
            else if (parsed.GetValue(report) is null)
            {
                Console.Out.WriteLine("Modelled from the compiled code, not measured.");
                Console.Out.WriteLine();
                Console.Out.WriteLine(InspectTable.Plain(InspectTable.KernelHeader, [.. inspection.Kernels.Select(k => InspectTable.Row(inspection, k))], 2, Terminal.Columns));
                Console.Out.Write(InspectTable.Plain(InspectTable.ShapeHeader, [.. inspection.Shapes.Select(InspectTable.Row)], 2, Terminal.Columns));
            }

            return CommandLine.Success;
        });
        return command;
    }

    private static Inspection Inspect(string? target, string? op, bool simulate)
    {
        using var bar = new ProgressBar("inspecting");
        return Inspection.Run(target, op, simulate, bar.Report<(long Done, long Total)>(p => p));
    }

    private static KernelCosts ReadCosts(Gpu gpu, bool simulate)
    {
        using var bar = new ProgressBar("inspecting");
        return KernelCosts.Read(gpu, simulate, bar.Report<(long Done, long Total)>(p => p));
    }

    private static void Print(StepCost cost, Gpu gpu, bool json)
    {
        if (json)
        {
            JsonOutput.Write(writer => StepJson.Write(cost, gpu, NativeBackend.BuildInfo(), writer));
        }
        else
        {
            Console.Out.Write(StepTable.Plain(cost, gpu, Terminal.Columns));
        }
    }

    private static JsonDocument Load(FileInfo file, string target)
    {
        try
        {
            var document = JsonDocument.Parse(Directory.Exists(file.FullName) ? throw new FormatException("it is a folder") : File.ReadAllText(file.FullName));
            Comparison.Require(document.RootElement, target);
            return document;
        }
        catch (JsonException error)
        {
            throw new ArgumentException($"--compare: {file} is not JSON: {error.Message}", error);
        }
        catch (FormatException error)
        {
            throw new ArgumentException($"--compare: {file}: {error.Message}", error);
        }
    }

    private static int Compare(FileInfo file, JsonElement old, Inspection inspection, double threshold)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            InspectJson.Write(inspection, writer);
            writer.WriteEndObject();
        }

        using var now = JsonDocument.Parse(Encoding.UTF8.GetString(buffer.ToArray()));
        var comparison = Comparison.Of(old, now.RootElement, threshold);
        if (comparison.Matched == 0)
        {
            throw new ArgumentException($"--compare: {file} has none of this run's {inspection.Kernels.Count} kernels and {inspection.Shapes.Count} shapes: the same --op is needed");
        }

        Terminal.WriteLine($"against {inspection.Gpu.Target} of {(old.TryGetProperty("build", out var build) ? build.GetString() : "an unknown build")}");
        foreach (var line in comparison.Lines)
        {
            Terminal.WriteLine(line);
        }

        Console.Out.WriteLine(comparison.Regressions == 0 ? "no regression" : $"{comparison.Regressions} regressions");
        return comparison.Regressions == 0 ? CommandLine.Success : CommandLine.CheckFailed;
    }
}
