namespace Octet.Inference.Planning;

/// <summary>What a node is asked to serve.</summary>
/// <param name="Input">Input tokens of a request.</param>
/// <param name="Output">Output tokens of a request.</param>
/// <param name="Concurrency">Requests in flight.</param>
/// <param name="PerGroup">Whether <paramref name="Concurrency"/> is meant for each DP group rather than for the node.</param>
/// <param name="TtftP90Ms">Target for the 90th percentile of the time to first token, milliseconds.</param>
/// <param name="TpotP90Ms">Target for the 90th percentile of the time per output token, milliseconds.</param>
public sealed record PlanWorkload(int Input, int Output, int Concurrency, bool PerGroup = true, double? TtftP90Ms = null, double? TpotP90Ms = null);

/// <summary>A node: how many GPUs of which kind, and how much of their memory may be used.</summary>
/// <param name="Gpu">The kind of GPU.</param>
/// <param name="Count">GPUs.</param>
/// <param name="MemoryUtilization">Share of each GPU's memory that weights, KV cache and overhead may fill, (0, 1].</param>
public sealed record PlanNode(Hardware Gpu, int Count, double MemoryUtilization = 0.9)
{
    /// <summary>Bytes that the weights leave for KV on each GPU of a group; below zero where they do not fit.</summary>
    internal double KvBytes(ModelShape model, int tp) => Gpu.MemoryBytes * MemoryUtilization - Gpu.OverheadBytes - model.WeightBytes(tp);

    /// <summary>Tokens the KV cache of a group holds, in whole blocks.</summary>
    internal long KvTokens(ModelShape model, EngineCalibration engine, int tp) =>
        (long)(Math.Max(0, KvBytes(model, tp)) / model.KvBytesPerToken(tp) / engine.KvBlockTokens) * engine.KvBlockTokens;

    /// <summary>Reads <c>mi325x:8</c>.</summary>
    /// <exception cref="PlanException">It is not of that form, the kind is unknown, or the count is not from 1 to 64.</exception>
    public static PlanNode Parse(string text, double memoryUtilization = 0.9)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split(':');
        if (parts.Length != 2 || !int.TryParse(parts[1], System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int count) || count is < 1 or > 64)
        {
            throw new PlanException($"node '{text}' is not KIND:COUNT with a count from 1 to 64, such as mi325x:8");
        }
        return new PlanNode(Hardware.Find(parts[0]), count, memoryUtilization);
    }
}

/// <summary>Mean and percentiles of a latency, milliseconds; percentiles by linear interpolation over requests.</summary>
/// <param name="Mean">Mean.</param>
/// <param name="P50">Median.</param>
/// <param name="P90">90th percentile.</param>
public sealed record Latency(double Mean, double P50, double P90)
{
    internal static Latency Of(IReadOnlyList<double> samples)
    {
        double[] sorted = [.. samples.Order()];
        return new Latency(sorted.Average(), At(sorted, 0.5), At(sorted, 0.9));
    }

    /// <summary>The value below which a share of the ascending ones lies, with linear interpolation.</summary>
    internal static double At(ReadOnlySpan<double> sorted, double share)
    {
        double position = share * (sorted.Length - 1);
        int below = (int)position;
        return below + 1 < sorted.Length ? sorted[below] + (position - below) * (sorted[below + 1] - sorted[below]) : sorted[below];
    }
}

/// <summary>What one plan is predicted to do.</summary>
/// <param name="Ttft">Time to first token of a request.</param>
/// <param name="Tpot">Time per output token of a request.</param>
/// <param name="LatencyMs">Mean time from sending a request to its last token.</param>
/// <param name="RequestsPerSecond">Of the whole node: by Little's law, requests in flight over their mean latency.</param>
/// <param name="PreemptionsPerRequest">How often a request loses its KV blocks to an older one.</param>
/// <param name="Binds">What takes the largest share of the time.</param>
/// <param name="Extrapolated">Whether the point lies outside what the engine was calibrated on.</param>
/// <param name="Terms">The parts of a decode step at the group's concurrency, and of one prefill.</param>
public sealed record PlanPrediction(Latency Ttft, Latency Tpot, double LatencyMs, double RequestsPerSecond, double PreemptionsPerRequest, string Binds, bool Extrapolated, IReadOnlyList<PlanTerm> Terms);

/// <summary>One split of a node: <paramref name="Dp"/> groups of <paramref name="Tp"/> GPUs, in each of which <paramref name="Ep"/> share the experts whole; GPUs that make no whole group are idle.</summary>
/// <param name="Dp">Data-parallel groups.</param>
/// <param name="Tp">GPUs of a group.</param>
/// <param name="Ep">Ways the experts are divided; the remaining <c>tp / ep</c> cut each expert's width.</param>
/// <param name="Idle">GPUs of the node that are in no group.</param>
/// <param name="Feasible">Whether it fits and meets the targets.</param>
/// <param name="Reason">Why it is not feasible, or what to know about it; empty if nothing.</param>
/// <param name="WeightBytesPerGpu">Bytes of weights on each GPU.</param>
/// <param name="ExpertsPerGpu">Experts of a layer on each GPU.</param>
/// <param name="KvBytesPerTokenPerGpu">Bytes of KV cache a token takes on each GPU of its group.</param>
/// <param name="KvCapacityTokens">Tokens the KV caches of the whole node hold.</param>
/// <param name="Prediction">What it does, or null where no request fits.</param>
public sealed record Plan(int Dp, int Tp, int Ep, int Idle, bool Feasible, string Reason, double WeightBytesPerGpu, int ExpertsPerGpu, long KvBytesPerTokenPerGpu, long KvCapacityTokens, PlanPrediction? Prediction)
{
    /// <summary>The usual short name, such as <c>DP2/TP4/EP4</c>.</summary>
    public string Name => $"DP{Dp}/TP{Tp}/EP{Ep}";

    /// <summary>The idle GPUs by number, where groups take GPUs in order.</summary>
    public IEnumerable<int> IdleGpus => Enumerable.Range(Dp * Tp, Idle);
}

/// <summary>Every split of a node and the best of them.</summary>
/// <param name="Model">The model.</param>
/// <param name="Node">The node.</param>
/// <param name="Engine">The engine.</param>
/// <param name="Workload">The workload.</param>
/// <param name="Plans">Every split.</param>
/// <param name="BestIndex">Which of <paramref name="Plans"/> is best, or -1 if none is feasible.</param>
public sealed record PlanListing(ModelShape Model, PlanNode Node, EngineCalibration Engine, PlanWorkload Workload, IReadOnlyList<Plan> Plans, int BestIndex)
{
    /// <summary>The best plan, or null if none is feasible.</summary>
    public Plan? Best => BestIndex < 0 ? null : Plans[BestIndex];
}
