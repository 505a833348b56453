using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Octet.Cli.Serving;

namespace Octet.Cli;

/// <summary>octet bench serve: what any server of OpenAI's API does under load, in the terms of vllm bench serve.</summary>
internal sealed class BenchServeCommand
{
    private const int DefaultPrompts = 100;

    private readonly ApiArguments _api;
    private readonly Option<string?> _model = new("--model") { Description = "The model's name; default: the first of /v1/models" };

    private readonly Option<string> _endpoint = new("--endpoint")
    {
        Description = "chat or completions",
        DefaultValueFactory = _ => "completions",
    };

    private readonly Option<int?> _count = NumberOption.Create<int>(
        "--num-prompts",
        $"Requests; of --dataset: lines, from the first again where there are fewer; default: {DefaultPrompts}, or all lines",
        "a whole number from 1", x => x >= 1);

    private readonly Option<int?> _concurrency = NumberOption.Create<int>(
        "--max-concurrency", "Most requests under way, the next when one is answered; default: any number", "a whole number from 1",
        x => x >= 1);

    private readonly Option<double?> _rate = NumberOption.Create<double>(
        "--request-rate", "Requests a second, at random times (Poisson); default: each as soon as it may", "a positive number",
        x => x > 0 && double.IsFinite(x));

    private readonly Option<int> _input = NumberOption.Create(
        "--random-input-len", "Tokens of a random prompt", 1024, "a whole number from 1", x => x >= 1);

    private readonly Option<int> _output = NumberOption.Create(
        "--random-output-len", "Most tokens of an answer, of --dataset where its line does not say", 128, "a whole number from 1",
        x => x >= 1);

    private readonly Option<double> _range = NumberOption.Create(
        "--random-range-ratio", "Both vary by this share, below and above", 0.0, "a number from 0 and under 1", x => x is >= 0 and < 1);

    private readonly Option<int> _prefix = NumberOption.Create(
        "--random-prefix-len", "Tokens before them that all random prompts share", 0, "a whole number from 0", x => x >= 0);

    private readonly Option<string?> _dataset = new("--dataset")
    {
        Description = "A file with a JSON value a line: a text, or an object with prompt, messages or turns; default: random prompts",
        HelpName = "FILE",
    };

    private readonly Option<double> _temperature = NumberOption.Create(
        "--temperature", "0: the most likely token", 0.0, "a number from 0", x => x >= 0 && double.IsFinite(x));

    private readonly Option<bool> _ignoreEnd = new("--ignore-eos") { Description = "Answers go on to their most tokens" };

    private readonly Option<string?> _extra = new("--extra-body") { Description = "Fields of every request besides", HelpName = "JSON" };

    private readonly Option<int> _seed = NumberOption.Create(
        "--seed", "The same seed gives the same prompts and times", 0, "a whole number from 0", x => x >= 0);

    private readonly Option<int> _warmup = NumberOption.Create(
        "--warmup", "Requests before the run that are not counted; if one fails nothing is run", 1, "a whole number from 0", x => x >= 0);

