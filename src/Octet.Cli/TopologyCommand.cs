using System.CommandLine;
using System.Globalization;
using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;

namespace Octet.Cli;

/// <summary>octet topology: the GPUs of a machine, and DP groups placed on them by links and sockets.</summary>
internal static class TopologyCommand
{
    private static readonly Option<string> s_sysfs = new("--sysfs") { Description = "The KFD tree to read", DefaultValueFactory = _ => KfdTopology.DefaultPath };
    private static readonly Option<string?> s_groups = new("--groups") { Description = "Groups to place, as COUNTxSIZE, such as 2x4" };
    private static readonly Option<bool> s_json = new("--json") { Description = "Print one JSON object" };
    private static readonly Option<string?> s_emit = new Option<string?>("--emit") { Description = "Print what starts the groups instead: k8s manifests, or env lines" }.AcceptOnlyFromAmong("k8s", "env");

    public static Command Create()
    {
        var command = new Command("topology", "Read the links and sockets of this machine's GPUs and place groups on them");
        foreach (Option option in new Option[] { s_sysfs, s_groups, s_json, s_emit })
        {
            command.Options.Add(option);
        }
        command.SetAction(Run);
        return command;
    }

    internal static void Warn(KfdTopology topology, Placement placement)
    {
        foreach (string warning in topology.Warnings.Concat(placement.Warnings))
        {
            Console.Error.WriteLine($"warning: {warning}");
        }
    }

    private static int Run(ParseResult arguments)
    {
        (int Count, int Size)? asked = arguments.GetValue(s_groups) is { } groups ? ParseGroups(groups) : null;
        string sysfs = arguments.GetRequiredValue(s_sysfs);
        KfdTopology topology = KfdTopology.Read(sysfs);
        (int count, int size) = asked ?? Placement.Usual(topology);
        Placement placement = Placement.Place(topology, count, size);
        Warn(topology, placement);
        WarnOfVariable(sysfs, Environment.GetEnvironmentVariable("ROCR_VISIBLE_DEVICES"));
        bool placed = placement.Groups.Count > 0;
        string? emitted = arguments.GetValue(s_emit) switch
        {
            not null when !placed => "",
            "k8s" => Kubernetes(placement),
            "env" => PlanManifests.Environment(placement),
            _ => null,
        };
        if (emitted is null && arguments.GetValue(s_json))
        {
            JsonOutput.Write(json => TopologyReport.Write(topology, placement, json));
        }
        else
        {
            Console.Out.Write(emitted ?? TopologyReport.Write(topology, placement));
        }
        return placed ? CommandLine.Success : CommandLine.CheckFailed;
    }

    // The tree does not know of the variable, and ordinals count what it leaves.
    private static void WarnOfVariable(string sysfs, string? visible)
    {
        if (!string.IsNullOrEmpty(visible) && Path.GetFullPath(sysfs).StartsWith("/sys/", StringComparison.Ordinal))
        {
            Console.Error.WriteLine($"warning: ROCR_VISIBLE_DEVICES is {visible}: a process started with it counts fewer GPUs than are numbered here; unset it where these groups are started");
        }
    }

    private static string Kubernetes(Placement placement)
    {
        int size = placement.Groups[0].Gpus.Count;
        ModelShape model = ModelShape.Find(ModelShape.Target);
        return PlanManifests.Kubernetes(model.Name, "amd.com/gpu", placement.Groups.Count, size, size, model.WeightBytes(1));
    }

    private static (int Count, int Size) ParseGroups(string text)
    {
        string[] parts = text.Split('x');
        return parts.Length == 2
            && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count is >= 1 and <= 1024
            && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int size) && size is >= 1 and <= 1024
            ? (count, size)
            : throw new PlanException($"groups '{text}' is not COUNTxSIZE, such as 2x4");
    }
}
