using Octet.Inference.Models.Layers;
using Octet.Inference.Planning;

namespace Octet.Cli.Inspect;

/// <summary>All ops of a step that are alike: how many, and the modelled time of one.</summary>
/// <param name="Name">What they are in the model.</param>
/// <param name="Shape">Their sizes.</param>
/// <param name="Kernels">What each launches, joined by " + "; empty: a fill.</param>
/// <param name="Count">How many.</param>
/// <param name="KernelMicroseconds">Of one, its launches included: what links do not account for.</param>
/// <param name="LinkMicroseconds">Of one: waits for peers, and bytes over the busiest link.</param>
/// <param name="Binds">The largest term.</param>
internal sealed record StepLine(
    string Name, string Shape, string Kernels, int Count, double KernelMicroseconds, double LinkMicroseconds, string Binds)
{
    /// <summary>Of one.</summary>
    public double Microseconds => KernelMicroseconds + LinkMicroseconds;
}

/// <summary>Microseconds of a layer.</summary>
/// <param name="Kernels">Of its kernels and launches.</param>
/// <param name="Signals">Of waits for all peers.</param>
/// <param name="Transfers">Of bytes over the busiest link.</param>
/// <param name="Launches">Of the launches that only wait and gather, and of their first loads; they are among the kernels.</param>
internal readonly record struct LayerCost(double Kernels, double Signals, double Transfers, double Launches)
{
    /// <summary>What links and waits take.</summary>
    public double Links => Signals + Transfers;
}

/// <summary>Microseconds below which no step can be: each of them alone, at the rate of a stream or of the matrix unit.</summary>
/// <param name="Weights">Weights that are read.</param>
/// <param name="Kv">Keys and values of all contexts.</param>
/// <param name="Matrices">Useful operations at the FP8 ceiling.</param>
/// <param name="Links">Bytes over the busiest link, without signals.</param>
internal readonly record struct StepFloors(double Weights, double Kv, double Matrices, double Links);

/// <summary>
/// The modelled time of one step of a model on a group of ranks. What the host does, and the copies of a step's input and of the drawn
/// tokens, are not in it.
/// </summary>
/// <param name="Load">What the step computes.</param>
/// <param name="TensorParallel">Ranks.</param>
/// <param name="ExpertParallel">Parts of the experts.</param>
/// <param name="Lines">All ops, the alike ones together, in the order in which the first of each comes.</param>
/// <param name="Layer">A layer on average.</param>
/// <param name="Floors">What bounds it.</param>
/// <param name="PlainMicroseconds">The same step with a plain BF16 all-reduce for each sum, every rank doing all tokens between.</param>
/// <param name="PlainLayer">A layer of it.</param>
/// <param name="HeldBytes">Weights and KV cache of a rank.</param>
internal sealed record StepCost(
    StepLoad Load, int TensorParallel, int ExpertParallel, IReadOnlyList<StepLine> Lines, LayerCost Layer, StepFloors Floors,
    double PlainMicroseconds, LayerCost PlainLayer, double HeldBytes)
{
    /// <summary>Of all kernels and launches.</summary>
    public double KernelMicroseconds => Lines.Sum(l => l.Count * l.KernelMicroseconds);

    /// <summary>Of all links and waits.</summary>
    public double LinkMicroseconds => Lines.Sum(l => l.Count * l.LinkMicroseconds);

    /// <summary>Of the step.</summary>
    public double Microseconds => KernelMicroseconds + LinkMicroseconds;
}

/// <summary>The model of whole steps on one target: pure, and repeatable to the bit.</summary>
/// <param name="kernels">What its kernels cost.</param>
internal sealed class StepCosts(KernelCosts kernels)
{
    // What a step's input takes on this machine bounds both, not the ops.
    private const int MostTokens = 1 << 20, MostRows = 1 << 14;

