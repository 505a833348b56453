namespace Octet.Inference.Loading;

/// <summary>
/// Where a matrix [n, k] and its block scales lie in a checkpoint: all of two tensors, or a part of larger ones. Element (i, j) is
/// i * <see cref="RowStride"/> + j * <see cref="ColumnStride"/> behind the first.
/// </summary>
internal sealed record MatrixSource
{
    private const int Sixteen = 16;

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

    /// <summary>Where some of its rows lie in the file.</summary>
    public ReadRange RangeOf(long row, long rows) => RangeOf(Values, First + (row * RowStride), rows, K, RowStride, ColumnStride);

    /// <summary>Where its scales lie in the file.</summary>
    public ReadRange ScaleRange => RangeOf(Scales!, FirstScale, ScaleRows, ScaleColumns, ScaleRowStride, ScaleColumnStride);

    /// <summary>
    /// Its rows in pieces that a window holds, of sixteens of rows where it holds so many: each then begins where an op can.
    /// </summary>
    public IEnumerable<(long Row, int Rows)> Pieces()
    {
        var size = Values.Type.SizeInBytes();
        var isReadThrough = ColumnStride == 1 && (RowStride - K) * size < ReadPlan.MergedGap;
        var most = Math.Max(ReadPlan.WindowBytes / Math.Max((isReadThrough ? RowStride : K) * size, 1), 1);
        return Pieces(most > Sixteen ? most / Sixteen * Sixteen : most);
    }

    /// <summary>Its rows in pieces that a window holds, of whole blocks.</summary>
    public IEnumerable<(long Row, int Rows)> Bands() =>
        Pieces(Math.Max(ReadPlan.WindowBytes / Math.Max(K * Values.Type.SizeInBytes(), 1) / Float8.Block, 1) * Float8.Block);

    /// <summary>Rows that were read, in row-major order without gaps.</summary>
    /// <param name="bytes">What <see cref="RangeOf(long, long)"/> gave.</param>
    /// <param name="rows">Rows of it.</param>
    /// <param name="destination">rows * K elements, as they are stored.</param>
    public void Pack(in WindowBytes bytes, int rows, Span<byte> destination) =>
        Pack(bytes, Values.Type.SizeInBytes(), rows, checked((int)K), RowStride, ColumnStride, destination);

    /// <summary>Scales that were read, in row-major order.</summary>
    public float[] PackScales(in WindowBytes bytes)
    {
        var size = Scales!.Type.SizeInBytes();
        var (rows, columns) = (checked((int)ScaleRows), checked((int)ScaleColumns));
        var packed = new byte[checked(rows * columns * size)];
        Pack(bytes, size, rows, columns, ScaleRowStride, ScaleColumnStride, packed);
        return TensorValues.ToSingles(Scales, packed);
    }

    /// <summary>Refuses elements that no weight may be.</summary>
    /// <param name="row">The first row of them.</param>
    /// <param name="packed">Whole rows, without gaps.</param>
    /// <exception cref="ModelFormatException">An element is not finite or too large.</exception>
    public void CheckElements(long row, ReadOnlySpan<byte> packed)
    {
        if (TensorValues.IndexOfUnusable(Values.Type, packed) is not (var bad and >= 0))
        {
            return;
        }

        var size = Values.Type.SizeInBytes();
        var position = First + ((row + (bad / K)) * RowStride) + (bad % K * ColumnStride);
        TensorValues.CheckWeights(Values, position, packed.Slice(bad * size, size));
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

    private static ReadRange RangeOf(SafeTensor tensor, long first, long rows, long columns, long rowStride, long columnStride)
    {
        var size = tensor.Type.SizeInBytes();
        var (length, runs, stride) = columnStride == 1 ? (columns, rows, rowStride) : (rows, columns, columnStride);
        if (stride == length || runs == 1)
        {
            (length, runs, stride) = (length * runs, 1, length * runs);
        }

        return new(tensor.Source.Content, tensor.FileOffset + (first * size), length * size, runs, stride * size);
    }

    private static void Pack(
        in WindowBytes bytes, int size, int rows, int columns, long rowStride, long columnStride, Span<byte> destination)
    {
        if (columnStride == 1)
        {
            var length = columns * size;
            for (var row = 0; row < rows; row++)
            {
                bytes.At(row * rowStride * size, length).CopyTo(destination[(row * length)..]);
            }

            return;
        }

        // By squares, so that a cache line is used up while it is there.
        var pitch = columns * size;
        for (var left = 0; left < columns; left += Float8.Block)
        {
            for (var top = 0; top < rows; top += Float8.Block)
            {
                var count = Math.Min(Float8.Block, rows - top);
                for (var column = left; column < Math.Min(left + Float8.Block, columns); column++)
                {
                    var lying = bytes.At(((column * columnStride) + top) * size, count * size);
                    var place = (top * pitch) + (column * size);
                    for (var i = 0; i < count; i++, place += pitch)
                    {
                        lying.Slice(i * size, size).CopyTo(destination[place..]);
                    }
                }
            }
        }
    }

    private IEnumerable<(long Row, int Rows)> Pieces(long most)
    {
        for (long row = 0; row < N; row += most)
        {
            yield return (row, (int)Math.Min(most, N - row));
        }
    }
}
