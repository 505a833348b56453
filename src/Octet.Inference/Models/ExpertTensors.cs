using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>
/// Finds the experts of an MoE layer: a matrix for each projection of each expert, or fused as <c>experts.gate_up_proj</c>
/// [experts, 2 * intermediate, hidden] (gate over up) and <c>experts.down_proj</c> [experts, hidden, intermediate], or these two with
/// their last dimensions exchanged.
/// </summary>
internal sealed record ExpertTensors(MatrixSource[] Gate, MatrixSource[] Up, MatrixSource[] Down)
{
    /// <summary>Takes the experts of a layer.</summary>
    /// <param name="tensors">Where from.</param>
    /// <param name="config">The model's shape.</param>
    /// <param name="prefix">Ends in "experts.".</param>
    /// <param name="names">What an expert's projections are called.</param>
    /// <exception cref="ModelFormatException">They are missing, or their shapes or scales are none of those known.</exception>
    public static ExpertTensors Take(ITensorSource tensors, ModelConfig config, string prefix, MlpNames names)
    {
        long intermediate = config.MoeIntermediateSize;
        long hidden = config.HiddenSize;
        if (names.MayBeFused && FindFused(tensors, $"{prefix}gate_up_proj") is { } gateUp)
        {
            var down = FindFused(tensors, $"{prefix}down_proj")
                ?? throw new ModelFormatException($"{gateUp.File}: has the fused tensor {gateUp}, but no '{prefix}down_proj' goes with it");
            return Fused(tensors, gateUp, down, config.ExpertCount, intermediate, hidden);
        }

        MatrixSource[] Each(string projection, long n, long k) =>
            [.. Enumerable.Range(0, config.ExpertCount).Select(expert => tensors.TakeProjection($"{prefix}{expert}.{projection}", n, k))];
        return new(Each(names.Gate, intermediate, hidden), Each(names.Up, intermediate, hidden), Each(names.Down, hidden, intermediate));
    }

    private static SafeTensor? FindFused(ITensorSource tensors, string name) => tensors.Find($"{name}.weight") ?? tensors.Find(name);

    private static ExpertTensors Fused(ITensorSource tensors, SafeTensor gateUp, SafeTensor down, long experts, long intermediate, long hidden)
    {
        CheckpointTensors.CheckType(gateUp, float8: true);
        CheckpointTensors.CheckType(down, float8: true);

        // Where one of the two is square the other tells: both are only if hidden = intermediate = 2 * intermediate.
        bool Have(ReadOnlySpan<long> first, ReadOnlySpan<long> second) => gateUp.Shape.SequenceEqual(first) && down.Shape.SequenceEqual(second);
        long[][] rows = [[experts, 2 * intermediate, hidden], [experts, hidden, intermediate]];
        long[][] transposed = [[experts, hidden, 2 * intermediate], [experts, intermediate, hidden]];
        var byRows = Have(rows[0], rows[1]);
        if (!byRows && !Have(transposed[0], transposed[1]))
        {
            throw new ModelFormatException(
                $"{gateUp.File}: tensors {gateUp} and {down} must have the shapes {CheckpointTensors.Shape(rows[0])} and {CheckpointTensors.Shape(rows[1])}, or {CheckpointTensors.Shape(transposed[0])} and {CheckpointTensors.Shape(transposed[1])}, by config.json");
        }

        var half = byRows ? intermediate * hidden : intermediate;

        // pitch: elements between columns where the matrices lie transposed.
        MatrixSource[] Stack(SafeTensor values, long offset, long n, long k, long pitch) =>
        [
            .. Enumerable.Range(0, (int)experts).Select(expert => new MatrixSource
            {
                Values = values, First = (expert * (values.ElementCount / experts)) + offset, N = n, K = k,
                RowStride = byRows ? k : 1, ColumnStride = byRows ? 1 : pitch,
            }),
        ];
        var gate = Stack(gateUp, 0, intermediate, hidden, 2 * intermediate);
        var up = Stack(gateUp, half, intermediate, hidden, 2 * intermediate);
        var downs = Stack(down, 0, hidden, intermediate, hidden);
        if (gateUp.Type == SafeTensorType.Float8E4M3)
        {
            (gate, up) = WithScales(tensors.TakeScales(gateUp), gate, up, byRows);
        }

        if (down.Type == SafeTensorType.Float8E4M3)
        {
            var (n, k) = (MatrixSource.Blocks(hidden), MatrixSource.Blocks(intermediate));
            downs = WithScales(tensors.TakeScales(down), downs, byRows ? [experts, n, k] : [experts, k, n], 0, 0, byRows ? 0 : n);
        }

        return new(gate, up, downs);
    }