    private readonly Option<string[]> _goodput = new("--goodput")
    {
        Description = "Targets of a good request, in ms: ttft:MS tpot:MS e2el:MS",
        HelpName = "METRIC:MS",
        AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<string> _metrics = new("--percentile-metrics")
    {
        Description = "Which latencies are reported, of ttft,tpot,itl,e2el",
        DefaultValueFactory = _ => string.Join(',', LoadReport.Metrics),
    };

    private readonly Option<string> _percentiles = new("--metric-percentiles")
    {
        Description = "Which percentiles of them, beside mean and median",
        DefaultValueFactory = _ => "90,99",
    };

    private readonly Option<bool> _json = new("--json") { Description = "One JSON object instead of the table" };
    private readonly Option<string?> _save = new("--save") { Description = "Write it to this file, with every request", HelpName = "FILE" };
    private readonly Option<string?> _svg = new("--svg") { Description = "Draw the latencies to this file", HelpName = "FILE" };

    private BenchServeCommand(Command command)
    {
        _api = new(command, "The server, with or without /v1", "http://127.0.0.1:8000");
        _endpoint.AcceptOnlyFromAmong("chat", "completions");
        foreach (var option in (Option[])[
            _model, _endpoint, _count, _concurrency, _rate, _input, _output, _range, _prefix, _dataset, _temperature, _ignoreEnd,
            _extra, _seed, _warmup, _goodput, _metrics, _percentiles, _json, _save, _svg])
        {
            command.Add(option);
        }
    }

    public static Command Create()
    {
        var command = new Command(
            "serve", "Send requests to a server of OpenAI's API and report latencies and throughput; exit code 1 if every request failed");
        var bench = new BenchServeCommand(command);
        command.SetAction((parsed, cancellation) => bench.RunAsync(parsed, cancellation));
        return command;
    }

    private async Task<int> RunAsync(ParseResult parsed, CancellationToken cancellation)
    {
        // What is wrong with the options shows before a request is sent.
        var (goodput, metrics, percentiles) = (Goodput(parsed), Metrics(parsed), Percentiles(parsed));
        var isChat = parsed.GetValue(_endpoint) == "chat";
        var dataset = parsed.GetValue(_dataset) is { } path ? PromptDataset.Read(path, isChat, parsed.GetValue(_output)) : null;
        var extra = Extra(parsed);

        using var client = _api.Connect(parsed);
        var request = new LoadRequest(parsed.GetValue(_model) ?? await client.FirstModelAsync(cancellation), isChat)
        {
            Temperature = parsed.GetValue(_temperature),
            IgnoresEnd = parsed.GetValue(_ignoreEnd),
            Extra = extra,
        };
        var warmup = parsed.GetValue(_warmup);
        var (sessions, kind) = dataset is null
            ? await RandomAsync(parsed, client, request, warmup, cancellation)
            : ([.. Repeat(dataset, warmup), .. Repeat(dataset, parsed.GetValue(_count) ?? dataset.Count)], "prompts of a file");
        var generator = new LoadGenerator(client, request);
        await WarmUpAsync(generator, sessions[..warmup], cancellation);
        sessions = sessions[warmup..];

        var settings = new LoadSettings
        {
            BaseUrl = _api.BaseUrl(parsed)!,
            Model = request.Model,
            Endpoint = request.Path,
            Prompts = kind,
            Pace = new(parsed.GetValue(_rate), parsed.GetValue(_concurrency), parsed.GetValue(_seed)),
            Date = DateTime.UtcNow,
            Goodput = goodput,
            Metrics = metrics,
            Percentiles = percentiles,
        };
        using var bar = new ProgressBar("requests");
        var progress = bar.Report<int>(done => (done, sessions.Length));
        var (records, seconds) = await generator.RunAsync(sessions, settings.Pace, progress, cancellation);
        bar.Dispose();
        Write(parsed, new LoadReport(settings, records, seconds));
        return records.All(record => record.Error is not null) ? CommandLine.CheckFailed : CommandLine.Success;
    }

    private void Write(ParseResult parsed, LoadReport report)
    {
        if (parsed.GetValue(_json))
        {
            JsonOutput.Write(json => LoadReportWriter.Write(report, json));
        }
        else
        {
            Console.Out.Write(LoadReportWriter.Table(report));
            CommandLine.Note($"prompts: {report.Settings.Prompts}");
        }

        foreach (var (reason, count) in report.Reasons.Take(5))
        {
            CommandLine.Complain($"{count} of {report.Records.Count} requests failed: {reason}");
        }

        if (parsed.GetValue(_save) is { } save)
        {
            File.WriteAllBytes(save, LoadRequest.Write(json =>
            {
                json.WriteStartObject();
                LoadReportWriter.Write(report, json);
                LoadReportWriter.WriteRequests(report, json);
                json.WriteEndObject();
            }).ToArray());
        }

        if (parsed.GetValue(_svg) is { } svg)
        {
            File.WriteAllText(svg, LoadPlot.Write(report));
        }
    }

    // Those of the warm-up come first and are not sent again, as the server may have kept them.
    private async Task<(LoadSession[] Sessions, string Kind)> RandomAsync(
        ParseResult parsed, ApiClient client, LoadRequest request, int warmup, CancellationToken cancellation)
    {
        var lengths = new RandomLengths(
            parsed.GetValue(_input), parsed.GetValue(_output), parsed.GetValue(_range), parsed.GetValue(_prefix));
        var prompts = new RandomPrompts(client, request, lengths, parsed.GetValue(_seed));
        var count = warmup + (parsed.GetValue(_count) ?? DefaultPrompts);
        using var bar = new ProgressBar("prompts");
        return ([.. await prompts.CreateAsync(count, bar.Report<int>(done => (done, count)), cancellation)], prompts.Kind);
    }

    private static IEnumerable<LoadSession> Repeat(IReadOnlyList<LoadSession> sessions, int count) =>
        Enumerable.Range(0, count).Select(i => sessions[i % sessions.Count]);

    private static async Task WarmUpAsync(LoadGenerator generator, LoadSession[] sessions, CancellationToken cancellation)
    {
        var (records, _) = await generator.RunAsync(sessions, new(null, 1, 0), new Progress<int>(), cancellation);
        if (records.FirstOrDefault(record => record.Error is not null) is { } failed)
        {
            throw new ApiFailure($"a request before the run failed: {failed.Error}");
        }
    }

    private List<(string, double)> Goodput(ParseResult parsed) => [.. (parsed.GetValue(_goodput) ?? []).Select(target =>
        target.Split(':') is [var metric, var text] && metric is "ttft" or "tpot" or "e2el"
            && double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var milliseconds)
                ? (metric, milliseconds)
                : throw new ArgumentException($"--goodput is '{target}', expected ttft:MS, tpot:MS or e2el:MS"))];

    private string[] Metrics(ParseResult parsed) => [.. parsed.GetValue(_metrics)!.Split(',').Select(metric =>
        LoadReport.Metrics.Contains(metric)
            ? metric
            : throw new ArgumentException($"--percentile-metrics has '{metric}', expected of {string.Join(',', LoadReport.Metrics)}"))];

    private double[] Percentiles(ParseResult parsed) => [.. parsed.GetValue(_percentiles)!.Split(',').Select(text =>
        double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var percent) && percent is >= 0 and <= 100
            ? percent
            : throw new ArgumentException($"--metric-percentiles has '{text}', expected numbers from 0 to 100 with commas between"))];

    private Dictionary<string, JsonElement> Extra(ParseResult parsed)
    {
        try
        {
            return parsed.GetValue(_extra) is { } text
                ? JsonElement.Parse(text).EnumerateObject().ToDictionary(member => member.Name, member => member.Value)
                : [];
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or ArgumentException)
        {
            throw new ArgumentException($"--extra-body is '{parsed.GetValue(_extra)}', expected a JSON object", error);
        }
    }
}
