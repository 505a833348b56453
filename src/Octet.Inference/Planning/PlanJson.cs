using System.Text.Json;

namespace Octet.Inference.Planning;

/// <summary>Writes a listing as the members of a JSON object.</summary>
public static class PlanJson
{
    /// <summary>Writes <c>best, model, node, engine, plans, sources</c> into the open object; latencies in milliseconds per request, capacity and requests per second for the whole node.</summary>
    public static void Write(PlanListing listing, Utf8JsonWriter json)
    {
        ArgumentNullException.ThrowIfNull(listing);
        ArgumentNullException.ThrowIfNull(json);
        json.WriteNumber("best", listing.BestIndex);
        json.WriteString("model", listing.Model.Name);
        json.WriteString("node", $"{listing.Node.Gpu.Kind}:{listing.Node.Count}");
        json.WriteString("engine", listing.Engine.Name);
        json.WriteStartArray("plans");
        foreach (Plan plan in listing.Plans)
        {
            WritePlan(plan, json);
        }
        json.WriteEndArray();
        json.WriteStartArray("sources");
        foreach (string source in listing.Node.Gpu.Sources)
        {
            json.WriteStringValue(source);
        }
        foreach ((string name, EngineConstant constant) in listing.Engine.Constants)
        {
            json.WriteStringValue($"{name}: {constant.Source} ({constant.Provenance})");
        }
        json.WriteEndArray();
    }

    private static void WritePlan(Plan plan, Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteNumber("dp", plan.Dp);
        json.WriteNumber("tp", plan.Tp);
        json.WriteNumber("ep", plan.Ep);
        json.WriteStartArray("idle_gpus");
        foreach (int gpu in plan.IdleGpus)
        {
            json.WriteNumberValue(gpu);
        }
        json.WriteEndArray();
        json.WriteBoolean("feasible", plan.Feasible);
        json.WriteString("reason", plan.Reason);
        json.WriteNumber("weights_bytes_per_gpu", (long)plan.WeightBytesPerGpu);
        json.WriteNumber("experts_per_gpu", plan.ExpertsPerGpu);
        json.WriteNumber("kv_bytes_per_token_per_gpu", plan.KvBytesPerTokenPerGpu);
        json.WriteNumber("kv_capacity_tokens", plan.KvCapacityTokens);
        WriteLatency("ttft_ms", plan.Prediction?.Ttft, json);
        WriteLatency("tpot_ms", plan.Prediction?.Tpot, json);
        if (plan.Prediction is { } prediction)
        {
            json.WriteNumber("requests_per_second", Math.Round(prediction.RequestsPerSecond, 4));
            json.WriteNumber("preemptions_per_request", Math.Round(prediction.PreemptionsPerRequest, 4));
            json.WriteString("binds", prediction.Binds);
            json.WriteBoolean("extrapolated", prediction.Extrapolated);
        }
        else
        {
            json.WriteNull("requests_per_second");
            json.WriteNull("preemptions_per_request");
            json.WriteNull("binds");
            json.WriteNull("extrapolated");
        }
        json.WriteStartArray("terms");
        foreach (PlanTerm term in plan.Prediction?.Terms ?? [])
        {
            json.WriteStartObject();
            json.WriteString("phase", term.Phase);
            json.WriteString("name", term.Name);
            json.WriteNumber("ms", Math.Round(term.Milliseconds, 4));
            json.WriteString("provenance", term.Provenance);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteLatency(string name, Latency? latency, Utf8JsonWriter json)
    {
        if (latency is null)
        {
            json.WriteNull(name);
            return;
        }
        json.WriteStartObject(name);
        json.WriteNumber("mean", Math.Round(latency.Mean, 4));
        json.WriteNumber("p50", Math.Round(latency.P50, 4));
        json.WriteNumber("p90", Math.Round(latency.P90, 4));
        json.WriteEndObject();
    }
}
