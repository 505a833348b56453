namespace Octet.Inference.Models.Layers;

/// <summary>The sizes of what one rank of a model works on: a pure function of the model's shape and of how it is divided.</summary>
/// <param name="Config">The shape of the whole model.</param>
/// <param name="Sharding">The rank; <see cref="Sharding.Check"/> has passed.</param>
internal sealed record RankShape(ModelConfig Config, Sharding Sharding)
{
    /// <summary>All of a model, on one device.</summary>
    public static RankShape Whole(ModelConfig config) => new(config, Sharding.One);

    /// <summary>Ranks that run the model together.</summary>
    public int Ranks => Sharding.TensorParallel;

    /// <summary>Whether it draws: the first one.</summary>
    public bool IsLeader => Sharding.Rank == 0;

    /// <summary>Query heads.</summary>
    public int QueryHeads { get; } = (int)Sharding.Queries(ShardKind.Column, 1).Of(Config.QueryHeads).Count;

    /// <summary>KV heads.</summary>
    public int KeyValueHeads { get; } = (int)Sharding.KeyValues(Config.KeyValueHeads, 1).Of(Config.KeyValueHeads).Count;

    /// <summary>Experts.</summary>
    public int Experts { get; } = Config.ExpertCount == 0 ? 0 : (int)Sharding.Experts.Of(Config.ExpertCount).Count;

    /// <summary>Width of each.</summary>
    public int ExpertWidth { get; } = Config.ExpertCount == 0 ? 0 : (int)Sharding.ExpertWidth(ShardKind.Column).Of(Config.MoeIntermediateSize).Count;

    /// <summary>Width of an MLP without experts; 0: the model has none.</summary>
    public int DenseWidth { get; } = HasDense(Config) ? (int)Sharding.Width(ShardKind.Column).Of(Config.IntermediateSize).Count : 0;

    /// <summary>Rows of the embedding and of the head: token ids from the first on.</summary>
    public (int First, int Count) Vocabulary { get; } = VocabularyOf(Config, Sharding);

    /// <summary>What it keeps of each token.</summary>
    public KvLayout Kv => new(Config.LayerCount, KeyValueHeads, Config.HeadDim);

    /// <summary>
    /// Checks that the model has the same bits on so many ranks as on one: a sum that goes over them must have as many leaves, and a norm must
    /// not go over the heads of all.
    /// </summary>
    /// <exception cref="ArgumentException">It has not; the message has the values.</exception>
    public static void CheckSums(ModelConfig config, int ranks)
    {
        if (ranks == 1)
        {
            return;
        }

        Require(
            config.QkNorm != QkNorm.Projection,
            $"{config.Architecture} norms q and k over the heads of all ranks, which is not supported for tp {ranks}: run it on one device, or on several with DataParallel");
        RequireLeaves("o_proj", (long)config.QueryHeads * config.HeadDim, ranks);
        if (HasDense(config))
        {
            RequireLeaves("down_proj", config.IntermediateSize, ranks);
        }
    }

    private static (int First, int Count) VocabularyOf(ModelConfig config, Sharding sharding)
    {
        var (first, count) = sharding.Vocabulary.Of(config.VocabularySize);
        return ((int)first, (int)count);
    }

    private static bool HasDense(ModelConfig config) => Enumerable.Range(0, config.LayerCount).Any(layer => !config.IsMoeLayer(layer));

    private static void RequireLeaves(string what, long inputs, int ranks)
    {
        var leaves = SumTree.LeavesOfProduct(inputs);
        Require(
            ranks <= leaves,
            $"the {inputs} inputs of {what} divide into {leaves} equal parts of whole 128-wide blocks, fewer than tp {ranks}: the sum over ranks would not have the bits of one device");
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new ArgumentException(message);
        }
    }
}
