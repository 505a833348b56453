using System.Globalization;
using System.Text;

namespace Octet.Inference.Planning;

/// <summary>Writes a listing as text for a terminal of 80 columns; only sentences and the model's name may make a line longer.</summary>
public static class PlanTable
{
    /// <summary>A line for each plan, the best marked with *, then the terms of the best and where they come from.</summary>
    public static string Write(PlanListing listing)
    {
        ArgumentNullException.ThrowIfNull(listing);
        var text = new StringBuilder();
        PlanWorkload workload = listing.Workload;
        Line(text, $"{listing.Model.Name} on {listing.Node.Count}x {listing.Node.Gpu.Name}, engine {listing.Engine.Name}: {workload.Input} input and {workload.Output} output tokens, {workload.Concurrency} requests in flight per {(workload.PerGroup ? "group" : "node")}");
        Line(text, $"");
        Line(text, $"  {"plan",-13} {"weights",8} {"experts",7} {"KV cache",9} {"TTFT, ms",14} {"TPOT, ms",13} {"requests",8}");
        Line(text, $"  {"",-13} {"GB/GPU",8} {"/GPU",7} {"M tokens",9} {"p50/p90",14} {"p50/p90",13} {"/s",8}");
        for (int i = 0; i < listing.Plans.Count; i++)
        {
            Plan plan = listing.Plans[i];
            char mark = i == listing.BestIndex ? '*' : plan.Feasible ? ' ' : '-';
            text.Append(CultureInfo.InvariantCulture, $"{mark} {plan.Name,-13} {plan.WeightBytesPerGpu / 1e9,8:F1} {plan.ExpertsPerGpu,7} {plan.KvCapacityTokens / 1e6,9:F2}");
            if (plan.Prediction is { } p)
            {
                Line(text, $" {$"{p.Ttft.P50:F0}/{p.Ttft.P90:F0}",14} {$"{p.Tpot.P50:F1}/{p.Tpot.P90:F1}",13} {p.RequestsPerSecond,8:F2}");
                text.Append(CultureInfo.InvariantCulture, $"    binds: {p.Binds}{(p.PreemptionsPerRequest > 0 ? $", {p.PreemptionsPerRequest:0.##} preemptions a request" : "")}{(p.Extrapolated ? " (extrapolated)" : "")}");
            }
            Line(text, $"");
            if (plan.Idle > 0)
            {
                Line(text, $"    idle: {(plan.Idle == 1 ? "GPU" : "GPUs")} {NumberList.Write(plan.IdleGpus)} of 0-{listing.Node.Count - 1}");
            }
            if (plan.Reason.Length > 0)
            {
                Line(text, $"    {(plan.Feasible ? "note" : "not feasible")}: {plan.Reason}");
            }
        }
        if (listing.Best is not { Prediction: { } best } plan0)
        {
            Line(text, $"no plan is feasible");
            return text.ToString();
        }
        Line(text, $"");
        Line(text, $"terms of {plan0.Name}:");
        foreach (PlanTerm term in best.Terms)
        {
            Line(text, $"  {term.Phase,-11} {term.Name,-28} {term.Milliseconds,10:F2} ms  {term.Provenance}");
        }
        if (best.Extrapolated)
        {
            Line(text, $"extrapolated: engine {listing.Engine.Name} was {(listing.Engine.Range is null ? "never calibrated by measurements" : "calibrated on other points")}");
        }
        return text.ToString();
    }

    private static void Line(StringBuilder text, FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
