using System.Buffers;
using System.Buffers.Text;
using System.Text;
using Octet.Inference.Engine;
using Octet.Server.Hosting;

namespace Octet.Server.Observability;

/// <summary>
/// GET /metrics: what gateways and Prometheus read, under the names that they know from vLLM. Gateways ask every 50 ms, so nothing is
/// allocated but what the connection takes.
/// </summary>
internal sealed class PrometheusText
{
    private static readonly double[] Shares = [0.5, 0.9, 0.99];
    private readonly ServedModel _served;
    private readonly ServerMetrics _metrics;
    private readonly byte[] _label;
    private readonly string _blockSize;

    public PrometheusText(ServedModel served, ServerMetrics metrics, Microsoft.Extensions.Options.IOptions<OctetServerOptions> options)
    {
        (_served, _metrics) = (served, metrics);
        var name = served.Name.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
        _label = Encoding.UTF8.GetBytes($"{{model_name=\"{name}\",engine=\"0\"");
        _blockSize = $"{options.Value.Run.KvBlockSize}";
    }

    /// <summary>Answers with all of it.</summary>
    public async Task AnswerAsync(HttpContext http)
    {
        http.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
        Write(http.Response.BodyWriter);
        await http.Response.BodyWriter.FlushAsync(http.RequestAborted);
    }

    /// <summary>Writes all of it.</summary>
    public void Write(IBufferWriter<byte> to)
    {
        if (_served.Model is { } model)
        {
            WriteLoad(to, model.Loads);
            WriteStatistics(to, model.Statistics);
        }

        Counter(to, "vllm:prompt_tokens_total"u8, "Tokens of prompts"u8, _metrics.PromptTokens);
        Counter(to, "vllm:generation_tokens_total"u8, "Tokens generated"u8, _metrics.CompletionTokens);
        Head(to, "vllm:request_success_total"u8, "Requests that ended, by reason"u8, "counter"u8);
        Sample(to, "vllm:request_success_total"u8, ",finished_reason=\"stop\""u8, _metrics.Finished(ServerMetrics.Outcome.Stop));
        Sample(to, "vllm:request_success_total"u8, ",finished_reason=\"length\""u8, _metrics.Finished(ServerMetrics.Outcome.Length));
        Sample(to, "vllm:request_success_total"u8, ",finished_reason=\"abort\""u8, _metrics.Finished(ServerMetrics.Outcome.Abort));

        Buckets(to, "vllm:time_to_first_token_seconds"u8, "Time to the first token"u8, _metrics.FirstToken);
        Buckets(to, "vllm:inter_token_latency_seconds"u8, "Time between two tokens"u8, _metrics.InterToken);
        Buckets(to, "vllm:request_time_per_output_token_seconds"u8, "Mean time of a token behind the first, of a request"u8, _metrics.PerToken);
        Buckets(to, "vllm:e2e_request_latency_seconds"u8, "Time of a request"u8, _metrics.Duration);
        Buckets(to, "vllm:request_queue_time_seconds"u8, "Time a request waited for its first step"u8, _metrics.Queue);
        Quantiles(to, "octet:time_to_first_token_seconds"u8, "Time to the first token, exact over the last five minutes"u8, _metrics.FirstToken);
        Quantiles(to, "octet:time_per_output_token_seconds"u8, "Mean time of a token behind the first, exact over the last five minutes"u8, _metrics.PerToken);
    }

    private void WriteLoad(IBufferWriter<byte> to, IReadOnlyList<EngineLoad> groups)
    {
        var (running, waiting, blocks, used) = (0L, 0L, 0L, 0L);
        for (var i = 0; i < groups.Count; i++)
        {
            var group = groups[i];
            (running, waiting, blocks, used) = (running + group.Running, waiting + group.Waiting, blocks + group.KvBlocks, used + group.UsedKvBlocks);
        }

        Gauge(to, "vllm:num_requests_running"u8, "Requests in the batch"u8, running);
        Gauge(to, "vllm:num_requests_waiting"u8, "Requests that wait for their turn"u8, waiting);
        Gauge(to, "vllm:kv_cache_usage_perc"u8, "Share of the KV cache that texts hold, 0 to 1"u8, blocks == 0 ? 0 : (double)used / blocks);
        Head(to, "vllm:cache_config_info"u8, "Shape of the KV cache"u8, "gauge"u8);
        to.Write("vllm:cache_config_info"u8);
        to.Write(_label);
        to.Write(",block_size=\""u8);
        Text(to, _blockSize);
        to.Write("\",num_gpu_blocks=\""u8);
        Number(to, blocks);
        to.Write("\"} 1\n"u8);
    }

