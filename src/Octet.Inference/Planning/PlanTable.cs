using System.Globalization;
using System.Text;

namespace Octet.Inference.Planning;

/// <summary>Writes a listing as text for a terminal.</summary>
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
        Line(text, $"  plan           weights/GPU  experts  KV capacity     TTFT p50/p90 ms     TPOT p50/p90 ms  requests/s  binds");
        for (int i = 0; i < listing.Plans.Count; i++)
        {
            Plan plan = listing.Plans[i];
            char mark = i == listing.BestIndex ? '*' : plan.Feasible ? ' ' : '-';
            text.Append(CultureInfo.InvariantCulture, $"{mark} {plan.Name,-13} {plan.WeightBytesPerGpu / 1e9,8:F1} GB {plan.ExpertsPerGpu,8} {plan.KvCapacityTokens / 1e6,10:F2} M");
            if (plan.Prediction is { } p)
            {
                text.Append(CultureInfo.InvariantCulture, $"  {p.Ttft.P50,8:F0} /{p.Ttft.P90,8:F0}  {p.Tpot.P50,8:F1} /{p.Tpot.P90,8:F1}  {p.RequestsPerSecond,10:F2}  {p.Binds}{(p.Extrapolated ? " (extrapolated)" : "")}");
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
