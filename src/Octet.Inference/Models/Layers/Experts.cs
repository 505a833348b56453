using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>The sublayer behind attention: experts, or one MLP for all tokens.</summary>
internal interface IMlp
{
    /// <summary>Whether it reads the normed rows in BF16 too.</summary>
    bool ReadsPlain { get; }

    /// <summary>Brings it to the device.</summary>
    void Load(WeightLoader loader);

    /// <summary>Enqueues it, from the normed rows to what it adds to the residual stream.</summary>
    SublayerOutput Run(ForwardStep step);
}

/// <summary>
/// Mixture of experts: the router's scores choose top_k experts for each token, each of which is a gated MLP; their outputs stay in slots,
/// which the next norm combines. Experts are divided over ranks, or their width is; the router is on each.
/// </summary>
internal sealed class Experts : IMlp
{
    private readonly ModelConfig _config;
    private readonly SafeTensor _routerSource;
    private readonly SafeTensor? _scoreBiasSource;
    private readonly ExpertTensors _sources;
    private readonly int _first;
    private readonly int _leaves;
    private Weight _router = null!;
    private Weight _gate = null!;
    private Weight _up = null!;
    private Weight _down = null!;
    private TensorView _scoreBias;

    /// <param name="source">Where from.</param>
    /// <param name="prefix">Of its tensors: ends in "mlp." or "block_sparse_moe.".</param>
    /// <param name="names">What an expert's projections are called.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, or of another type or shape.</exception>
    public Experts(LayerSource source, string prefix, MlpNames names)
    {
        var (tensors, config) = (source.Tensors, source.Config);
        var (shard, columns, rows) = (
            source.Sharding.Experts, source.Sharding.ExpertWidth(ShardKind.Column), source.Sharding.ExpertWidth(ShardKind.Row));
        _config = config;
        _routerSource = tensors.TakePlain($"{prefix}gate.weight", config.ExpertCount, config.HiddenSize);
        _scoreBiasSource = config.HasScoreBias ? tensors.TakePlain($"{prefix}e_score_correction_bias", config.ExpertCount) : null;
        var all = ExpertTensors.Take(tensors, config, $"{prefix}experts.", names);
        _sources = new(columns.Of(shard.Of(all.Gate)), columns.Of(shard.Of(all.Up)), rows.Of(shard.Of(all.Down)));
        _first = (int)shard.Of(config.ExpertCount).First;
        _leaves = shard.LeavesOf(SumTree.LeavesOfExperts(config.ExpertCount));
    }

    public bool ReadsPlain => true;

    public void Load(WeightLoader loader)
    {
        _router = new Weight { Values = loader.LoadBFloat16(_routerSource) };
        _scoreBias = _scoreBiasSource is null ? default : loader.LoadFloat32(_scoreBiasSource);
        _gate = loader.LoadExperts(_sources.Gate);
        _up = loader.LoadExperts(_sources.Up);
        _down = loader.LoadExperts(_sources.Down);
    }

    public SublayerOutput Run(ForwardStep step)
    {
        var buffers = step.Buffers;
        var logits = step.GemmForNext(new() { A = step.Own(buffers.Normed), B = _router, Output = step.Own(buffers.RouterLogits) });
        var divides = step.Exchange is { DividesTokens: true };
        var route = new MoeRouteArgs
        {
            Logits = logits,
            Ids = step.Own(buffers.ExpertIds),
            Weights = step.Own(buffers.ExpertWeights),
            Renormalize = _config.NormalizeTopK,
            Scoring = _config.Scoring,
            ScoreBias = _scoreBias,
            ExpertOffsets = divides ? default : buffers.ExpertOffsets,
            SlotPairs = divides ? default : buffers.SlotPairs,
            PairSlots = divides ? default : buffers.PairSlots,
            FirstExpert = _first,
        };
        Ops.MoeRoute(step.Stream, route with { Workspace = step.Workspace.Take(step.Device.Backend.MoeRouteWorkspace(in route)) });
        if (divides)
        {
            // Sorted are the pairs of all tokens, when those of the peers are here.
            step.Take(SharedRows.Routed);
            var sort = new MoeSortArgs
            {
                Ids = buffers.ExpertIds,
                ExpertOffsets = buffers.ExpertOffsets,
                SlotPairs = buffers.SlotPairs,
                PairSlots = buffers.PairSlots,
                Experts = _config.ExpertCount,
                FirstExpert = _first,
            };
            Ops.MoeSort(step.Stream, sort with { Workspace = step.Workspace.Take(step.Device.Backend.MoeSortWorkspace(in sort)) });
        }

        var gateUp = new MoeGateUpArgs
        {
            X = buffers.NormedQuantized,
            Gate = _gate,
            Up = _up,
            ExpertOffsets = buffers.ExpertOffsets,
            SlotPairs = buffers.SlotPairs,
            TopK = _config.ExpertsPerToken,
            LayerExperts = _config.ExpertCount,
            Output = buffers.GateUp,
        };
        Ops.MoeGateUp(step.Stream, gateUp with { Workspace = step.Workspace.Take(step.Device.Backend.MoeGateUpWorkspace(in gateUp)) });

        var down = new MoeDownArgs
        {
            X = buffers.GateUp,
            Down = _down,
            ExpertOffsets = buffers.ExpertOffsets,
            TopK = _config.ExpertsPerToken,
            LayerExperts = _config.ExpertCount,
            Output = buffers.Down,
        };
        Ops.MoeDown(step.Stream, down with { Workspace = step.Workspace.Take(step.Device.Backend.MoeDownWorkspace(in down)) });
        var leafExperts = _config.ExpertCount / SumTree.LeavesOfExperts(_config.ExpertCount);
        if (step.Exchange is null)
        {
            return new(buffers.Down, _leaves) { AreSlots = true, FirstExpert = _first, LeafExperts = leafExperts };
        }

        Ops.MoeCombine(step.Stream, new()
        {
            Y = buffers.Down,
            PairSlots = buffers.PairSlots,
            Weights = buffers.ExpertWeights,
            PairExperts = buffers.ExpertIds,
            FirstExpert = _first,
            LeafExperts = leafExperts,
            Leaves = _leaves,
            Output = buffers.Node(SharedSum.Mlp),
        });
        return step.Share(SharedSum.Mlp);
    }
}