    private void WriteStatistics(IBufferWriter<byte> to, in EngineStatistics statistics)
    {
        Counter(to, "vllm:num_preemptions_total"u8, "Times a text gave its KV blocks up for others"u8, statistics.Preemptions);
        Counter(
            to, "vllm:prefix_cache_queries_total"u8, "Tokens of prompts that were looked for in the prefix cache"u8,
            statistics.PromptTokens - statistics.RecomputedTokens + statistics.CachedTokens);
        Counter(to, "vllm:prefix_cache_hits_total"u8, "Tokens of prompts that the prefix cache had"u8, statistics.CachedTokens);
        Counter(to, "octet:steps_total"u8, "Steps of the model"u8, statistics.Steps);
    }

    private void Gauge(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> help, double value)
    {
        Head(to, name, help, "gauge"u8);
        Sample(to, name, [], value);
    }

    private void Counter(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> help, double value)
    {
        Head(to, name, help, "counter"u8);
        Sample(to, name, [], value);
    }

    private void Buckets(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> help, Histogram histogram)
    {
        Head(to, name, help, "histogram"u8);
        Span<long> counts = stackalloc long[histogram.Bounds.Length + 1];
        var sum = histogram.Read(counts);
        var cumulated = 0L;
        for (var i = 0; i < counts.Length; i++)
        {
            cumulated += counts[i];
            to.Write(name);
            to.Write("_bucket"u8);
            to.Write(_label);
            to.Write(",le=\""u8);
            if (i < histogram.Bounds.Length)
            {
                Number(to, histogram.Bounds[i]);
            }
            else
            {
                to.Write("+Inf"u8);
            }

            to.Write("\"} "u8);
            Number(to, cumulated);
            to.Write("\n"u8);
        }

        Sample(to, name, "_sum"u8, [], sum);
        Sample(to, name, "_count"u8, [], cumulated);
    }

    private void Quantiles(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> help, Histogram histogram)
    {
        Head(to, name, help, "gauge"u8);
        Span<double> values = stackalloc double[Shares.Length];
        histogram.Quantiles(Shares, values);
        Sample(to, name, ",quantile=\"0.5\""u8, values[0]);
        Sample(to, name, ",quantile=\"0.9\""u8, values[1]);
        Sample(to, name, ",quantile=\"0.99\""u8, values[2]);
    }

    private static void Head(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> help, ReadOnlySpan<byte> type)
    {
        to.Write("# HELP "u8);
        to.Write(name);
        to.Write(" "u8);
        to.Write(help);
        to.Write("\n# TYPE "u8);
        to.Write(name);
        to.Write(" "u8);
        to.Write(type);
        to.Write("\n"u8);
    }

    private void Sample(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> labels, double value) => Sample(to, name, [], labels, value);

    private void Sample(IBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> suffix, ReadOnlySpan<byte> labels, double value)
    {
        to.Write(name);
        to.Write(suffix);
        to.Write(_label);
        to.Write(labels);
        to.Write("} "u8);
        Number(to, value);
        to.Write("\n"u8);
    }

    private static void Number(IBufferWriter<byte> to, double value)
    {
        if (double.IsNaN(value))
        {
            to.Write("NaN"u8);
            return;
        }

        var span = to.GetSpan(32);
        Utf8Formatter.TryFormat(value, span, out var written);
        to.Advance(written);
    }

    private static void Text(IBufferWriter<byte> to, string text) => to.Advance(Encoding.UTF8.GetBytes(text, to.GetSpan(Encoding.UTF8.GetMaxByteCount(text.Length))));
}
