using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>A run as the table that vllm bench serve prints, and as JSON with its names, so that figures can stand side by side.</summary>
internal static class LoadReportWriter
{
    private const int Columns = 50;

    /// <summary>The table.</summary>
    public static string Table(LoadReport report)
    {
        var table = new StringBuilder();
        Heading(table, " Serving Benchmark Result ", '=');
        Row(table, "Successful requests:", report.Answered.Count);
        Row(table, "Failed requests:", report.Failed);
        if (report.Settings.Pace.MaxConcurrency is { } concurrency)
        {
            Row(table, "Maximum request concurrency:", concurrency);
        }

        if (report.Settings.Pace.RatePerSecond is { } rate)
        {
            Row(table, "Request rate configured (RPS):", rate);
        }

        Row(table, "Benchmark duration (s):", report.Seconds);
        Row(table, "Total input tokens:", report.InputTokens);
        Row(table, "Total generated tokens:", report.OutputTokens);
        Row(table, "Request throughput (req/s):", report.RequestThroughput);
        if (report.Goodput is { } goodput)
        {
            Row(table, "Request goodput (req/s):", goodput);
        }

        Row(table, "Output token throughput (tok/s):", report.OutputThroughput);
        Row(table, "Total token throughput (tok/s):", report.TotalThroughput);
        foreach (var metric in report.Settings.Metrics)
        {
            var name = metric.ToUpperInvariant();
            Heading(table, Title(metric), '-');
            Row(table, $"Mean {name} (ms):", report.Mean(metric));
            Row(table, $"Median {name} (ms):", report.Percentile(metric, 50));
            foreach (var percent in report.Settings.Percentiles)
            {
                Row(table, $"P{Text(percent)} {name} (ms):", report.Percentile(metric, percent));
            }
        }

        return table.Append('=', Columns).Append('\n').ToString();
    }

    /// <summary>The figures, as members of an object.</summary>
    public static void Write(LoadReport report, Utf8JsonWriter json)
    {
        var settings = report.Settings;
        json.WriteString("date", settings.Date.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));
        json.WriteString("base_url", settings.BaseUrl);
        json.WriteString("model_id", settings.Model);
        json.WriteString("endpoint", settings.Endpoint);
        json.WriteString("prompts", settings.Prompts);
        json.WriteNumber("num_prompts", report.Records.Count);
        WriteOptional(json, "request_rate", settings.Pace.RatePerSecond);
        WriteOptional(json, "max_concurrency", settings.Pace.MaxConcurrency);
        json.WriteNumber("seed", settings.Pace.Seed);
        json.WriteNumber("duration", Math.Round(report.Seconds, 6));
        json.WriteNumber("completed", report.Answered.Count);
        json.WriteNumber("failed", report.Failed);
        json.WriteNumber("total_input_tokens", report.InputTokens);
        json.WriteNumber("total_output_tokens", report.OutputTokens);
        json.WriteNumber("request_throughput", Math.Round(report.RequestThroughput, 6));
        WriteOptional(json, "request_goodput", report.Goodput);
        json.WriteNumber("output_throughput", Math.Round(report.OutputThroughput, 6));
        json.WriteNumber("total_token_throughput", Math.Round(report.TotalThroughput, 6));
        foreach (var metric in settings.Metrics)
        {
            WriteFigure(json, $"mean_{metric}_ms", report.Mean(metric));
            WriteFigure(json, $"median_{metric}_ms", report.Percentile(metric, 50));
            foreach (var percent in settings.Percentiles)
            {
                WriteFigure(json, $"p{Text(percent)}_{metric}_ms", report.Percentile(metric, percent));
            }
        }

        json.WriteStartArray("errors");
        foreach (var (reason, count) in report.Reasons)
        {
            json.WriteStartObject();
            json.WriteString("reason", reason);
            json.WriteNumber("count", count);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    /// <summary>Each request, as a member of an object.</summary>
    public static void WriteRequests(LoadReport report, Utf8JsonWriter json)
    {
        json.WriteStartArray("requests");
        foreach (var record in report.Records)
        {
            json.WriteStartObject();
            WriteFigure(json, "start_ms", record.Start * 1e3);
            json.WriteNumber("input_tokens", record.PromptTokens);
            json.WriteNumber("output_tokens", record.OutputTokens);
            WriteFigure(json, "ttft_ms", record.FirstToken * 1e3);
            WriteFigure(json, "e2el_ms", record.Latency * 1e3);
            json.WriteStartArray("itl_ms");
            foreach (var gap in record.Gaps)
            {
                json.WriteNumberValue(Math.Round(gap * 1e3, 3));
            }

            json.WriteEndArray();
            json.WriteString("error", record.Error);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static string Title(string metric) => metric switch
    {
        "ttft" => "Time to First Token",
        "tpot" => "Time per Output Token (excl. 1st token)",
        "itl" => "Inter-token Latency",
        _ => "End-to-end Latency",
    };

    // In the middle, the odd one of the signs behind.
    private static void Heading(StringBuilder table, string title, char sign)
    {
        var before = (Columns - title.Length) / 2;
        table.Append(sign, before).Append(title).Append(sign, Columns - title.Length - before).Append('\n');
    }

    private static void Row(StringBuilder table, string name, long value) =>
        table.Append(CultureInfo.InvariantCulture, $"{name,-40} {value,-10}\n");

    private static void Row(StringBuilder table, string name, double value) =>
        table.Append(CultureInfo.InvariantCulture, $"{name,-40} {value.ToString("F2", CultureInfo.InvariantCulture),-10}\n");

    private static string Text(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    private static void WriteFigure(Utf8JsonWriter json, string name, double value) => json.WriteNumber(name, Math.Round(value, 3));

    private static void WriteOptional(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, Math.Round(number, 6));
        }
        else
        {
            json.WriteNull(name);
        }
    }
}
