using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Inference.Parallel;

namespace Octet.Cli;

/// <summary>octet load: brings each rank's part of a checkpoint to its device, and says what was read for it and how fast.</summary>
internal static class LoadCommand
{
    private static readonly Option<string?> s_model = new("--model") { Description = "Checkpoint folder; default: the small built-in model" };
    private static readonly Option<int> s_tensor = NumberOption.Create("--tp", "Ranks that divide the model", 1, ParallelSizes.Sizes, ParallelSizes.IsSize);
    private static readonly Option<int?> s_expert = ModelArguments.CreateExpertParallel();
    private static readonly Option<int?> s_rank = NumberOption.Create<int>("--rank", "This rank alone; default: all at once", "a rank from 0", x => x >= 0);
    private static readonly Option<bool> s_dryRun = new("--dry-run") { Description = "Read and check everything, and put nothing on a device" };
    private static readonly Option<bool> s_json = new("--json") { Description = "One JSON object" };

    public static Command Create()
    {
        var command = new Command("load", "Load each rank's part of a checkpoint, and report bytes read, bytes kept and GB/s");
        var device = new Option<string?>("--device") { Description = "A device for each rank: hip:0-3, cpu*4, sim*4; with --rank or --dry-run one will do" };
        foreach (var option in (Option[])[s_model, s_tensor, s_expert, s_rank, device, s_dryRun, s_json])
        {
            command.Add(option);
        }

        command.SetAction((parsed, cancellation) =>
        {
            Run(parsed, parsed.GetValue(device), cancellation);
            return Task.FromResult(CommandLine.Success);
        });
        return command;
    }

    private static void Run(ParseResult parsed, string? deviceName, CancellationToken cancellation)
    {
        var start = Stopwatch.GetTimestamp();
        var folder = parsed.GetValue(s_model) ?? ModelArguments.BuiltIn;
        var tensor = parsed.GetValue(s_tensor);
        var expert = parsed.GetValue(s_expert) ?? tensor;
        var drops = parsed.GetValue(s_dryRun);
        Sharding[] ranks = parsed.GetValue(s_rank) is { } one
            ? [new(one, tensor, expert)]
            : [.. Enumerable.Range(0, tensor).Select(rank => new Sharding(rank, tensor, expert))];
        var config = ModelConfig.Load(folder);
        Array.ForEach(ranks, rank => rank.Check(config));
        using var group = DeviceGroup.Open(deviceName);
        var places = Places(group, ranks, drops);
        using var files = CheckpointFiles.Open(folder);
        var headers = files.BytesRead;
        if (!drops)
        {
            RequireRoom(files, config, places);
        }

        LoadedModel[] loaded;
        using (var bar = new ProgressBar("loading"))
        {
            loaded = GroupLoader.Load(files, config, places, new()
            {
                Drops = drops,
                Threads = LoadOptions.ThreadsOf(ranks.Length),
                Progress = bar.Report<LoadProgress>(p => (p.LoadedBytes, p.TotalBytes)),
                Cancellation = cancellation,
            });
        }

        var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        Report[] reports = [.. loaded.Zip(places, (model, place) => new Report(place.Sharding.Rank, place.Device.Name, model.Loaded, model.LoadTime.TotalSeconds))];
        Array.ForEach(loaded, model => model.Dispose());
        var all = new Report(0, "", new(headers + reports.Sum(report => report.Bytes.BytesRead), reports.Sum(report => report.Bytes.BytesKept), 0), seconds);
        if (parsed.GetValue(s_json))
        {
            WriteJson(folder, (tensor, expert, drops), files.SizeInBytes, reports, all);
        }
        else
        {
            WriteText((tensor, expert, drops), files.SizeInBytes, reports, all);
        }
    }

