namespace Octet.Inference.Loading;

/// <summary>
/// Where a matrix [n, k] and its block scales lie in a checkpoint: all of two tensors, or a part of larger ones. Element (i, j) is
/// i * <see cref="RowStride"/> + j * <see cref="ColumnStride"/> behind the first.
/// </summary>
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

    /// <summary>Elements between rows; by default they follow each other.</summary>
    public long RowStride { get => field == 0 ? K : field; init; }

    /// <summary>Elements between columns: more than 1 where the matrix lies transposed.</summary>
    public long ColumnStride { get; init; } = 1;

    /// <summary>Rows of the whole matrix behind those here: more than 0 in a range of its rows.</summary>
    public long RowsBehind { get; init; }

    /// <summary>Columns of the whole matrix behind those here.</summary>
    public long ColumnsBehind { get; init; }

    /// <summary>The tensor with the scales; null: the elements are not FP8.</summary>
    public SafeTensor? Scales { get; init; }

    /// <summary>The position of the first scale.</summary>
    public long FirstScale { get; init; }

    /// <summary><see cref="RowStride"/> of the scales.</summary>
    public long ScaleRowStride { get => field == 0 ? ScaleColumns : field; init; }

    /// <summary><see cref="ColumnStride"/> of the scales.</summary>
    public long ScaleColumnStride { get; init; } = 1;

    /// <summary>
    /// Row 0 lies this many rows into its first scale block: in a range of a matrix, or where one grid of scales covers gate and up.
    /// </summary>
    public int ScaleRowOffset { get; init; }

    /// <summary>Column 0 lies this many columns into its first scale block.</summary>
    public int ScaleColumnOffset { get; init; }

    /// <summary>Rows of scales.</summary>
    public long ScaleRows => Blocks(ScaleRowOffset + N);

    /// <summary>Columns of scales.</summary>
    public long ScaleColumns => Blocks(ScaleColumnOffset + K);

    /// <summary>Whether the elements follow each other row by row.</summary>
    public bool IsContiguous => ColumnStride == 1 && RowStride == K;

    /// <summary>Bytes of the elements.</summary>
    public long SizeInBytes => N * K * Values.Type.SizeInBytes();

    /// <summary>Some rows of the matrix.</summary>
    public MatrixSource Rows(long first, long count)
    {
        CheckRange(first, count, N);
        var row = ScaleRowOffset + first;
        return this with
        {
            First = First + (first * RowStride),
            N = count,
            RowsBehind = RowsBehind + N - first - count,
            FirstScale = FirstScale + (row / Float8.Block * ScaleRowStride),
            ScaleRowOffset = (int)(row % Float8.Block),
        };
    }

    /// <summary>Some columns of the matrix.</summary>
    public MatrixSource Columns(long first, long count)
    {
        CheckRange(first, count, K);
        var column = ScaleColumnOffset + first;
        return this with
        {
            First = First + (first * ColumnStride),
            K = count,
            RowStride = RowStride,
            ColumnsBehind = ColumnsBehind + K - first - count,
            FirstScale = FirstScale + (column / Float8.Block * ScaleColumnStride),
            ScaleRowStride = ScaleRowStride,
            ScaleColumnOffset = (int)(column % Float8.Block),
        };
    }

    /// <summary>
    /// The range with the rest of the whole matrix's blocks of 128 x 128 that it cuts: what must be quantised so that a range has the codes
    /// and scales it has in the whole.
    /// </summary>
    public MatrixSource WholeBlocks() => this with
    {
        First = First - (ScaleRowOffset * RowStride) - (ScaleColumnOffset * ColumnStride),
        N = Math.Min(ScaleRows * Float8.Block, ScaleRowOffset + N + RowsBehind),
        K = Math.Min(ScaleColumns * Float8.Block, ScaleColumnOffset + K + ColumnsBehind),
        RowStride = RowStride,
        RowsBehind = 0,
        ColumnsBehind = 0,
        ScaleRowOffset = 0,
        ScaleColumnOffset = 0,
    };

    /// <summary>Reads whole rows, packed, each element one that it may be.</summary>
    /// <param name="row">The first row.</param>
    /// <param name="rows">Their number.</param>
    /// <param name="destination">rows * K elements, as they are stored.</param>
    /// <exception cref="ModelFormatException">An element is not finite or too large.</exception>
    public void Read(long row, int rows, Span<byte> destination)
    {
        var size = Values.Type.SizeInBytes();
        if (ColumnStride == 1)
        {
            var (runs, length) = IsContiguous ? (1, rows * K) : (rows, K);
            for (var run = 0; run < runs; run++)
            {
                Checked(First + ((row + run) * RowStride), length).CopyTo(destination[(int)(run * length * size)..]);
            }

            return;
        }

        // By squares, so that a cache line is used up while it is there.
        var pitch = (int)(K * size);
        for (long left = 0; left < K; left += Float8.Block)
        {
            for (var top = 0; top < rows; top += Float8.Block)
            {
                var count = Math.Min(Float8.Block, rows - top);
                for (var column = left; column < Math.Min(left + Float8.Block, K); column++)
                {
                    var lying = Checked(First + ((row + top) * RowStride) + (column * ColumnStride), count);
                    var place = (top * pitch) + (int)(column * size);
                    for (var i = 0; i < count; i++, place += pitch)
                    {
                        lying.Slice(i * size, size).CopyTo(destination[place..]);
                    }
                }
            }
        }
    }

    /// <summary>The scales in row-major order, each one that it may be.</summary>
    /// <exception cref="ModelFormatException">A scale is negative, not finite or too large, or is 0 over codes that are not.</exception>
    public float[] ReadScales()
    {
        var (rows, columns) = (ScaleRows, ScaleColumns);
        var size = Scales!.Type.SizeInBytes();
        var extent = ((rows - 1) * ScaleRowStride) + ((columns - 1) * ScaleColumnStride) + 1;
        var lying = TensorValues.ToSingles(Scales, Scales.Slice(FirstScale * size, checked((int)(extent * size))));
        var scales = new float[rows * columns];
        for (long row = 0; row < rows; row++)
        {
            for (long column = 0; column < columns; column++)
            {
                var place = (row * ScaleRowStride) + (column * ScaleColumnStride);
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

    private static void CheckRange(long first, long count, long length)
    {
        if (first < 0 || count < 1 || first > length - count)
        {
            throw new ArgumentOutOfRangeException(nameof(first), $"{first} to {first} + {count} of {length} rows or columns");
        }
    }

    // Elements that lie side by side.
    private ReadOnlySpan<byte> Checked(long first, long count)
    {
        var size = Values.Type.SizeInBytes();
        var bytes = Values.Slice(first * size, checked((int)(count * size)));
        TensorValues.CheckWeights(Values, first, bytes);
        return bytes;
    }

    private bool BlockHoldsOtherThanZero(long scaleRow, long scaleColumn)
    {
        var top = (scaleRow * Float8.Block) - ScaleRowOffset;
        var left = (scaleColumn * Float8.Block) - ScaleColumnOffset;
        var (bottom, right) = (Math.Min(top + Float8.Block, N), Math.Min(left + Float8.Block, K));
        for (var row = Math.Max(top, 0); row < bottom; row++)
        {
            for (var column = Math.Max(left, 0); column < right; column++)
            {
                if ((Values.Slice(First + (row * RowStride) + (column * ColumnStride), 1)[0] & 0x7F) != 0)
                {
                    return true;
                }
            }
        }

        return false;
    }
}