    // Own: of the kernel, if no link were slower.
    private readonly record struct Price(double Own, double Kernel, double Signals, double Transfers, string Binds)
    {
        public double Links => Signals + Transfers;
    }

    private Gpu Gpu => kernels.Gpu;

    /// <summary>One step.</summary>
    /// <param name="model">The model; its tokens choose eight experts or none.</param>
    /// <param name="tp">Ranks: 1, 2, 4 or 8.</param>
    /// <param name="ep">Parts of the experts: a divisor of <paramref name="tp"/>.</param>
    /// <param name="load">What the step computes.</param>
    /// <exception cref="ArgumentException">
    /// The model cannot be divided so, or the step is empty or too large; the message has the values.
    /// </exception>
    public StepCost Of(ModelShape model, int tp, int ep, StepLoad load)
    {
        Check(model, tp, ep, load);
        var links = new CollectiveModel(tp, Gpu.LinkGigabytes);
        var ops = Record(model, tp, ep, load, dividesTokens: true);
        var whole = tp == 1 ? ops : Record(model, tp, ep, load, dividesTokens: false);
        var prices = new Dictionary<(string, string), Price>();
        Price PriceOf(RecordedOp op)
        {
            var key = (op.Name, op.Shape);
            return prices.TryGetValue(key, out var known) ? known : prices[key] = this.PriceOf(op, links);
        }

        Price PlainOf(RecordedOp op) => Plain(op, PriceOf(op), links, model.HiddenBytes * load.Tokens);
        var plain = WithoutSums(whole);
        return new(
            load, tp, ep, LinesOf(ops, PriceOf), LayerOf(ops, model, PriceOf), FloorsOf(model, tp, load, ops, links),
            plain.Sum(op => PlainOf(op) is var price ? price.Kernel + price.Links : 0), LayerOf(plain, model, PlainOf),
            model.WeightBytes(tp) + (double)load.KvTokens * model.KvBytesPerToken(tp));
    }

