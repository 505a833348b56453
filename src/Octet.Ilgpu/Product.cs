using ILGPU;

namespace Octet.Ilgpu;

/// <summary>A product with a weight: A [rows, k] times B [n, k]; codes of one type, FP8 ones scaled per 128 columns.</summary>
internal struct Product<T> where T : unmanaged
{
    public ArrayView<T> A;
    public ArrayView<float> AScales; // [rows, ceil(k/128)]; empty for BF16
    public ArrayView<T> B;
    public ArrayView<float> BScales; // a scale for each 128 x 128 block; empty for BF16
    public long AStride, AScaleStride, BStride, BScaleStride, K;
    public long AFirst, AScaleFirst; // where the leaf's columns begin
    public long BFirst, BScaleFirst; // where the expert's matrix, or the leaf's columns begin
    public int ScaleRowOffset, ScaleColumnOffset;

    /// <summary>Columns from <paramref name="start"/> on that share one scale of A and one of B: BF16 is cut alike.</summary>
    public readonly int SegmentLength(long start)
    {
        var toOwnBlock = Octet.Float8.Block - (start % Octet.Float8.Block);
        var toWeightBlock = Octet.Float8.Block - ((start + ScaleColumnOffset) % Octet.Float8.Block);
        var length = toOwnBlock < toWeightBlock ? toOwnBlock : toWeightBlock;
        return (int)(length < K - start ? length : K - start);
    }

    /// <summary>The product of some of the columns: whole blocks of 128.</summary>
    public readonly Product<T> Columns(long first, long count)
    {
        var part = this;
        part.AFirst += first;
        part.AScaleFirst += first / Octet.Float8.Block;
        part.BFirst += first;
        part.BScaleFirst += first / Octet.Float8.Block;
        part.K = count;
        return part;
    }

    public readonly float AScale(long row, long start) =>
        AScales.Length == 0 ? 1f : AScales[AScaleFirst + (row * AScaleStride) + (start / Octet.Float8.Block)];

    public readonly float BScale(long column, long start) =>
        BScales.Length == 0
            ? 1f
            : BScales[BScaleFirst + ((ScaleRowOffset + column) / Octet.Float8.Block * BScaleStride) + ((ScaleColumnOffset + start) / Octet.Float8.Block)];
}

/// <summary>The weights of all experts, one above the other.</summary>
internal struct ExpertProduct
{
    public Product<byte> First;
    public long Stride, ScaleStride;

    public readonly Product<byte> Of(int expert)
    {
        var product = First;
        product.BFirst = expert * Stride;
        product.BScaleFirst = expert * ScaleStride;
        return product;
    }
}

/// <summary>How the group computes 16 x 64 results of a product.</summary>
internal interface ITile
{
    /// <summary>
    /// result[r, c] = row rows[r] of A times row firstColumn + c of B. The sum runs over k in order, block by block, whatever the
    /// other rows are: the same bits for a row anywhere.
    /// </summary>
    /// <param name="product">The operands.</param>
    /// <param name="rows">[16] row numbers in A, in shared memory; -1: none, its results are undefined.</param>
    /// <param name="count">Rows in use.</param>
    /// <param name="firstColumn">The first row of B.</param>
    /// <param name="columns">Rows of B there are from there on; results beyond are undefined.</param>
    /// <param name="a">Shared memory of <see cref="Tile.AElements"/>.</param>
    /// <param name="b">Shared memory of <see cref="Tile.BElements"/>.</param>
    /// <param name="result">[16, 64] in shared memory; the group has yet to synchronise.</param>
    static abstract void Multiply<TElement, T>(
        Product<T> product, ArrayView<long> rows, int count, long firstColumn, long columns, ArrayView<float> a, ArrayView<float> b,
        ArrayView<float> result)
        where TElement : struct, IElement<T>
        where T : unmanaged;
}

/// <summary>What the two ways to compute a tile share.</summary>
internal static class Tile
{
    public const int Rows = 16;
    public const int Columns = 64;
    public const int Results = Rows * Columns;

    /// <summary>Singles of shared memory for widened A: either 16 rows of 33, or 16 of a whole block.</summary>
    public const int AElements = Rows * Octet.Float8.Block;

