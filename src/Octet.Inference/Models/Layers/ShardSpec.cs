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

/// <summary>
/// One part of a weight: a contiguous range of its features or experts, in whole units. Where the units do not divide evenly, the first
/// parts have one more.
/// </summary>
/// <param name="Kind">What is divided.</param>
/// <param name="Part">Which part, from 0.</param>
/// <param name="Parts">Parts in all.</param>
/// <param name="Unit">Features or experts that stay together: those of a head, or of a granule. The last unit may be shorter.</param>
internal readonly record struct ShardSpec(ShardKind Kind, int Part = 0, int Parts = 1, long Unit = 1)
{
    /// <summary>The range of so many features or experts this part is.</summary>
    /// <exception cref="ArgumentException">There are fewer units than parts.</exception>
    public (long First, long Count) Of(long total)
    {
        if (Parts == 1)
        {
            return (0, total);
        }

        var units = (total + Unit - 1) / Unit;
        if (units < Parts)
        {
            throw new ArgumentException($"{total} features or experts in units of {Unit} cannot be divided into {Parts} parts");
        }

        var (each, more) = (units / Parts, units % Parts);
        var first = (Part * each) + Math.Min(Part, more);
        var end = first + each + (Part < more ? 1 : 0);
        return (first * Unit, Math.Min(end * Unit, total) - (first * Unit));
    }

    /// <summary>
    /// How many leaves this part has of a sum's tree of so many (<see cref="SumTree"/>); 0: the sum is no tree, for it is not over what is
    /// divided, or there are more parts than leaves.
    /// </summary>
    public int LeavesOf(int all) => Kind is ShardKind.Row or ShardKind.Expert && all % Parts == 0 ? all / Parts : 0;

    /// <summary>This part of a matrix.</summary>
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

    /// <summary>This part of a stack of matrices: some of the experts, or of each expert's rows or columns.</summary>
    public MatrixSource[] Of(MatrixSource[] experts)
    {
        if (Kind == ShardKind.Expert)
        {
            var (first, count) = Of(experts.Length);
            return experts[(int)first..(int)(first + count)];
        }

        return [.. experts.Select(Of)];
    }

    /// <summary>This part of the values that belong to features, such as biases.</summary>
    public T[] Of<T>(T[] values)
    {
        var (first, count) = Of(values.Length);
        return values[(int)first..(int)(first + count)];
    }
}
