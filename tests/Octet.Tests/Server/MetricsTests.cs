using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text.RegularExpressions;
using Octet.Server.Observability;

namespace Octet.Tests.Server;

/// <summary>What operators and gateways read.</summary>
public sealed partial class MetricsTests
{
    [Fact]
    public async Task The_text_is_as_Prometheus_has_it_and_counts_each_request_once()
    {
        await using var server = await TestServer.StartAsync(options => options.ServedModelName = "a \"b\\c\"");
        var prompt = string.Concat(Enumerable.Range(0, 40).Select(i => $"line {i}; "));
        for (var i = 0; i < 2; i++)
        {
            await server.AskAsync("/v1/completions", $"{{\"prompt\": \"{prompt}\", \"max_tokens\": 5, \"ignore_eos\": true}}");
        }

        await server.StreamAsync("/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 7, \"ignore_eos\": true, \"stream\": true}");
        await server.AskAsync("/v1/completions", "{\"prompt\": \"ROMEO:\", \"max_tokens\": 50, \"stop\": [\"e\", \"a\", \"o\"]}");
        await server.RefusedAsync("/v1/completions", "{}");
        var samples = Read(await server.Client.GetStringAsync(new Uri("/metrics", UriKind.Relative)));
        double Value(string name, string labels = "") => samples[$"{name}{{model_name=\"a \\\"b\\\\c\\\"\",engine=\"0\"{labels}}}"];

        Assert.Equal(3, Value("vllm:request_success_total", ",finished_reason=\"length\""));
        Assert.Equal(1, Value("vllm:request_success_total", ",finished_reason=\"stop\""));
        Assert.Equal(0, Value("vllm:request_success_total", ",finished_reason=\"abort\""));
        Assert.Equal(4, Value("vllm:time_to_first_token_seconds_count"));
        Assert.Equal(4, Value("vllm:e2e_request_latency_seconds_bucket", ",le=\"+Inf\""));
        Assert.Equal(4, Value("vllm:request_queue_time_seconds_count"));
        Assert.True(Value("vllm:prefix_cache_hits_total") >= 64);
        Assert.True(Value("vllm:prefix_cache_queries_total") > Value("vllm:prefix_cache_hits_total"));
        Assert.InRange(Value("vllm:generation_tokens_total"), 18, 66);
        var (p50, p99) = (Value("octet:time_to_first_token_seconds", ",quantile=\"0.5\""), Value("octet:time_to_first_token_seconds", ",quantile=\"0.99\""));
        Assert.InRange(p50, 0, p99);
    }

    [Fact]
    public async Task The_dashboard_draws_what_is_there()
    {
        await using var server = await TestServer.StartAsync();
        var text = await server.Client.GetStringAsync(new Uri("/metrics", UriKind.Relative));
        var dashboard = await File.ReadAllTextAsync(Path.Combine(TinyModel.Root, "docs", "grafana-dashboard.json"));
        var names = Drawn().Matches(dashboard).Select(match => match.Value).Distinct().ToList();
        Assert.Contains("vllm:kv_cache_usage_perc", names);
        Assert.All(names, name => Assert.Contains($"\n{name}{{", text, StringComparison.Ordinal));
    }