    /// <summary>Singles of shared memory for widened B: either 64 rows of 33, or one of a whole block.</summary>
    public const int BElements = Columns * SharedTile.Stride;
}

/// <summary>
/// For GPUs: 64 threads widen 32 columns of A and B at a time into shared memory; each keeps 4 x 4 results in registers, rows 4
/// apart and columns 16 apart.
/// </summary>
internal readonly struct SharedTile : ITile
{
    public const int Threads = 64;

    /// <summary>Between rows in shared memory: one more than the step, so that neighbours lie in different banks.</summary>
    public const int Stride = Step + 1;

    private const int Step = 32;
    private const int RowGroups = 4;
    private const int ColumnGroups = 16;

    public static void Multiply<TElement, T>(
        Product<T> product, ArrayView<long> rows, int count, long firstColumn, long columns, ArrayView<float> a, ArrayView<float> b,
        ArrayView<float> result)
        where TElement : struct, IElement<T>
        where T : unmanaged
    {
        var (row, column) = (Group.IdxX / ColumnGroups, Group.IdxX % ColumnGroups);
        var (total0, total1, total2, total3) = (default(Four), default(Four), default(Four), default(Four));
        for (long start = 0; start < product.K; start += product.SegmentLength(start))
        {
            var (sum0, sum1, sum2, sum3) = (default(Four), default(Four), default(Four), default(Four));
            var length = product.SegmentLength(start);
            for (var step = 0; step < length; step += Step)
            {
                Group.Barrier();
                for (var i = Group.IdxX; i < Tile.Rows * Step; i += Threads)
                {
                    var (r, k) = (i / Step, step + (i % Step));
                    var source = rows[r];
                    a[(r * Stride) + (i % Step)] = source >= 0 && k < length
                        ? TElement.Widen(product.A[product.AFirst + (source * product.AStride) + start + k]) : 0f;
                }

                for (var i = Group.IdxX; i < Tile.Columns * Step; i += Threads)
                {
                    var (c, k) = (i / Step, step + (i % Step));
                    b[(c * Stride) + (i % Step)] = c < columns && k < length
                        ? TElement.Widen(product.B[product.BFirst + ((firstColumn + c) * product.BStride) + start + k]) : 0f;
                }

                Group.Barrier();
                for (var k = 0; k < Step; k++)
                {
                    var four = Four.Load(b, (column * Stride) + k, ColumnGroups * Stride);
                    sum0 = sum0.Add(four, a[(row * Stride) + k]);
                    sum1 = sum1.Add(four, a[((row + RowGroups) * Stride) + k]);
                    sum2 = sum2.Add(four, a[((row + (2 * RowGroups)) * Stride) + k]);
                    sum3 = sum3.Add(four, a[((row + (3 * RowGroups)) * Stride) + k]);
                }
            }

            var scales = new Four
            {
                X = BScale(product, firstColumn, column, columns, start),
                Y = BScale(product, firstColumn, column + ColumnGroups, columns, start),
                Z = BScale(product, firstColumn, column + (2 * ColumnGroups), columns, start),
                W = BScale(product, firstColumn, column + (3 * ColumnGroups), columns, start),
            };
            total0 = total0.AddScaled(sum0, scales, AScale(product, rows[row], start));
            total1 = total1.AddScaled(sum1, scales, AScale(product, rows[row + RowGroups], start));
            total2 = total2.AddScaled(sum2, scales, AScale(product, rows[row + (2 * RowGroups)], start));
            total3 = total3.AddScaled(sum3, scales, AScale(product, rows[row + (3 * RowGroups)], start));
        }

        total0.Store(result, (row * Tile.Columns) + column, ColumnGroups);
        total1.Store(result, ((row + RowGroups) * Tile.Columns) + column, ColumnGroups);
        total2.Store(result, ((row + (2 * RowGroups)) * Tile.Columns) + column, ColumnGroups);
        total3.Store(result, ((row + (3 * RowGroups)) * Tile.Columns) + column, ColumnGroups);
    }

    private static float AScale<T>(Product<T> product, long row, long start) where T : unmanaged =>
        row >= 0 ? product.AScale(row, start) : 0f;

    private static float BScale<T>(Product<T> product, long firstColumn, int column, long columns, long start) where T : unmanaged =>
        column < columns ? product.BScale(firstColumn + column, start) : 0f;

    /// <summary>Four neighbours of a row of results, in registers.</summary>
    private struct Four
    {
        public float X, Y, Z, W;

        public static Four Load(ArrayView<float> values, int first, int stride) => new()
        {
            X = values[first],
            Y = values[first + stride],
            Z = values[first + (2 * stride)],
            W = values[first + (3 * stride)],
        };

        public readonly Four Add(Four values, float factor) => new()
        {
            X = X + (values.X * factor),
            Y = Y + (values.Y * factor),
            Z = Z + (values.Z * factor),
            W = W + (values.W * factor),
        };

        public readonly Four AddScaled(Four sums, Four scales, float scale) => new()
        {
            X = X + (sums.X * (scales.X * scale)),
            Y = Y + (sums.Y * (scales.Y * scale)),
            Z = Z + (sums.Z * (scales.Z * scale)),
            W = W + (sums.W * (scales.W * scale)),
        };

        public readonly void Store(ArrayView<float> values, int first, int stride)
        {
            values[first] = X;
            values[first + stride] = Y;
            values[first + (2 * stride)] = Z;
            values[first + (3 * stride)] = W;
        }
    }
}