    /// <summary>Refuses what <see cref="Of"/> cannot model, but for ops that cannot be that large.</summary>
    /// <exception cref="ArgumentException">The message has the values.</exception>
    public static void Check(ModelShape model, int tp, int ep, StepLoad load)
    {
        new Sharding(0, tp, ep).Check(model.Config);
        RankShape.CheckSums(model.Config, tp);
        Require(load is { DecodeRows: >= 0, Prompts: >= 0 } && load.DecodeRows + load.Prompts > 0, "a step needs at least one sequence");
        Require(
            (load.DecodeRows == 0 || load.Context >= 1) && (load.Prompts == 0 || load.PromptTokens >= 1)
            && Math.Max(load.Context, load.PromptTokens) <= model.Config.MaxContext,
            $"contexts of {load.Context} and prompts of {load.PromptTokens} tokens must be 1 to {model.Config.MaxContext}, "
            + $"what {model.Name} can read");
        Require(
            load.Tokens <= MostTokens && load.DecodeRows <= MostRows && load.Prompts <= MostRows,
            $"{load.Tokens} tokens of {Math.Max(load.DecodeRows, load.Prompts)} sequences are more than one step can have, "
            + $"{MostTokens} of {MostRows}: take a smaller batch or a shorter context");
        Require(
            model.Config.ExpertCount == 0 || model.Config.ExpertsPerToken == 8,
            $"{model.Config.ExpertsPerToken} experts a token: only kernels that route to 8 are laid out");
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new ArgumentException(message);
        }
    }

    private IReadOnlyList<RecordedOp> Record(ModelShape model, int tp, int ep, StepLoad load, bool dividesTokens)
    {
        try
        {
            return EngineStep.Record(Gpu.Target, model.Config, tp, ep, load, dividesTokens);
        }
        catch (OctetException error)
        {
            throw new ArgumentException(
                $"a step of {load.Tokens} tokens cannot be enqueued: {error.Message}; take a smaller batch or a shorter context", error);
        }
    }

    private static List<StepLine> LinesOf(IReadOnlyList<RecordedOp> ops, Func<RecordedOp, Price> priceOf) =>
    [
        .. ops.GroupBy(op => (op.Name, op.Shape)).Select(alike =>
        {
            var (op, price) = (alike.First(), priceOf(alike.First()));
            var kernels = string.Join(" + ", op.Launches.Select(l => l.Kernel));
            return new StepLine(op.Name, op.Shape, kernels, alike.Count(), price.Kernel, price.Links, price.Binds);
        }),
    ];

    // From the first layer's rope to the last one's: so many whole layers less one, whatever stands before and behind.
    private static LayerCost LayerOf(IReadOnlyList<RecordedOp> ops, ModelShape model, Func<RecordedOp, Price> priceOf)
    {
        var ropes = Enumerable.Range(0, ops.Count).Where(i => ops[i].Name == "rope").ToList();
        var (first, end, layers) = model.Config.LayerCount == 1 ? (0, ops.Count, 1) : (ropes[0], ropes[^1], model.Config.LayerCount - 1);
        var inside = ops.Skip(first).Take(end - first).ToList();
        double Each(Func<RecordedOp, double> part) => inside.Sum(part) / layers;
        return new(
            Each(op => priceOf(op).Kernel), Each(op => priceOf(op).Signals), Each(op => priceOf(op).Transfers),
            Each(op => IsCollective(op) ? priceOf(op).Kernel : 0));
    }

    private static bool IsCollective(RecordedOp op) => op.Links.Signals + op.Links.Requests > 0;

    private StepFloors FloorsOf(ModelShape model, int tp, StepLoad load, IReadOnlyList<RecordedOp> ops, CollectiveModel links) => new(
        model.StepWeightBytes(tp, load.Tokens) / Gpu.HbmTerabytes * 1e-6,
        (double)load.KvTokens * model.KvBytesPerToken(tp) / Gpu.HbmTerabytes * 1e-6,
        ops.Sum(op => op.Work.Flops) / Gpu.Fp8Teraflops * 1e-6,
        ops.Sum(op => links.Transfer(op.Links.Bytes)));

    /// <summary>
    /// An op whose bytes come or go over links takes the longer of its own time and of them. What waits and gathers does nothing else: its
    /// kernel's part is the launch, and the wait for its first load, as any kernel's.
    /// </summary>
    private Price PriceOf(RecordedOp op, CollectiveModel links)
    {
        var signals = op.Links.Signals * links.GroupSync;
        var transfers = Math.Max(op.Links.Requests, 1) * links.Transfer(op.Links.Bytes);
        if (IsCollective(op))
        {
            var kernel = Gpu.LaunchMicroseconds + op.Links.Requests * CollectiveModel.RequestMicroseconds;
            return new(kernel, kernel, signals, transfers, signals > transfers ? "signal" : "link");
        }

        var own = kernels.TimeOf(op.Work, op.Launches, op.Workspace);
        var inside = own.Total - own.Launch;
        return new(own.Total, own.Launch + Math.Max(inside - transfers, 0), 0, transfers, transfers > inside ? "link" : own.Binds);
    }

    // Every rank does all tokens; the sum before a norm is an all-reduce, and what the ranks wait for beside it is the head's columns.
    private static Price Plain(RecordedOp op, Price price, CollectiveModel links, double bytes)
    {
        var requests = links.AllReduceRequests(bytes) * CollectiveModel.RequestMicroseconds;
        return op.Name == "norm" && op.Links.Bytes > 0 ? price with { Kernel = price.Own + requests, Transfers = links.AllReduce(bytes) - requests } : price;
    }

    // The waits before norms belong to the sums.
    private static List<RecordedOp> WithoutSums(IReadOnlyList<RecordedOp> ops) =>
        [.. ops.Where((op, i) => op.Links.Signals == 0 || ops[i + 1].Name != "norm")];
}
