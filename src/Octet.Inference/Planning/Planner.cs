using System.Globalization;

namespace Octet.Inference.Planning;

/// <summary>Lists every split of a node into data, tensor and expert parallelism and finds the best: a pure function of model, hardware, engine and workload. Groups of a size that does not divide the node leave the rest of its GPUs idle.</summary>
public static class Planner
{
    // Two plans closer than this are not told apart by a model whose held-out error is of this order.
    internal const double Tie = 0.12;
    private const int LargestGroup = 8;
    private const int MostConcurrency = 1 << 16;
    private const int ScaleBlock = 128;

    /// <summary>Plans a node.</summary>
    /// <remarks>The best plan has the highest <c>sqrt(requests per second / mean latency)</c>, the root of Kleinrock's power, so that splits offered different loads compare; of those within 12 % of it the one whose KV caches hold most, then the one with most whole experts.</remarks>
    /// <exception cref="PlanException">The workload is impossible.</exception>
    public static PlanListing Run(ModelShape model, PlanNode node, EngineCalibration engine, PlanWorkload workload)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(node);
        ArgumentNullException.ThrowIfNull(engine);
        ArgumentNullException.ThrowIfNull(workload);
        Check(model, node, workload);
        var plans = new List<Plan>();
        for (int tp = Math.Min(node.Count, LargestGroup); tp >= 1; tp--)
        {
            if (node.Count % tp != 0 && !int.IsPow2(tp))
            {
                continue;
            }
            for (int ep = tp; ep >= 1; ep--)
            {
                if (tp % ep == 0)
                {
                    // How a group divides its experts is no part of the step model: one simulation serves all of them.
                    PlanPrediction? same = plans.Find(plan => plan.Tp == tp && plan.Prediction is not null)?.Prediction;
                    plans.Add(Evaluate(model, node, engine, workload, tp, ep, same));
                }
            }
        }
        return new PlanListing(model, node, engine, workload, plans, FindBest(plans));
    }

    private static void Check(ModelShape model, PlanNode node, PlanWorkload workload)
    {
        (string Name, int Value)[] counts = [("input", workload.Input), ("output", workload.Output), ("concurrency", workload.Concurrency)];
        foreach ((string name, int value) in counts)
        {
            if (value < 1)
            {
                throw new PlanException($"{name} is {value}, must be at least 1");
            }
        }
        if (workload.Concurrency > MostConcurrency)
        {
            throw new PlanException($"concurrency is {workload.Concurrency}, more than the {MostConcurrency} that can be simulated");
        }
        if ((long)workload.Input + workload.Output > model.Config.MaxContext)
        {
            throw new PlanException($"{workload.Input} input and {workload.Output} output tokens exceed the context of {model.Config.MaxContext} tokens of {model.Name}");
        }
        foreach ((string name, double? value) in new[] { ("TTFT p90", workload.TtftP90Ms), ("TPOT p90", workload.TpotP90Ms) })
        {
            if (value is { } target && !(target > 0 && double.IsFinite(target)))
            {
                throw new PlanException(string.Create(CultureInfo.InvariantCulture, $"the target for {name} is {target} ms, must be above 0"));
            }
        }
        if (!(node.MemoryUtilization > 0 && node.MemoryUtilization <= 1))
        {
            throw new PlanException(string.Create(CultureInfo.InvariantCulture, $"memory utilization is {node.MemoryUtilization}, must be above 0 and at most 1"));
        }
    }

    private static Plan Evaluate(ModelShape model, PlanNode node, EngineCalibration engine, PlanWorkload workload, int tp, int ep, PlanPrediction? same)
    {
        int dp = node.Count / tp;
        double weights = model.WeightBytes(tp);
        long kvBytes = model.KvBytesPerToken(tp);
        long groupTokens = node.KvTokens(model, engine, tp);
        int experts = model.Config.ExpertCount / Math.Max(1, Math.Min(ep, model.Config.ExpertCount));
        var plan = new Plan(dp, tp, ep, node.Count - dp * tp, false, "", weights, experts, kvBytes, groupTokens * dp, null);
        if (Refusal(model, engine, tp, ep) is { } refusal)
        {
            return plan with { Reason = refusal };
        }
        if (node.KvBytes(model, tp) <= 0)
        {
            return plan with { Reason = string.Create(CultureInfo.InvariantCulture, $"{weights / 1e9:F1} GB of weights do not fit: {node.Gpu.MemoryBytes * node.MemoryUtilization / 1e9:F1} GB usable, less {node.Gpu.OverheadBytes / 1e9:F1} GB of overhead") };
        }
        int request = workload.Input + workload.Output;
        if (groupTokens < request)
        {
            return plan with { Reason = $"the KV cache of a group holds {groupTokens} tokens, one request needs {request}" };
        }
        // Requests that do not divide evenly over the groups make some groups busier by one.
        int busiest = workload.PerGroup ? workload.Concurrency : (workload.Concurrency + dp - 1) / dp;
        int fit = (int)Math.Min(busiest, groupTokens / engine.KvBlockTokens / engine.BlocksFor(request));
        bool extrapolated = engine.Range?.Contains(model.Name, node.Gpu.Kind, tp, ep, workload.Input, workload.Output, busiest) != true;
        PlanPrediction prediction = (same ?? Predict(new StepModel(model, node.Gpu, engine, tp), workload, dp, groupTokens, busiest, fit)) with { Extrapolated = extrapolated };
        string reason = Misses(workload, prediction, groupTokens, request, busiest, fit);
        string note = ShardWidth(model, tp, ep) % ScaleBlock != 0
            ? $"each GPU has {ShardWidth(model, tp, ep)} of an expert's {model.Config.MoeIntermediateSize} rows: no multiple of {ScaleBlock}, allowed because the engine shards in {engine.MoeGranule}-wide granules"
            : "";
        return plan with { Feasible = reason.Length == 0, Reason = reason.Length == 0 ? note : reason, Prediction = prediction };
    }

    private static string? Refusal(ModelShape model, EngineCalibration engine, int tp, int ep)
    {
        if (!int.IsPow2(tp))
        {
            return $"an all-reduce over {tp} GPUs falls to a fraction of the bandwidth: groups of 2, 4 and 8 only";
        }
        if (model.Config.QueryHeads % tp != 0)
        {
            return $"{model.Config.QueryHeads} attention heads do not divide over {tp} GPUs";
        }
        int kvHeads = model.Config.KeyValueHeads;
        if (kvHeads % tp != 0 && tp % kvHeads != 0)
        {
            return $"{kvHeads} KV heads neither divide over {tp} GPUs nor replicate evenly on them";
        }
        if (model.MoeLayers == 0)
        {
            return ep > 1 ? "the model has no experts" : null;
        }
        if (model.Config.ExpertCount % ep != 0)
        {
            return $"{model.Config.ExpertCount} experts do not divide over {ep} GPUs";
        }
        int ways = tp / ep;
        int width = model.Config.MoeIntermediateSize;
        return ways > 1 && (width % ways != 0 || width / ways % engine.MoeGranule != 0)
            ? $"each GPU would have {width}/{ways} = {(double)width / ways:0.##} rows of an expert, not a multiple of the {engine.MoeGranule}-wide scale block or granule of engine {engine.Name}"
            : null;
    }

    private static int ShardWidth(ModelShape model, int tp, int ep) => tp == ep ? ScaleBlock : model.Config.MoeIntermediateSize / (tp / ep);

    private static PlanPrediction Predict(StepModel step, PlanWorkload workload, int dp, long groupTokens, int busiest, int fit)
    {
        int idler = workload.PerGroup ? 0 : busiest * dp - workload.Concurrency;
        var ttft = new List<double>();
        var tpot = new List<double>();
        double perSecond = 0;
        double preemptions = 0;
        foreach ((int groups, int users) in new[] { (dp - idler, busiest), (idler, busiest - 1) })
        {
            if (groups == 0 || users == 0)
            {
                continue;
            }
            ServingResult result = ServingSimulation.Run(step, new ServingLoad(workload.Input, workload.Output, users, groupTokens));
            for (int group = 0; group < groups; group++)
            {
                ttft.AddRange(result.TtftMs);
                tpot.AddRange(result.TpotMs);
            }
            preemptions += (double)groups * result.Preemptions;
            perSecond += groups * users * 1e3 / (result.TtftMs.Average() + (workload.Output - 1) * result.TpotMs.Average());
        }
        IReadOnlyList<PlanTerm> decode = step.DecodeTerms(fit, fit * (workload.Input + workload.Output / 2.0));
        IReadOnlyList<PlanTerm> prefill = step.PrefillTerms(workload.Input);
        string binds = fit < busiest ? "KV capacity" : Largest(decode, prefill, workload.Output, fit);
        double latency = ttft.Average() + (workload.Output - 1) * tpot.Average();
        return new PlanPrediction(Latency.Of(ttft), Latency.Of(tpot), latency, perSecond, preemptions / ttft.Count, binds, Extrapolated: true, [.. decode, .. prefill]);
    }

    // Time of the group per request: its own prefill, and its share of the decode steps it is part of.
    private static string Largest(IReadOnlyList<PlanTerm> decode, IReadOnlyList<PlanTerm> prefill, int output, int running) =>
        decode.Select(term => term with { Milliseconds = term.Milliseconds * (output - 1) / running }).Concat(prefill).MaxBy(term => term.Milliseconds) is { } most
            ? $"{most.Phase}: {most.Name}"
            : "";

    private static string Misses(PlanWorkload workload, PlanPrediction prediction, long groupTokens, int request, int busiest, int fit)
    {
        var misses = new List<string>();
        if (fit < busiest)
        {
            misses.Add($"the KV cache of a group holds {groupTokens} tokens, {fit} requests of {request}, not the {busiest} asked for");
        }
        if (workload.TtftP90Ms is { } ttft && prediction.Ttft.P90 > ttft)
        {
            misses.Add(string.Create(CultureInfo.InvariantCulture, $"p90 TTFT of {prediction.Ttft.P90:F0} ms misses the target of {ttft:0.##} ms"));
        }
        if (workload.TpotP90Ms is { } tpot && prediction.Tpot.P90 > tpot)
        {
            misses.Add(string.Create(CultureInfo.InvariantCulture, $"p90 TPOT of {prediction.Tpot.P90:F1} ms misses the target of {tpot:0.##} ms"));
        }
        return string.Join("; ", misses);
    }

    private static int FindBest(List<Plan> plans)
    {
        var feasible = plans.Select((plan, index) => (plan, index)).Where(entry => entry.plan.Feasible).ToList();
        if (feasible.Count == 0)
        {
            return -1;
        }
        double best = feasible.Max(entry => Score(entry.plan));
        return feasible.Where(entry => Score(entry.plan) >= best * (1 - Tie))
            .OrderByDescending(entry => entry.plan.KvCapacityTokens).ThenByDescending(entry => entry.plan.Ep)
            .First().index;
    }

    private static double Score(Plan plan) => Math.Sqrt(plan.Prediction!.RequestsPerSecond / plan.Prediction.LatencyMs);
}
