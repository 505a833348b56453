using System.CommandLine;
using System.Globalization;
using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;

namespace Octet.Cli;

/// <summary>octet plan: which split of a node into data, tensor and expert parallelism serves a workload best.</summary>
internal static class PlanCommand
{
    private static readonly Option<string> s_model = new("--model") { Description = "A checkpoint directory, or the name of a known model", DefaultValueFactory = _ => ModelShape.Target };
    private static readonly Option<string> s_node = new("--node") { Description = "The node's GPUs as KIND:COUNT", DefaultValueFactory = _ => "mi325x:8" };
    private static readonly Option<int> s_input = NumberOption.Create("--input", "Input tokens of a request", 5600, "a whole number from 1", x => x >= 1);
    private static readonly Option<int> s_output = NumberOption.Create("--output", "Output tokens of a request", 140, "a whole number from 1", x => x >= 1);
    private static readonly Option<int> s_concurrency = NumberOption.Create("--concurrency", "Requests in flight", 64, "a whole number from 1", x => x >= 1);
    private static readonly Option<string> s_per = new Option<string>("--per") { Description = "Whether --concurrency is for each DP group or for the node", DefaultValueFactory = _ => "group" }.AcceptOnlyFromAmong("group", "node");
    private static readonly Option<string> s_engine = new("--engine") { Description = "The engine whose calibration is used", DefaultValueFactory = _ => "octet" };
    private static readonly Option<double?> s_ttft = NumberOption.Create<double>("--ttft-p90", "Target for the p90 time to first token, ms", "a positive number", x => x > 0 && double.IsFinite(x));
    private static readonly Option<double?> s_tpot = NumberOption.Create<double>("--tpot-p90", "Target for the p90 time per output token, ms", "a positive number", x => x > 0 && double.IsFinite(x));
    private static readonly Option<double> s_memory = NumberOption.Create("--memory-utilization", "Share of GPU memory that may be used", 0.9, "a number over 0 and at most 1", x => x is > 0 and <= 1);
    private static readonly Option<bool> s_json = new("--json") { Description = "Print one JSON object" };
    private static readonly Option<string?> s_plot = new("--plot") { Description = "Also draw the plans to this SVG file" };
    private static readonly Option<string?> s_emit = new Option<string?>("--emit") { Description = "Print what starts the best plan's groups instead: k8s manifests, or env lines" }.AcceptOnlyFromAmong("k8s", "env");
    private static readonly Option<string?> s_sysfs = new("--sysfs") { Description = "With --emit env: place the groups on the GPUs of this KFD tree" };
    private static readonly Option<string?> s_calibrate = new("--calibrate") { Description = "Instead fit the engine to the measurements in this CSV file and report the error on what is held out" };

    public static Command Create()
    {
        var command = new Command("plan", "List every split of a node into data, tensor and expert parallelism, with predicted latency and throughput, and the best");
        foreach (Option option in new Option[] { s_model, s_node, s_input, s_output, s_concurrency, s_per, s_engine, s_ttft, s_tpot, s_memory, s_json, s_plot, s_emit, s_sysfs, s_calibrate })
        {
            command.Options.Add(option);
        }
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        ModelShape model = ModelShape.Find(arguments.GetRequiredValue(s_model));
        PlanNode node = PlanNode.Parse(arguments.GetRequiredValue(s_node), arguments.GetValue(s_memory));
        EngineCalibration engine = EngineCalibration.Find(arguments.GetRequiredValue(s_engine));
        if (arguments.GetValue(s_calibrate) is { } measurements)
        {
            Console.Out.Write(Calibrate(model, node, engine, measurements));
            return CommandLine.Success;
        }
        var workload = new PlanWorkload(
            arguments.GetValue(s_input), arguments.GetValue(s_output), arguments.GetValue(s_concurrency),
            arguments.GetRequiredValue(s_per) == "group", arguments.GetValue(s_ttft), arguments.GetValue(s_tpot));
        PlanListing listing = Planner.Run(model, node, engine, workload);
        string? emitted = arguments.GetValue(s_emit) is { } form ? Emit(listing, form, arguments.GetValue(s_sysfs)) : null;
        if (listing.Best is null)
        {
            CommandLine.Complain($"no plan for {node.Count}x {node.Gpu.Kind} is feasible{(emitted is null ? "" : ", so there is nothing to start; octet plan without --emit says why")}");
        }
        if (arguments.GetValue(s_plot) is { } plot)
        {
            File.WriteAllText(plot, PlanPlot.Write(listing));
        }
        if (emitted is not null)
        {
            Console.Out.Write(emitted);
        }
        else if (arguments.GetValue(s_json))
        {
            JsonOutput.Write(json => PlanJson.Write(listing, json));
        }
        else
        {
            Terminal.Write(PlanTable.Write(listing));
        }
        return listing.Best is null ? CommandLine.CheckFailed : CommandLine.Success;
    }

    private static string Emit(PlanListing listing, string form, string? sysfs)
    {
        if (listing.Best is not { } best)
        {
            return "";
        }
        if (form == "k8s")
        {
            return PlanManifests.Kubernetes(listing.Model.Name, listing.Node.Gpu.Resource, best.Dp, best.Tp, best.Ep, listing.Model.WeightBytes(1));
        }
        if (sysfs is null)
        {
            return PlanManifests.Environment(listing.Node.Gpu.IsMesh ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES", best.Dp, best.Tp, best.Idle);
        }
        KfdTopology topology = KfdTopology.Read(sysfs);
        Placement placement = Placement.Place(topology, best.Dp, best.Tp);
        TopologyCommand.Warn(topology, placement);
        if (placement.Groups.Count == 0)
        {
            throw new PlanException($"{sysfs}: has no GPU to place the groups on");
        }
        return PlanManifests.Environment(placement);
    }

    private static string Calibrate(ModelShape model, PlanNode node, EngineCalibration engine, string path)
    {
        if (!File.Exists(path))
        {
            throw new PlanException($"{path}: there is no such file of measurements");
        }
        CalibrationReport report = new Calibration(model, node, engine).Run(Calibration.Parse(File.ReadAllText(path)));
        var lines = report.Engine.Constants.Select(entry => string.Create(CultureInfo.InvariantCulture, $"{entry.Name,-32} {entry.Constant.Value:G6}")).ToList();
        foreach ((string name, CalibrationError error) in new[] { ("fitted", report.Fitted), ("held out", report.HeldOut) })
        {
            lines.Add(string.Create(CultureInfo.InvariantCulture, $"{name}: {error.Points} points, mean error of TPOT {error.Tpot:P1}, of TTFT {error.Ttft:P1}"));
        }
        return string.Join('\n', lines) + "\n";
    }
}
