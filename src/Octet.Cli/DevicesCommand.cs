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
            var candidates = Device.DefaultCandidates();
            var (name, reason) = FindDefault();
            var peers = PeerLinks.Find(probes);
            if (parsed.GetValue(json))
            {
                WriteJson(probes, peers, candidates, name, reason);
            }
            else
            {
                foreach (var probe in probes)
                {
                    WriteLine(probe, peers);
                }

                WriteDefault(probes, candidates, name, reason);
            }

            return CommandLine.Success;
        });
        return command;
    }

    // What every command opens without --device, and why it is not a better one; no name where none opens.
    private static (string? Name, string? Reason) FindDefault()
    {
        try
        {
            using var device = Device.Open();
            return (device.Name, device.FallbackReason);
        }
        catch (Exception error) when (error is ArgumentException or OctetException)
        {
            return (null, error.Message);
        }
    }

    private static void WriteDefault(IReadOnlyList<DeviceProbe> probes, IReadOnlyList<string> candidates, string? name, string? reason)
    {
        var source = Device.NameFromEnvironment is { } chosen ? $" (OCTET_DEVICE={chosen})" : "";
        Console.Out.WriteLine();
        Terminal.WriteLine($"without --device{source}: {name ?? "none"}{(reason is null ? "" : $"; {reason}")}");
        Terminal.WriteLine(
            $"only when named: {string.Join(", ", probes.Where(p => p.IsUsable && !candidates.Contains(p.Name)).Select(p => p.Name))}");
    }

    private static void WriteLine(DeviceProbe probe, IReadOnlyDictionary<string, IReadOnlyList<PeerLink>> peers)
    {
        var state = probe.IsUsable ? "present" : probe.Present ? "present but unusable" : "absent";
        Terminal.WriteLine($"{probe.Name,-14} {state,-8} {probe.Description}");
        if (probe.Properties is { } properties)
        {
            Terminal.WriteLine(
                $"{"",-23} {properties.Target}, {properties.ComputeUnits} compute units, wave of {properties.WaveSize}, "
                + $"{properties.TotalMemory / 1e9:f1} GB, computes in {properties.Float8}");
            if (properties.GraphsReason is { } graphs)
            {
                Terminal.WriteLine($"{"",-23} no graphs: {graphs}");
            }
        }

        if (peers.TryGetValue(probe.Name, out var links))
        {
            Terminal.WriteLine($"{"",-23} {PeerLinks.Describe(links)}");
        }

        if (!probe.IsUsable)
        {
            Terminal.WriteLine($"{"",-23} reason: {probe.Reason}");
            Terminal.WriteLine($"{"",-23} remedy: {probe.Remedy}");
        }
    }

    private static void WriteJson(
        IReadOnlyList<DeviceProbe> probes, IReadOnlyDictionary<string, IReadOnlyList<PeerLink>> peers, IReadOnlyList<string> candidates, string? name,
        string? reason) => JsonOutput.Write(writer =>
    {
        writer.WriteString("default", name);
        writer.WriteString("default_reason", reason);
        writer.WriteStartArray("devices");
        foreach (var probe in probes)
        {
            writer.WriteStartObject();
            writer.WriteString("name", probe.Name);
            writer.WriteBoolean("present", probe.Present);
            writer.WriteBoolean("usable", probe.IsUsable);
            writer.WriteBoolean("only_when_named", probe.IsUsable && !candidates.Contains(probe.Name));
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
                writer.WriteString("graphs_reason", properties.GraphsReason);
            }

            if (peers.TryGetValue(probe.Name, out var links))
            {
                PeerLinks.Write(writer, links);
            }

            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    });
}
