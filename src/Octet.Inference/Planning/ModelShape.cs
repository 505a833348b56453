using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Inference.Planning;

/// <summary>What a model costs: bytes held, bytes read and operations done, by how it is sharded. Projections are FP8 with a scale for each 128 x 128 block, the rest BF16.</summary>
public sealed class ModelShape
{
    /// <summary>The model planned for if none is named.</summary>
    public const string Target = "Qwen3-235B-A22B-Instruct-2507-FP8";

    private const double BytesPerWeight = 1 + 4.0 / (128 * 128);
    private readonly double _denseMlpWeights;

    /// <summary>Describes a model by its config.json.</summary>
    public ModelShape(string name, ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        Name = name;
        Config = config;
        MoeLayers = Enumerable.Range(0, config.LayerCount).Count(config.IsMoeLayer);
        _denseMlpWeights = (config.LayerCount - MoeLayers) * 3.0 * config.HiddenSize * config.IntermediateSize;
    }

    /// <summary>The model called <paramref name="name"/> (a repository prefix such as "Qwen/" is allowed), or the one whose config.json is in the directory of that name.</summary>
    /// <exception cref="PlanException">It is neither.</exception>
    /// <exception cref="ModelFormatException">Its config.json is missing or not supported.</exception>
    public static ModelShape Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (Directory.Exists(name))
        {
            return new ModelShape(Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(name))), ModelConfig.Load(name));
        }
        return name.Split('/')[^1].Equals(Target, StringComparison.OrdinalIgnoreCase)
            ? new ModelShape(Target, ModelConfig.Parse(PlanData.ReadJson(Target.ToLowerInvariant() + ".json")))
            : throw new PlanException($"model '{name}' is neither a directory with config.json nor a known name ({Target})");
    }

    /// <summary>The model's name.</summary>
    public string Name { get; }

    /// <summary>config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>How many layers have experts.</summary>
    public int MoeLayers { get; }

    private double ExpertWeights => 3.0 * Config.HiddenSize * Config.MoeIntermediateSize;

    private double QueryOutputWeights => 2.0 * Config.LayerCount * Config.HiddenSize * Config.QueryHeads * Config.HeadDim;

    private double KeyValueWeights => 2.0 * Config.LayerCount * Config.HiddenSize * Config.KeyValueHeads * Config.HeadDim;

    private double HeadWeights => (double)Config.VocabularySize * Config.HiddenSize;

    private double QkNormWeights => Config.QkNorm switch
    {
        QkNorm.Head => 2.0 * Config.HeadDim,
        QkNorm.Projection => (double)(Config.QueryHeads + Config.KeyValueHeads) * Config.HeadDim,
        _ => 0,
    };

    private double RouterWeights => (double)MoeLayers * Config.HiddenSize * Config.ExpertCount;

    /// <summary>Bytes of weights on one GPU of a group of <paramref name="tp"/>: routers and norms on each, a KV head on <c>tp / kv_heads</c> of them where there are fewer heads than GPUs, the rest divided.</summary>
    public double WeightBytes(int tp)
    {
        double experts = (double)MoeLayers * Config.ExpertCount * ExpertWeights * BytesPerWeight / tp;
        double embeddings = (Config.TieWordEmbeddings ? 1 : 2) * 2 * HeadWeights / tp;
        return experts + DenseBytes(tp) + embeddings + 2 * RouterWeights + 2.0 * Config.LayerCount * (2 * Config.HiddenSize + QkNormWeights);
    }

    /// <summary>Bytes of weights one GPU reads in a step of <paramref name="tokens"/> tokens: of the experts the expected distinct ones, <c>E (1 - (1 - k/E)^tokens)</c> per layer.</summary>
    public double StepWeightBytes(int tp, double tokens) =>
        MoeLayers * DistinctExperts(tokens) * ExpertWeights * BytesPerWeight / tp + DenseBytes(tp) + 2 * HeadWeights / tp + 2 * RouterWeights;

    /// <summary>Expected distinct experts of one layer that <paramref name="tokens"/> tokens choose.</summary>
    public double DistinctExperts(double tokens) => Config.ExpertCount == 0
        ? 0
        : Config.ExpertCount * (1 - Math.Pow(1 - (double)Config.ExpertsPerToken / Config.ExpertCount, tokens));

    /// <summary>Multiply-adds of the projections for one token, times two.</summary>
    public double FlopsPerToken => 2 * (MoeLayers * Config.ExpertsPerToken * ExpertWeights + QueryOutputWeights + KeyValueWeights + _denseMlpWeights + HeadWeights + RouterWeights);

    /// <summary>Operations of attention for one token and one token of its context, all layers.</summary>
    public double AttentionFlopsPerPair => 4.0 * Config.LayerCount * Config.QueryHeads * Config.HeadDim;

    /// <summary>Bytes of FP8 keys and values of one token on one GPU.</summary>
    public long KvBytesPerToken(int tp) => 2L * Config.LayerCount * Config.HeadDim * Math.Max(1, (Config.KeyValueHeads + tp - 1) / tp);

    /// <summary>Bytes of the BF16 hidden state of one token, what an all-reduce moves.</summary>
    public double HiddenBytes => 2.0 * Config.HiddenSize;

    private double DenseBytes(int tp) =>
        ((QueryOutputWeights + _denseMlpWeights) / tp + KeyValueWeights / Math.Min(tp, Config.KeyValueHeads)) * BytesPerWeight;
}