    // As llm-d's and the Gateway API inference extension's scrapers do: the gauge of a name, and the block size and number of the cache's
    // info by their labels.
    [Fact]
    public async Task Gateways_find_their_five_names()
    {
        await using var server = await TestServer.StartAsync(options => options.Run = options.Run with { MaxSequences = 1, KvCacheTokens = 4096 });
        using var running = await server.Client.SendAsync(
            new(HttpMethod.Post, "/v1/completions") { Content = new StringContent("{\"prompt\": \"ROMEO:\", \"max_tokens\": 1800, \"ignore_eos\": true, \"stream\": true}") },
            HttpCompletionOption.ResponseHeadersRead);
        var waiting = server.PostAsync("/v1/completions", "{\"prompt\": \"JULIET:\", \"max_tokens\": 2}");
        while (server.Model.Loads[0].Waiting == 0)
        {
            await Task.Delay(2);
        }

        var text = await server.Client.GetStringAsync(new Uri("/metrics", UriKind.Relative));
        Assert.Contains("# TYPE vllm:num_requests_waiting gauge\n", text, StringComparison.Ordinal);
        Assert.Equal(1, Gauge(text, "vllm:num_requests_running"));
        Assert.Equal(1, Gauge(text, "vllm:num_requests_waiting"));
        Assert.InRange(Gauge(text, "vllm:kv_cache_usage_perc"), 1.0 / 64, 1);
        Assert.Equal(1, Gauge(text, "vllm:cache_config_info"));
        var info = Sample().Matches(text).Single(match => match.Groups["name"].Value == "vllm:cache_config_info").Groups["labels"].Value;
        Assert.Contains("block_size=\"64\"", info, StringComparison.Ordinal);
        Assert.Contains("num_gpu_blocks=\"64\"", info, StringComparison.Ordinal);
        running.Dispose();
        (await waiting).Dispose();

        static double Gauge(string text, string name) => double.Parse(
            Sample().Matches(text).Single(match => match.Groups["name"].Value == name).Groups["value"].Value, CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task A_request_is_a_span_and_fills_the_instruments_of_the_conventions()
    {
        var values = new ConcurrentDictionary<string, double>();
        using var meters = new MeterListener { InstrumentPublished = (instrument, listener) => Listen(instrument, listener) };
        meters.SetMeasurementEventCallback<double>((instrument, value, _, _) => values.AddOrUpdate(instrument.Name, value, (_, sum) => sum + value));
        meters.SetMeasurementEventCallback<long>((instrument, value, _, _) => values.AddOrUpdate(instrument.Name, value, (_, sum) => sum + value));
        meters.Start();
        var spans = new ConcurrentBag<Activity>();
        using var activities = new ActivityListener
        {
            ShouldListenTo = source => source.Name == ServerMetrics.Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = spans.Add,
        };
        ActivitySource.AddActivityListener(activities);
        await using var server = await TestServer.StartAsync(options => options.ServedModelName = "spans");
        await server.AskAsync("/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 7, \"ignore_eos\": true}");
        await server.IdleAsync();
        var span = Assert.Single(spans, span => span.DisplayName == "chat spans");
        Assert.Equal("octet", span.GetTagItem("gen_ai.provider.name"));
        Assert.Equal(7, span.GetTagItem("gen_ai.usage.output_tokens"));
        Assert.Equal("length", span.GetTagItem("gen_ai.response.finish_reasons"));
        Assert.Contains(span.Events, stage => stage.Name == "first token");
        Assert.All(
            ["gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token", "gen_ai.server.request.duration", "gen_ai.client.token.usage"],
            name => Assert.True(values[name] > 0, name));

        static void Listen(Instrument instrument, MeterListener listener)
        {
            if (instrument.Meter.Name == ServerMetrics.Name)
            {
                listener.EnableMeasurementEvents(instrument);
            }
        }
    }

    [Fact]
    public void Quantiles_are_those_of_the_sorted_values()
    {
        var histogram = new Histogram([0.1, 1], TimeSpan.FromMinutes(5));
        Span<double> quantiles = stackalloc double[4];
        histogram.Quantiles([0.5], quantiles[..1]);
        Assert.True(double.IsNaN(quantiles[0]));
        double[] values = [.. Enumerable.Range(0, 101).Select(i => i / 100.0)];
        new Random(1).Shuffle(values);
        Array.ForEach(values, histogram.Record);
        histogram.Quantiles([0, 0.5, 0.905, 1], quantiles);
        Assert.Equal([0, 0.5, 0.905, 1], quantiles.ToArray().Select(q => Math.Round(q, 9)));
        Span<long> counts = stackalloc long[3];
        Assert.Equal(50.5, histogram.Read(counts), 9);
        Assert.Equal([11, 90, 0], counts.ToArray());
    }

    [Fact]
    public async Task Reading_the_text_allocates_next_to_nothing()
    {
        await using var server = await TestServer.StartAsync();
        var text = (PrometheusText)server.Services.GetService(typeof(PrometheusText))!;
        var buffer = new System.Buffers.ArrayBufferWriter<byte>(1 << 16);
        text.Write(buffer);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 100; i++)
        {
            buffer.ResetWrittenCount();
            text.Write(buffer);
        }

        // The list of the groups' loads.
        Assert.InRange((GC.GetAllocatedBytesForCurrentThread() - before) / 100, 0, 400);
    }

    // Strict: every line is a comment of a name before its first sample, or a sample; no name and labels twice; buckets only grow.
    private static Dictionary<string, double> Read(string text)
    {
        Assert.EndsWith("\n", text);
        var samples = new Dictionary<string, double>();
        string? family = null;
        var (last, helped) = (0.0, "");
        foreach (var line in text.Split('\n')[..^1])
        {
            if (line.StartsWith("# HELP ", StringComparison.Ordinal))
            {
                helped = line.Split(' ', 4)[2];
                continue;
            }

            if (line.StartsWith("# TYPE ", StringComparison.Ordinal))
            {
                family = line.Split(' ')[2];
                Assert.Equal(helped, family);
                Assert.Contains(line.Split(' ')[3], (string[])["counter", "gauge", "histogram"]);
                last = 0;
                continue;
            }

            var match = Sample().Match(line);
            Assert.True(match.Success && match.Value == line, line);
            var (name, value) = (match.Groups["name"].Value, match.Groups["value"].Value);
            Assert.StartsWith(family!, name);
            var number = value == "NaN" ? double.NaN : double.Parse(value, NumberStyles.Float, CultureInfo.InvariantCulture);
            samples.Add($"{name}{match.Groups["labels"].Value}", number);
            if (name.EndsWith("_bucket", StringComparison.Ordinal))
            {
                Assert.True(number >= last, line);
                last = number;
            }
        }

        return samples;
    }

    [GeneratedRegex("(vllm|octet):[a-z0-9_]+")]
    private static partial Regex Drawn();

    [GeneratedRegex("""^(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?<labels>\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)*\}) (?<value>\S+)$""", RegexOptions.Multiline)]
    private static partial Regex Sample();
}
