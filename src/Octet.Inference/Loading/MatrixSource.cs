namespace Octet.Inference.Loading;

/// <summary>Where a matrix [n, k] and its block scales lie in a checkpoint: all of two tensors, or a part of larger ones.</summary>
internal sealed record MatrixSource
{
    /// <summary>The tensor with the elements: FP8 E4M3, BF16, F16 or F32.</summary>
    public required SafeTensor Values { get; init; }

    /// <summary>The position of element (0, 0).</summary>
    public long First { get; init; }

    /// <summary>Output features.</summary>
    public required long N { get; init; }

    /// <summary>Input features.</summary>
    public required long K { get; init; }

    /// <summary>0: rows follow each other, element (i, j) is i * k + j behind the first. Else the matrix lies transposed: j * Pitch + i.</summary>
    public long Pitch { get; init; }

    /// <summary>The tensor with the scales; null: the elements are not FP8.</summary>
    public SafeTensor? Scales { get; init; }

    /// <summary>The position of the first scale.</summary>
    public long FirstScale { get; init; }

    /// <summary><see cref="Pitch"/> of the scales.</summary>
    public long ScalePitch { get; init; }

    /// <summary>Row 0 lies this many rows into its first scale block, where one grid of scales covers gate and up.</summary>
    public int ScaleRowOffset { get; init; }

    /// <summary>Rows of scales.</summary>
    public long ScaleRows => Blocks(ScaleRowOffset + N);

    /// <summary>Columns of scales.</summary>
    public long ScaleColumns => Blocks(K);

    /// <summary>The scales in row-major order, each one that it may be.</summary>
    /// <exception cref="ModelFormatException">A scale is negative, not finite or too large, or is 0 over codes that are not.</exception>
    public float[] ReadScales()
    {
        var (rows, columns) = (ScaleRows, ScaleColumns);
        var size = Scales!.Type.SizeInBytes();
        var extent = ScalePitch == 0 ? rows * columns : ((columns - 1) * ScalePitch) + rows;
        var lying = TensorValues.ToSingles(Scales, Scales.Slice(FirstScale * size, checked((int)(extent * size))));
        var scales = new float[rows * columns];
        for (long row = 0; row < rows; row++)
        {
            for (long column = 0; column < columns; column++)
            {
                var place = Place(row, column, columns, ScalePitch);
                var scale = lying[place];
                TensorValues.CheckScale(Scales, FirstScale + place, scale);
                if (scale == 0 && BlockHoldsOtherThanZero(row, column))
                {
                    throw new ModelFormatException(
                        $"{Scales.File}: tensor {Scales} holds 0 at position {FirstScale + place}, but the block of '{Values.Name}' it belongs to has codes other than 0; compare the file's checksum with its publisher's");
                }

                scales[(row * columns) + column] = scale;
            }
        }

        return scales;
    }

    /// <summary>128-wide blocks that hold a number of elements.</summary>
    public static long Blocks(long elements) => (elements + Float8.Block - 1) / Float8.Block;

    private static long Place(long row, long column, long columns, long pitch) => pitch == 0 ? (row * columns) + column : (column * pitch) + row;

    private bool BlockHoldsOtherThanZero(long scaleRow, long scaleColumn)
    {
        var top = (scaleRow * Float8.Block) - ScaleRowOffset;
        var (bottom, left) = (Math.Min(top + Float8.Block, N), scaleColumn * Float8.Block);
        var right = Math.Min(left + Float8.Block, K);
        for (var row = Math.Max(top, 0); row < bottom; row++)
        {
            for (var column = left; column < right; column++)
            {
                if ((Values.Slice(First + Place(row, column, K, Pitch), 1)[0] & 0x7F) != 0)
                {
                    return true;
                }
            }
        }

        return false;
    }
}
