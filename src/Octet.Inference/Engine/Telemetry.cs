using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Octet.Inference.Engine;

/// <summary>Metrics and traces under the name "Octet"; free when nobody listens.</summary>
internal static class Telemetry
{
    private static readonly Meter Meter = new("Octet");

    /// <summary>One activity for each request.</summary>
    public static readonly ActivitySource Activities = new("Octet");

    /// <summary>Prompt tokens read.</summary>
    public static readonly Counter<long> PromptTokens =
        Meter.CreateCounter<long>("octet.prompt_tokens", "{token}", "Prompt tokens read");

    /// <summary>Tokens generated.</summary>
    public static readonly Counter<long> GeneratedTokens =
        Meter.CreateCounter<long>("octet.generated_tokens", "{token}", "Tokens generated");

    /// <summary>Time of one step, tagged decode, prefill or mixed.</summary>
    public static readonly Histogram<double> StepDuration =
        Meter.CreateHistogram<double>("octet.step.duration", "s", "Time of one step of the model");

    /// <summary>Times a text was preempted for want of KV blocks.</summary>
    public static readonly Counter<long> Preemptions =
        Meter.CreateCounter<long>("octet.preemptions", "{preemption}", "Times a text had to give its KV blocks up for others");

    /// <summary>Prompt tokens that preempted texts computed again, as the prefix cache had not kept them.</summary>
    public static readonly Counter<long> RecomputedTokens =
        Meter.CreateCounter<long>("octet.recomputed_tokens", "{token}", "Prompt tokens that preempted texts computed again");

    /// <summary>Prompt tokens taken from the prefix cache.</summary>
    public static readonly Counter<long> CachedTokens =
        Meter.CreateCounter<long>("octet.cached_tokens", "{token}", "Prompt tokens found in the prefix cache");

    /// <summary>Records a step.</summary>
    public static void Step(StepPlan plan, int drawn, TimeSpan duration)
    {
        var kind = plan.DecodeRows == plan.Rows.Count ? "decode" : plan.DecodeRows == 0 ? "prefill" : "mixed";
        StepDuration.Record(duration.TotalSeconds, new KeyValuePair<string, object?>("kind", kind));
        PromptTokens.Add(plan.PromptTokens);
        GeneratedTokens.Add(drawn);
        CachedTokens.Add(plan.CachedTokens);
        Preemptions.Add(plan.Preempted);
        RecomputedTokens.Add(plan.Recomputed);
    }
}
