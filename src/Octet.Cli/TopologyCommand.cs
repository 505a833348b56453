using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;

/// <summary><c>octet topology</c>: the GPUs of a machine, and DP groups placed on them by links and sockets.</summary>
internal static class TopologyCommand
{
    private const int UsualGroup = 4;
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

    /// <summary>The text of what <paramref name="write"/> writes, indented.</summary>
    internal static string ToJson(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true }))
        {
            write(json);
        }
        return Encoding.UTF8.GetString(buffer.WrittenSpan) + "\n";
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
        try
        {
            KfdTopology topology = KfdTopology.Read(arguments.GetRequiredValue(s_sysfs));
            (int count, int size) = arguments.GetValue(s_groups) is { } groups ? ParseGroups(groups) : Usual(topology.Gpus.Count);
            Placement placement = Placement.Place(topology, count, size);
            Warn(topology, placement);
            Console.Write(arguments.GetValue(s_emit) switch
            {
                "k8s" => Kubernetes(placement),
                "env" => PlanManifests.Environment(placement),
                _ => arguments.GetValue(s_json) ? ToJson(json => TopologyReport.Write(topology, placement, json)) : TopologyReport.Write(topology, placement),
            });
            return 0;
        }
        catch (Exception cause) when (cause is PlanException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            Console.Error.WriteLine($"octet topology: {cause.Message}");
            return 2;
        }
    }

    private static string Kubernetes(Placement placement)
    {
        int size = placement.Groups[0].Gpus.Count;
        ModelShape model = PlanData.Model(PlanData.TargetModel);
        return PlanManifests.Kubernetes(model.Name, "amd.com/gpu", placement.Groups.Count, size, size, model.WeightBytes(1));
    }

    private static (int Count, int Size) Usual(int gpus) => gpus >= UsualGroup ? (gpus / UsualGroup, UsualGroup) : (1, gpus);

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
