using System.CommandLine;
using Octet.Cases;

namespace Octet.Cli;

/// <summary>octet check: the parity cases on this machine's devices.</summary>
internal static class CheckCommand
{
    public static Command Create()
    {
        var command = new Command("check", "Run the parity cases on this machine's devices; exit code 1 if one fails");
        var op = new Option<string?>("--op") { Description = "One op only, by its name in the C ABI: gemm, moe_gate_up, ..." };
        var device = ModelArguments.CreateDevice();
        var full = new Option<bool>("--full") { Description = "Also the cases that take long" };
        var json = new Option<bool>("--json") { Description = "One JSON object" };
        foreach (var option in (Option[])[op, device, full, json])
        {
            command.Add(option);
        }

        command.SetAction((parsed, cancellation) =>
        {
            var cases = Select(parsed.GetValue(op), parsed.GetValue(full));
            var results = Run(cases, parsed.GetValue(device), parsed.GetValue(json), cancellation);
            var (passed, failed, skipped) = (
                results.Count(r => r.Passed), results.Count(r => !r.Passed && r.SkippedReason is null), results.Count(r => r.SkippedReason is not null));
            if (parsed.GetValue(json))
            {
                WriteJson(results, passed, failed, skipped);
            }
            else
            {
                Console.Out.WriteLine($"{passed} passed, {failed} failed, {skipped} skipped");
            }

            return Task.FromResult(failed == 0 ? CommandLine.Success : CommandLine.CheckFailed);
        });
        return command;
    }

    private static Case[] Select(string? op, bool full)
    {
        var known = CaseList.All.Select(c => c.Op).Distinct().ToArray();
        return op is null || known.Contains(op)
            ? [.. CaseList.All.Where(c => (op is null || c.Op == op) && (full || c.Tier == CaseTier.Ci))]
            : throw new ArgumentException($"--op: no op is called '{op}'; there are {string.Join(", ", known)}");
    }

    // The device that was named here or by OCTET_DEVICE, or every one that is present; each absent kind is one line with its reason.
    private static List<CaseResult> Run(Case[] cases, string? name, bool json, CancellationToken cancellation)
    {
        var results = new List<CaseResult>();
        var names = new List<string?>();
        if (!string.IsNullOrEmpty(name) || Device.NameFromEnvironment is not null)
        {
            names.Add(name);
        }
        else
        {
            foreach (var probe in Device.Probe())
            {
                if (probe.IsUsable)
                {
                    names.Add(probe.Name);
                }
                else
                {
                    Add(results, new CaseResult("*", "all cases", probe.Name, 0, 0, false, null, probe.Reason), json);
                }
            }
        }

        using var bar = new ProgressBar("checking");
        var progress = bar.Report<int>(done => (done, cases.Length * names.Count));
        var count = 0;
        foreach (var deviceName in names)
        {
            using var device = Device.Open(deviceName);
            foreach (var test in cases)
            {
                cancellation.ThrowIfCancellationRequested();
                Add(results, CaseResult.Run(test, device), json);
                progress.Report(++count);
            }
        }

        return results;
    }

    private static void Add(List<CaseResult> results, CaseResult result, bool json)
    {
        results.Add(result);
        if (!json)
        {
            var outcome = result.SkippedReason is not null ? "skipped" : result.Passed ? "passed " : "FAILED ";
            Terminal.WriteRow(
                $"{outcome} {result.Device,-11} {result.Op,-18} {result.Name}:",
                result.SkippedReason ?? result.Failure ?? $"error {result.Error:g3}, tolerance {result.Tolerance:g3}", indent: 8);
        }
    }

    private static void WriteJson(List<CaseResult> results, int passed, int failed, int skipped) => JsonOutput.Write(writer =>
    {
        writer.WriteStartArray("cases");
        foreach (var result in results)
        {
            writer.WriteStartObject();
            writer.WriteString("op", result.Op);
            writer.WriteString("name", result.Name);
            writer.WriteString("device", result.Device);
            WriteFinite(writer, "error", result.Error);
            WriteFinite(writer, "tolerance", result.Tolerance);
            writer.WriteBoolean("passed", result.Passed);
            writer.WriteString("failure", result.Failure);
            writer.WriteString("skipped_reason", result.SkippedReason);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        writer.WriteNumber("passed", passed);
        writer.WriteNumber("failed", failed);
        writer.WriteNumber("skipped", skipped);
    });

    // JSON has no infinity: a NaN in the wrong place has no error one could write.
    private static void WriteFinite(System.Text.Json.Utf8JsonWriter writer, string name, double value)
    {
        if (double.IsFinite(value))
        {
            writer.WriteNumber(name, value);
        }
        else
        {
            writer.WriteNull(name);
        }
    }
}