    private static (Sharding Sharding, Device Device)[] Places(DeviceGroup group, Sharding[] ranks, bool drops)
    {
        var devices = group.Devices;
        if (devices.Count == ranks[0].TensorParallel)
        {
            return [.. ranks.Select(rank => (rank, devices[rank.Rank]))];
        }

        return devices.Count == 1 && (drops || ranks.Length == 1)
            ? [.. ranks.Select(rank => (rank, devices[0]))]
            : throw new ArgumentException(
                $"--device {group.Name} is {devices.Count} of the {ranks[0].TensorParallel} devices that --tp {ranks[0].TensorParallel} needs; name one for each rank (hip:0-3, cpu*4), one rank by --rank, or --dry-run");
    }

    // Before minutes of reading.
    private static void RequireRoom(CheckpointFiles files, ModelConfig config, (Sharding Sharding, Device Device)[] places)
    {
        long wanted = 0;
        foreach (var (sharding, device) in places)
        {
            if (sharding.TensorParallel == 1 && files.MayBeMapped && device.Properties.SharesHostMemory)
            {
                continue; // nearly all may stay in the files
            }

            var kept = ModelRegistry.Measure(files, config, sharding, device).BytesKept;
            wanted = device.Properties.UsesHostMemory ? wanted + kept : kept;
            if (wanted > device.FreeMemory)
            {
                throw new OctetException(
                    OctetStatus.OutOfMemory,
                    $"{device.Name}: weights up to rank {sharding.Rank} of tp {sharding.TensorParallel}, ep {sharding.ExpertParallel} take {Size(wanted)}, {Size(device.FreeMemory)} are free; take more ranks, or --dry-run");
            }
        }
    }

    private static string Size(long bytes) => bytes < 1_000_000_000
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e6:f2} MB")
        : string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9:f2} GB");

    private static void WriteText((int Tensor, int Expert, bool Drops) group, long checkpoint, Report[] reports, Report all)
    {
        var kept = group.Drops ? "would keep" : "kept";
        foreach (var report in reports)
        {
            Terminal.WriteLine(
                $"rank {report.Rank} of {group.Tensor} on {report.Device}: read {Size(report.Bytes.BytesRead)}, {kept} {Size(report.Bytes.BytesKept)}, {report.Speed}");
        }

        Terminal.WriteLine($"tp {group.Tensor}, ep {group.Expert}: checkpoint {Size(checkpoint)}, read {Size(all.Bytes.BytesRead)}, {all.Speed}");
    }

    private static void WriteJson(
        string folder, (int Tensor, int Expert, bool Drops) group, long checkpoint, Report[] reports, Report all) => JsonOutput.Write(writer =>
    {
        writer.WriteString("model", folder);
        writer.WriteNumber("tp", group.Tensor);
        writer.WriteNumber("ep", group.Expert);
        writer.WriteBoolean("dry_run", group.Drops);
        writer.WriteNumber("checkpoint_bytes", checkpoint);
        writer.WriteStartArray("ranks");
        foreach (var report in reports)
        {
            writer.WriteStartObject();
            writer.WriteNumber("rank", report.Rank);
            writer.WriteString("device", report.Device);
            report.Write(writer);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        all.Write(writer);
    });

    // Kept: what stays on the device, or would.
    private sealed record Report(int Rank, string Device, LoadedBytes Bytes, double Seconds)
    {
        public double GigabytesPerSecond => Bytes.BytesRead / 1e9 / Math.Max(Seconds, 1e-9);

        public string Speed => string.Create(CultureInfo.InvariantCulture, $"{Seconds:f2} s, {GigabytesPerSecond:f2} GB/s");

        public void Write(System.Text.Json.Utf8JsonWriter writer)
        {
            writer.WriteNumber("bytes_read", Bytes.BytesRead);
            writer.WriteNumber("bytes_kept", Bytes.BytesKept);
            writer.WriteNumber("seconds", Math.Round(Seconds, 3));
            writer.WriteNumber("gb_per_second", Math.Round(GigabytesPerSecond, 3));
        }
    }
}
