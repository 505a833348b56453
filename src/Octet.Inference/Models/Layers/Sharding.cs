using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// Which parts of a model one rank of a group has: a pure function of the rank and the two degrees. Neighbouring ranks have neighbouring
/// parts. Experts are divided into <see cref="ExpertParallel"/> parts; where that is less than <see cref="TensorParallel"/>, so many
/// neighbouring ranks as are left over for each part divide the width of its experts. Norms and the router are on each rank.
/// </summary>
/// <param name="Rank">The rank, from 0.</param>
/// <param name="TensorParallel">Ranks in all.</param>
/// <param name="ExpertParallel">Parts of the experts; divides the number of ranks.</param>
internal readonly record struct Sharding(int Rank, int TensorParallel, int ExpertParallel)
{
    // NOTE: 64 divides the 128-wide scale block, so a granule lies in exactly one: a shard needs no more than its offset into the grid.
    private const int Granule = 64;

    // Rows of the vocabulary that stay together, so that a rank's logits begin where a vector does.
    private const int VocabularyUnit = 16;

    /// <summary>A group of one: all of the model.</summary>
    public static Sharding One { get; } = new(0, 1, 1);

    /// <summary>Ranks that divide the width of the same experts.</summary>
    public int ExpertWidthParts => TensorParallel / ExpertParallel;

    /// <summary>Query heads, as rows of q or columns of the output projection.</summary>
    public ShardSpec Queries(ShardKind kind, int headDim) => new(kind, Rank, TensorParallel, headDim);

    /// <summary>KV heads, as rows of k and v. Where there are fewer than ranks, neighbouring ranks have the same one.</summary>
    public ShardSpec KeyValues(int heads, int headDim) => heads >= TensorParallel
        ? new(ShardKind.Column, Rank, TensorParallel, headDim)
        : new(ShardKind.Column, Rank / (TensorParallel / heads), heads, headDim);

    /// <summary>The width of an MLP without experts.</summary>
    public ShardSpec Width(ShardKind kind) => new(kind, Rank, TensorParallel, Granule);

    /// <summary>The experts.</summary>
    public ShardSpec Experts => new(ShardKind.Expert, Rank / ExpertWidthParts, ExpertParallel);

    /// <summary>The width of these experts.</summary>
    public ShardSpec ExpertWidth(ShardKind kind) => new(kind, Rank % ExpertWidthParts, ExpertWidthParts, Granule);

    /// <summary>Rows of the embedding and of the head.</summary>
    public ShardSpec Vocabulary => new(ShardKind.Column, Rank, TensorParallel, VocabularyUnit);

    /// <summary>Checks that there is such a rank of such a group, and that a model can be divided so.</summary>
    /// <exception cref="ArgumentException">There is not, or it cannot; the message has the values.</exception>
    public void Check(ModelConfig config)
    {
        CheckGroup();
        if (TensorParallel == 1)
        {
            return;
        }

        var (tensor, expert) = (TensorParallel, ExpertParallel);
        Require(config.QueryHeads % tensor == 0, $"{config.QueryHeads} query heads do not divide evenly over tp {tensor}");
        Require(
            config.KeyValueHeads % tensor == 0 || tensor % config.KeyValueHeads == 0,
            $"{config.KeyValueHeads} KV heads are neither a multiple nor a divisor of tp {tensor}");
        RequireUnits("vocabulary", config.VocabularySize, VocabularyUnit, tensor);
        if (config.ExpertCount > 0)
        {
            Require(config.ExpertCount % expert == 0, $"{config.ExpertCount} experts do not divide evenly over ep {expert}");
            RequireUnits("expert width", config.MoeIntermediateSize, Granule, ExpertWidthParts);
        }

        if (Enumerable.Range(0, config.LayerCount).Any(layer => !config.IsMoeLayer(layer)))
        {
            RequireUnits("MLP width", config.IntermediateSize, Granule, tensor);
        }
    }

    /// <summary>Checks that there is such a rank of such a group.</summary>
    /// <exception cref="ArgumentException">There is not; the message has the values.</exception>
    public void CheckGroup()
    {
        Require(ParallelSizes.IsSize(TensorParallel), $"tp is {TensorParallel}, expected {ParallelSizes.Sizes}");
        Require(
            ParallelSizes.IsSize(ExpertParallel) && TensorParallel % ExpertParallel == 0,
            $"ep is {ExpertParallel}, expected {ParallelSizes.Sizes} and a divisor of tp {TensorParallel}");
        Require(Rank >= 0 && Rank < TensorParallel, $"rank is {Rank}, expected 0 to {TensorParallel - 1}");
    }

    private static void RequireUnits(string what, long total, int unit, int parts) => Require(
        (total + unit - 1) / unit >= parts, $"the {what} {total} has fewer units of {unit} than the {parts} ranks it is divided over");

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new ArgumentException(message);
        }
    }
}
