using System.CommandLine;
using Octet.Backends;

namespace Octet.Cli;

/// <summary>octet devices: what is there, and what is not and why.</summary>
internal static class DevicesCommand
{
    public static Command Create()
    {
        var command = new Command("devices", "List every device, and for each absent kind the reason and the remedy");
        var json = new Option<bool>("--json") { Description = "One JSON object" };
        command.Add(json);
        command.SetAction(parsed =>
        {
            var probes = Device.Probe();
            if (parsed.GetValue(json))
            {
                WriteJson(probes);
            }
            else
            {
                foreach (var probe in probes)
                {
                    WriteLine(probe);
                }
            }

            return CommandLine.Success;
        });
        return command;
    }

    private static void WriteLine(DeviceProbe probe)
    {
        var state = probe.IsUsable ? "present" : probe.Present ? "present but unusable" : "absent";
        Console.Out.WriteLine($"{probe.Name,-14} {state,-8} {probe.Description}");
        if (probe.Properties is { } properties)
        {
            Console.Out.WriteLine(
                $"{"",-23} {properties.Target}, {properties.ComputeUnits} compute units, wave of {properties.WaveSize}, "
                + $"{properties.TotalMemory / 1e9:f1} GB, computes in {properties.Float8}");
        }

        if (!probe.IsUsable)
        {
            Console.Out.WriteLine($"{"",-23} reason: {probe.Reason}");
            Console.Out.WriteLine($"{"",-23} remedy: {probe.Remedy}");
        }
    }

    private static void WriteJson(IReadOnlyList<DeviceProbe> probes) => JsonOutput.Write(writer =>
    {
        writer.WriteStartArray("devices");
        foreach (var probe in probes)
        {
            writer.WriteStartObject();
            writer.WriteString("name", probe.Name);
            writer.WriteBoolean("present", probe.Present);
            writer.WriteBoolean("usable", probe.IsUsable);
            writer.WriteString("description", probe.Description);
            writer.WriteString("reason", probe.Reason);
            writer.WriteString("remedy", probe.Remedy);
            if (probe.Properties is { } properties)
            {
                writer.WriteString("target", properties.Target);
                writer.WriteNumber("compute_units", properties.ComputeUnits);
                writer.WriteNumber("wave_size", properties.WaveSize);
                writer.WriteNumber("shared_memory_bytes", properties.SharedMemory);
                writer.WriteNumber("total_memory_bytes", properties.TotalMemory);
                writer.WriteString("fp8", properties.Float8 == DType.Float8E4M3Fnuz ? "e4m3fnuz" : "e4m3");
                writer.WriteBoolean("graphs", properties.SupportsGraphs);
            }

            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    });
}
