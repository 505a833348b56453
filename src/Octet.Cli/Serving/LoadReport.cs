using Octet.Inference.Planning;

namespace Octet.Cli.Serving;

/// <summary>What all requests of a run took together.</summary>
internal sealed class LoadReport
{
    /// <summary>The latencies, as they are named on the command line and in JSON.</summary>
    public static readonly IReadOnlyList<string> Metrics = ["ttft", "tpot", "itl", "e2el"];

    private readonly Dictionary<string, double[]> _sorted;

    /// <param name="settings">What was run.</param>
    /// <param name="records">The requests, in the order in which they were sent.</param>
    /// <param name="seconds">From the first request to the last answer.</param>
    public LoadReport(LoadSettings settings, IReadOnlyList<LoadRecord> records, double seconds)
    {
        (Settings, Records, Seconds) = (settings, records, seconds);
        Answered = [.. records.Where(record => record.Error is null)];
        _sorted = Metrics.ToDictionary(
            metric => metric, metric => Answered.SelectMany(record => Milliseconds(record, metric)).Order().ToArray());
    }

    public LoadSettings Settings { get; }

    public IReadOnlyList<LoadRecord> Records { get; }

    /// <summary>Those that did not fail; all figures are of them.</summary>
    public IReadOnlyList<LoadRecord> Answered { get; }

    public double Seconds { get; }

    public int Failed => Records.Count - Answered.Count;

    public long InputTokens => Answered.Sum(record => (long)record.PromptTokens);

    public long OutputTokens => Answered.Sum(record => (long)record.OutputTokens);

    public double RequestThroughput => Rate(Answered.Count);

    public double OutputThroughput => Rate(OutputTokens);

    public double TotalThroughput => Rate(InputTokens + OutputTokens);

    /// <summary>Requests that met all targets, per second; null: there are none.</summary>
    public double? Goodput => Settings.Goodput.Count == 0 ? null : Rate(Answered.Count(record =>
        Settings.Goodput.All(target => Milliseconds(record, target.Metric).All(value => value <= target.Milliseconds))));

    /// <summary>Why requests failed, the most frequent reason first.</summary>
    public IReadOnlyList<(string Reason, int Count)> Reasons =>
        [.. Records.Where(record => record.Error is not null)
            .GroupBy(record => record.Error!)
            .Select(group => (group.Key, group.Count()))
            .OrderByDescending(pair => pair.Item2)];

    /// <summary>All values of a metric in ascending order, milliseconds: one for each request, for <c>itl</c> one for each gap.</summary>
    public ReadOnlySpan<double> Sorted(string metric) => _sorted[metric];

    /// <summary>Their mean; 0 where there are none.</summary>
    public double Mean(string metric) => _sorted[metric].DefaultIfEmpty(0).Average();

    /// <summary>The value below which so many percent lie, with linear interpolation; 0 where there are none.</summary>
    public double Percentile(string metric, double percent) =>
        _sorted[metric] is { Length: > 0 } sorted ? Latency.At(sorted, percent / 100) : 0;

    /// <summary>The values of one request, milliseconds.</summary>
    public static IEnumerable<double> Milliseconds(LoadRecord record, string metric) => metric switch
    {
        "ttft" => [record.FirstToken * 1e3],
        "tpot" => record.PerToken is { } seconds ? [seconds * 1e3] : [],
        "itl" => record.Gaps.Select(gap => gap * 1e3),
        _ => [record.Latency * 1e3],
    };

    private double Rate(double amount) => Seconds > 0 ? amount / Seconds : 0;
}

/// <summary>What is run, and what is reported of it.</summary>
internal sealed record LoadSettings
{
    public required string BaseUrl { get; init; }

    public required string Model { get; init; }

    /// <summary>The path that requests go to.</summary>
    public required string Endpoint { get; init; }

    /// <summary>What the prompts are, in words.</summary>
    public required string Prompts { get; init; }

    public required LoadPace Pace { get; init; }

    /// <summary>When it began, UTC.</summary>
    public required DateTime Date { get; init; }

    /// <summary>What a request must not exceed to be good.</summary>
    public IReadOnlyList<(string Metric, double Milliseconds)> Goodput { get; init; } = [];

    /// <summary>Which latencies are reported.</summary>
    public IReadOnlyList<string> Metrics { get; init; } = LoadReport.Metrics;

    /// <summary>Which percentiles of them, beside mean and median.</summary>
    public IReadOnlyList<double> Percentiles { get; init; } = [90, 99];
}