/// <summary>
/// For the CPU accelerator: one thread, no barriers. A block of A is widened once for 64 columns, a block of a row of B once for
/// 16 rows; four rows are summed at a time.
/// </summary>
internal readonly struct SerialTile : ITile
{
    public static void Multiply<TElement, T>(
        Product<T> product, ArrayView<long> rows, int count, long firstColumn, long columns, ArrayView<float> a, ArrayView<float> b,
        ArrayView<float> result)
        where TElement : struct, IElement<T>
        where T : unmanaged
    {
        var width = columns < Tile.Columns ? (int)columns : Tile.Columns;
        for (var i = 0; i < Tile.Results; i++)
        {
            result[i] = 0f;
        }

        for (long start = 0; start < product.K; start += product.SegmentLength(start))
        {
            var length = product.SegmentLength(start);
            for (var r = 0; r < count; r++)
            {
                for (var k = 0; k < length && rows[r] >= 0; k++)
                {
                    a[(r * Octet.Float8.Block) + k] = TElement.Widen(product.A[product.AFirst + (rows[r] * product.AStride) + start + k]);
                }
            }

            for (var c = 0; c < width; c++)
            {
                var source = product.BFirst + ((firstColumn + c) * product.BStride) + start;
                for (var k = 0; k < length; k++)
                {
                    b[k] = TElement.Widen(product.B[source + k]);
                }

                var scale = product.BScale(firstColumn + c, start);
                var row = 0;
                for (; row + 4 <= count; row += 4)
                {
                    var (sum0, sum1, sum2, sum3) = (0f, 0f, 0f, 0f);
                    for (var k = 0; k < length; k++)
                    {
                        var (w, at) = (b[k], (row * Octet.Float8.Block) + k);
                        sum0 += a[at] * w;
                        sum1 += a[at + Octet.Float8.Block] * w;
                        sum2 += a[at + (2 * Octet.Float8.Block)] * w;
                        sum3 += a[at + (3 * Octet.Float8.Block)] * w;
                    }

                    AddScaled(product, rows, row, c, start, scale, sum0, result);
                    AddScaled(product, rows, row + 1, c, start, scale, sum1, result);
                    AddScaled(product, rows, row + 2, c, start, scale, sum2, result);
                    AddScaled(product, rows, row + 3, c, start, scale, sum3, result);
                }

                for (; row < count; row++)
                {
                    var sum = 0f;
                    for (var k = 0; k < length; k++)
                    {
                        sum += a[(row * Octet.Float8.Block) + k] * b[k];
                    }

                    AddScaled(product, rows, row, c, start, scale, sum, result);
                }
            }
        }
    }

    private static void AddScaled<T>(
        Product<T> product, ArrayView<long> rows, int row, int column, long start, float scale, float sum, ArrayView<float> result)
        where T : unmanaged
    {
        if (rows[row] >= 0)
        {
            result[(row * Tile.Columns) + column] += sum * (scale * product.AScale(rows[row], start));
        }
    }
}
