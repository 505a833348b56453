using System.Text.Json;
using Octet.Server.Api;
using Octet.Server.Observability;

namespace Octet.Server.Hosting;

/// <summary>GET /status: what the engine does at the moment, as the page shows it.</summary>
internal sealed class EngineStatus(ServedModel served, ServerMetrics metrics)
{
    private static readonly double[] Shares = [0.5, 0.9, 0.99];

    /// <summary>Answers with it.</summary>
    public Task AnswerAsync(HttpContext http)
    {
        http.Response.Headers.CacheControl = "no-store";
        return JsonWriting.WriteAsync(http.Response, Write, http.RequestAborted);
    }

    private void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("model", served.Name);
        json.WriteString("state", served.State.ToString().ToLowerInvariant());
        json.WriteNumber("loaded", Math.Round(served.Loaded, 4));
        json.WriteNumber("generated_tokens", metrics.CompletionTokens);
        WriteQuantiles(json, "ttft_seconds", metrics.FirstToken);
        WriteQuantiles(json, "tpot_seconds", metrics.PerToken);
        if (served.Model is { } model)
        {
            var statistics = model.Statistics;
            json.WriteNumber("max_model_len", model.MaxLength);
            json.WriteNumber("steps", statistics.Steps);
            json.WriteNumber("prompt_tokens", statistics.PromptTokens);
            json.WriteNumber("cached_tokens", statistics.CachedTokens);
            json.WriteNumber("preemptions", statistics.Preemptions);
            json.WriteStartArray("groups");
            var (devices, loads) = (model.Devices.Devices, model.Loads);
            var ranks = devices.Count / loads.Count;
            for (var i = 0; i < loads.Count; i++)
            {
                var load = loads[i];
                json.WriteStartObject();
                json.WriteNumber("running", load.Running);
                json.WriteNumber("waiting", load.Waiting);
                json.WriteNumber("kv_blocks", load.KvBlocks);
                json.WriteNumber("used_kv_blocks", load.UsedKvBlocks);
                json.WriteBoolean("lost", load.Lost is not null);
                json.WriteStartArray("devices");
                foreach (var device in devices.Skip(i * ranks).Take(ranks))
                {
                    json.WriteStringValue(device.Name);
                }

                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    // null where nothing came.
    private static void WriteQuantiles(Utf8JsonWriter json, string name, Histogram histogram)
    {
        Span<double> values = stackalloc double[Shares.Length];
        histogram.Quantiles(Shares, values);
        json.WriteStartObject(name);
        foreach (var (share, value) in (ReadOnlySpan<(string, double)>)[("p50", values[0]), ("p90", values[1]), ("p99", values[2])])
        {
            if (double.IsNaN(value))
            {
                json.WriteNull(share);
            }
            else
            {
                json.WriteNumber(share, value);
            }
        }

        json.WriteEndObject();
    }
}