    // The scales of gate and up: a grid for each of the two, or one over both, whose middle row of blocks they may share.
    private static (MatrixSource[] Gate, MatrixSource[] Up) WithScales(SafeTensor scales, MatrixSource[] gate, MatrixSource[] up, bool byRows)
    {
        var (n, k, experts) = (gate[0].N, gate[0].K, gate.LongLength);
        var (own, over, columns) = (2 * MatrixSource.Blocks(n), MatrixSource.Blocks(2 * n), MatrixSource.Blocks(k));
        long[] Grid(long rows) => byRows ? [experts, rows, columns] : [experts, columns, rows];
        var offset = (int)(n % Float8.Block);
        if (offset != 0 && own == over && scales.Shape.SequenceEqual(Grid(own)))
        {
            throw new ModelFormatException(
                $"{scales.File}: tensor {scales} may hold a grid of scales for gate and one for up, or one over both: with {n} rows each, no multiple of {Float8.Block}, the shape is the same but the weights are not; store the experts' projections apart");
        }

        if (offset != 0 && scales.Shape.SequenceEqual(Grid(over)))
        {
            var first = n / Float8.Block * (byRows ? columns : 1);
            return (
                WithScales(scales, gate, Grid(over), 0, 0, byRows ? 0 : over),
                WithScales(scales, up, Grid(over), first, offset, byRows ? 0 : over));
        }

        if (!scales.Shape.SequenceEqual(Grid(own)))
        {
            throw offset == 0
                ? CheckpointTensors.BadGrid(scales, gate[0].Values, Grid(own))
                : CheckpointTensors.BadGrid(scales, gate[0].Values, Grid(own), Grid(over));
        }

        return (
            WithScales(scales, gate, Grid(own), 0, 0, byRows ? 0 : own),
            WithScales(scales, up, Grid(own), own / 2 * (byRows ? columns : 1), 0, byRows ? 0 : own));
    }

    private static MatrixSource[] WithScales(SafeTensor scales, MatrixSource[] stack, long[] grid, long first, int rowOffset, long pitch) =>
        scales.Shape.SequenceEqual(grid)
            ?
            [
                .. stack.Select((matrix, expert) => matrix with
                {
                    Scales = scales, FirstScale = (expert * grid[1] * grid[2]) + first, ScaleRowOffset = rowOffset,
                    ScaleRowStride = pitch == 0 ? grid[2] : 1, ScaleColumnStride = pitch == 0 ? 1 : pitch,
                }),
            ]
            : throw CheckpointTensors.BadGrid(scales, stack[0].Values, grid);
}

/// <summary>What the three projections of a gated MLP are called in a checkpoint.</summary>
/// <param name="Gate">Its output goes through SiLU.</param>
/// <param name="Up">Its output is multiplied with that.</param>
/// <param name="Down">Takes the product.</param>
/// <param name="MayBeFused">Whether experts may also lie in stacks, <c>gate_up_proj</c> and <c>down_proj</c>.</param>
internal sealed record MlpNames(string Gate, string Up, string Down, bool MayBeFused = false)
{
    /// <summary>Those of Qwen3.</summary>
    public static MlpNames Projections { get; } = new("gate_proj", "up_proj", "down_proj", MayBeFused: true);

    /// <summary>Those of Mixtral and of models after it.</summary>
    public static MlpNames Numbers { get; } = new("w1", "w3", "w2");
}
