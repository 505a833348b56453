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

    /// <summary>Time of one step, tagged prefill or decode.</summary>
    public static readonly Histogram<double> StepDuration =
        Meter.CreateHistogram<double>("octet.step.duration", "s", "Time of one step of the model");
}
