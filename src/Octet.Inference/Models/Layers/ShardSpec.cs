using Octet.Inference.Loading;

namespace Octet.Inference.Models.Layers;

/// <summary>How a weight is divided over the ranks of a group.</summary>
internal enum ShardKind
{
    /// <summary>Each rank has all of it.</summary>
    Replicated,

    /// <summary>By output features: rows of a matrix [n, k].</summary>
    Column,

    /// <summary>By input features: columns of a matrix [n, k]; the ranks' products are to be added.</summary>
    Row,

    /// <summary>By experts; the ranks' sums are to be added.</summary>
    Expert,
}

/// <summary>A rank's part of a weight: one contiguous range, of equal size on every rank.</summary>
/// <param name="Kind">What is divided.</param>
/// <param name="Rank">Which part, from 0.</param>
/// <param name="Ranks">Parts in all.</param>
internal readonly record struct ShardSpec(ShardKind Kind, int Rank = 0, int Ranks = 1)
{
    /// <summary>The range of so many features or experts this rank has, if they are what is divided.</summary>
    /// <exception cref="ArgumentException">They do not divide evenly.</exception>
    public (long First, long Count) Of(long total) => total % Ranks == 0
        ? (total / Ranks * Rank, total / Ranks)
        : throw new ArgumentException($"{total} features or experts do not divide evenly over {Ranks} ranks");

    /// <summary>This rank's part of a matrix.</summary>
    public MatrixSource Of(MatrixSource matrix)
    {
        switch (Kind)
        {
            case ShardKind.Column:
                var (row, rows) = Of(matrix.N);
                return matrix.Rows(row, rows);
            case ShardKind.Row:
                var (column, columns) = Of(matrix.K);
                return matrix.Columns(column, columns);
            default:
                return matrix;
        }
    }

    /// <summary>This rank's part of a matrix for each expert.</summary>
    public MatrixSource[] Of(MatrixSource[] experts)
    {
        if (Kind == ShardKind.Expert)
        {
            var (first, count) = Of(experts.Length);
            return experts[(int)first..(int)(first + count)];
        }

        return [.. experts.Select(Of)];
    }
}

/// <summary>What layers are made from: the checkpoint, the model's shape, and which rank of how many they are for.</summary>
/// <param name="Tensors">The checkpoint.</param>
/// <param name="Config">The model's shape.</param>
/// <param name="Rank">The rank, from 0.</param>
/// <param name="Ranks">Ranks in all.</param>
internal sealed record LayerSource(CheckpointTensors Tensors, ModelConfig Config, int Rank = 0, int Ranks = 1)
{
    /// <summary>This rank's part of what is divided in that way.</summary>
    public ShardSpec Shard(ShardKind kind) => new(kind, Rank, Ranks);
}
