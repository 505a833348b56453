using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

// Rows (queries times heads) lie in the lanes, so no sum is folded across them: scores are [position, row], the weighted sums of V
// [element, row], and an element of K or V is broadcast to all rows that share its head. Each row's sums run over the elements of a
// head and over the positions of a split in their order, at every vector width and whatever rows are beside it.
internal sealed unsafe partial class CpuKernels<TLanes>
{
    // A tile of sums: columns by vectors of rows that fit the registers beside a step of the rows.
    private const int OuterColumns = 6;

    // Positions of K, or elements of V, widened at a time: what the first-level cache holds beside the rows.
    private const int PageColumns = 4 * OuterColumns;

    private static int OuterRows => TLanes.HasManyRegisters ? 4 : 2;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void AttendSplit(
        CpuWorker worker, in CpuAttention attention, int* table, int kvHead, long firstRow, int queries, long firstPosition,
        long split, float* partials)
    {
        var (dim, group, rows) = (attention.HeadDim, attention.Group, queries * attention.Group);
        var (first, end) = attention.Visible(firstPosition, firstPosition + queries - 1);
        var begin = split * SplitTokens;
        (first, end) = (Math.Max(first, begin), Math.Min(end, begin + SplitTokens));
        for (var row = 0; row < rows; row++)
        {
            var partial = partials + ((long)row * attention.PartialStride);
            (partial[0], partial[1]) = (float.NegativeInfinity, 0f);
            new Span<float>(partial + Lanes, dim).Clear();
        }

        if (first >= end)
        {
            return;
        }

        var width = (rows + TLanes.Count - 1) / TLanes.Count * TLanes.Count;
        var q = worker.Scratch(AttentionScratch(in attention)); // [head_dim, width]
        var scores = q + (AttentionRows * dim);                 // [SplitTokens, width]
        var page = scores + (AttentionRows * SplitTokens);      // [PageColumns, head_dim] of K, then [PageColumns, block_size] of V
        var sums = page + (Float8.Block * dim);                 // [row, head_dim] of Q, then [head_dim, width]
        var bounds = sums + (AttentionRows * dim);              // first and end of each row, then its maximum and sum
        var (seen, unseen) = (0, SplitTokens); // from the last row's first position to the first one's end every row sees all
        for (var row = 0; row < width; row++)
        {
            var query = Math.Min(row / group, queries - 1);
            var (low, high) = attention.Visible(firstPosition + query, firstPosition + query);
            bounds[row] = row < rows ? Math.Clamp(low - begin, 0, SplitTokens) : SplitTokens;
            bounds[AttentionRows + row] = row < rows ? Math.Clamp(high - begin, 0, SplitTokens) : 0;
            if (row < rows)
            {
                var head = attention.Q + ((firstRow + query) * attention.QStride) + ((((long)kvHead * group) + (row % group)) * dim);
                for (var d = 0; d < dim; d += TLanes.Count)
                {
                    TLanes.Store(sums + (row * dim) + d, TLanes.WidenBFloat16((ushort*)head + d));
                }

                (seen, unseen) = (Math.Max(seen, (int)bounds[row]), Math.Min(unseen, (int)bounds[AttentionRows + row]));
            }
        }

        new Span<float>(q, dim * width).Clear();
        Transpose(sums, dim, rows, dim, 1f, q, width);
        Score(in attention, table, kvHead, first, end, begin, q, width, page, scores);
        var scale = attention.Scale * HeadScale(attention.KScales, attention.ScaleCount, kvHead);
        Exponentiate(scores + ((first - begin) * width), (int)(first - begin), (int)(end - begin), seen, unseen, width, scale, bounds);
        new Span<float>(sums, dim * width).Clear();
        Weigh(in attention, table, kvHead, first, end, begin, scores, width, page, sums, bounds);

        var valueScale = HeadScale(attention.VScales, attention.ScaleCount, kvHead);
        for (var row = 0; row < rows; row++)
        {
            var partial = partials + ((long)row * attention.PartialStride);
            (partial[0], partial[1]) = (bounds[(2 * AttentionRows) + row], bounds[(3 * AttentionRows) + row]);
        }

        Transpose(sums, width, dim, rows, valueScale, partials + Lanes, attention.PartialStride);
    }

    /// <summary>to[c, r] = factor * from[r, c].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Transpose(float* from, long fromStride, int rows, int columns, float factor, float* to, long toStride)
    {
        const int side = 4;
        var (wholeRows, wholeColumns) = Sse.IsSupported ? (rows / side * side, columns / side * side) : (0, 0);
        for (var r = 0; r < wholeRows; r += side)
        {
            for (var c = 0; c < wholeColumns; c += side)
            {
                var source = from + (r * fromStride) + c;
                var target = to + (c * toStride) + r;
                var (a, b) = (Vector128.Load(source) * factor, Vector128.Load(source + fromStride) * factor);
                var (x, y) = (Vector128.Load(source + (2 * fromStride)) * factor, Vector128.Load(source + (3 * fromStride)) * factor);
                var (abLow, abHigh, xyLow, xyHigh) = (Sse.UnpackLow(a, b), Sse.UnpackHigh(a, b), Sse.UnpackLow(x, y), Sse.UnpackHigh(x, y));
                Sse.MoveLowToHigh(abLow, xyLow).Store(target);
                Sse.MoveHighToLow(xyLow, abLow).Store(target + toStride);
                Sse.MoveLowToHigh(abHigh, xyHigh).Store(target + (2 * toStride));
                Sse.MoveHighToLow(xyHigh, abHigh).Store(target + (3 * toStride));
            }
        }

        for (var r = 0; r < rows; r++)
        {
            for (var c = r < wholeRows ? wholeColumns : 0; c < columns; c++)
            {
                to[(c * toStride) + r] = factor * from[(r * fromStride) + c];
            }
        }
    }

    private static float HeadScale(float* scales, int count, int kvHead) =>
        scales is null ? 1f : scales[count == 1 ? 0 : kvHead];

    /// <summary>K [position in the block, head_dim] of a position, or V [head_dim, position in the block] of its block; null where the table names none of the cache.</summary>
    private static byte* PageOf(in CpuAttention attention, byte* cache, int* table, int kvHead, long position)
    {
        var index = position / attention.BlockSize;
        if (index >= attention.BlockTableColumns || table[index] < 0 || table[index] >= attention.Blocks)
        {
            return null;
        }

        var page = (((long)table[index] * attention.KvHeads) + kvHead) * attention.BlockSize * attention.HeadDim;
        return cache + (page * (attention.Type == DType.BFloat16 ? 2 : 1));
    }

    /// <summary>scores[position - begin, row] = q . k, unscaled; -inf where the block table names no block.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Score(
        in CpuAttention attention, int* table, int kvHead, long first, long end, long begin, float* q, int width, float* page, float* scores)
    {
        var dim = attention.HeadDim;
        var sizeInBytes = attention.Type == DType.BFloat16 ? 2 : 1;
        for (var position = first; position < end;)
        {
            var offset = (int)(position % attention.BlockSize);
            var tokens = (int)Math.Min(Math.Min(PageColumns, attention.BlockSize - offset), end - position);
            var k = PageOf(in attention, attention.K, table, kvHead, position);
            var output = scores + ((position - begin) * width);
            position += tokens;
            if (k is null)
            {
                new Span<float>(output, tokens * width).Fill(float.NegativeInfinity);
                continue;
            }

            Widen(k + ((long)offset * dim * sizeInBytes), tokens * dim, attention.Type, page);
            new Span<float>(output, tokens * width).Clear();
            AddOuter(q, width, dim, page, dim, tokens, output);
        }
    }

    /// <summary>Scores become exp(scale * score - maximum), 0 outside a row's bounds; the maximum and the sum go behind the bounds.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Exponentiate(float* scores, int first, int end, int seen, int unseen, int width, float scale, float* bounds)
    {
        // NOTE: lanes behind the last row see what they like, nobody reads them.
        seen = Math.Clamp(seen, first, end);
        unseen = Math.Clamp(unseen, seen, end);
        for (var row = 0; row < width; row += TLanes.Count)
        {
            var scales = TLanes.Broadcast(scale);
            var infinite = TLanes.Broadcast(float.NegativeInfinity);
            var maximum = Mask(scores + row, first, first, seen, width, scale, bounds + row, infinite);
            var at = scores + ((seen - first) * width) + row;
            for (var position = seen; position < unseen; position++, at += width)
            {
                var score = TLanes.Multiply(TLanes.Load(at), scales);
                maximum = TLanes.Max(maximum, score);
                TLanes.Store(at, score);
            }

            maximum = Mask(scores + row, first, unseen, end, width, scale, bounds + row, maximum);

            // A row that sees nothing subtracts nothing: exp(-inf) is the 0 that exp(-inf + inf) is not.
            var subtract = TLanes.Replace(maximum, infinite, TLanes.Broadcast(0f));
            var sum = TLanes.Broadcast(0f);
            at = scores + row;
            for (var position = first; position < end; position++, at += width)
            {
                var p = TLanes.Exp(TLanes.Subtract(TLanes.Load(at), subtract));
                TLanes.Store(at, p);
                sum = TLanes.Add(sum, p);
            }

            TLanes.Store(bounds + (2 * AttentionRows) + row, maximum);
            TLanes.Store(bounds + (3 * AttentionRows) + row, sum);
        }
    }

    // Scales the scores of positions from to end - 1, -inf outside the bounds; the larger of their maximum and of another.
    private static TLanes Mask(float* scores, int first, int from, int end, int width, float scale, float* bounds, TLanes maximum)
    {
        var (low, high, infinite) = (TLanes.Load(bounds), TLanes.Load(bounds + AttentionRows), TLanes.Broadcast(float.NegativeInfinity));
        scores += (from - first) * width;
        for (var position = from; position < end; position++, scores += width)
        {
            var score = TLanes.Multiply(TLanes.Load(scores), TLanes.Broadcast(scale));
            score = TLanes.KeepBetween(score, low, high, TLanes.Broadcast(position), infinite);
            maximum = TLanes.Max(maximum, score);
            TLanes.Store(scores, score);
        }

        return maximum;
    }

    /// <summary>sums[d, row] = sum over positions of p[position, row] * V, nothing where the block table names no block.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Weigh(
        in CpuAttention attention, int* table, int kvHead, long first, long end, long begin, float* p, int width, float* page, float* sums,
        float* bounds)
    {
        var (dim, size) = (attention.HeadDim, attention.BlockSize);
        var sizeInBytes = attention.Type == DType.BFloat16 ? 2 : 1;
        for (var position = first; position < end;)
        {
            var offset = (int)(position % size);
            var tokens = (int)Math.Min(size - offset, end - position);
            var weights = p + ((position - begin) * width);
            var v = PageOf(in attention, attention.V, table, kvHead, position);
            position += tokens;
            for (int d = 0, columns; v is not null && d < dim; d += columns)
            {
                columns = Math.Min(PageColumns, dim - d);
                var hasNaN = Widen(v + ((long)d * size * sizeInBytes), columns * size, attention.Type, page);
                if (hasNaN || (attention.Type == DType.BFloat16 && !AreFinite(page, columns * size)))
                {
                    AddNonFinite(p, width, begin, position - tokens, tokens, page + offset, size, columns, sums + (d * width), bounds);
                }

                AddOuter(weights, width, tokens, page + offset, size, columns, sums + (d * width));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool AreFinite(float* values, int count)
    {
        // x - x is NaN where x is not finite.
        var (even, odd) = (TLanes.Broadcast(0f), TLanes.Broadcast(0f));
        for (var i = 0; i < count; i += 2 * TLanes.Count)
        {
            var (x, y) = (TLanes.Load(values + i), TLanes.Load(values + i + TLanes.Count));
            even = TLanes.Add(even, TLanes.Subtract(x, x));
            odd = TLanes.Add(odd, TLanes.Subtract(y, y));
        }

        var lanes = stackalloc float[Totals];
        new Span<float>(lanes, Totals).Clear();
        TLanes.AddTo(lanes, TLanes.Add(even, odd));
        return !float.IsNaN(Fold(lanes));
    }

    /// <summary>
    /// Adds what is not finite in V to the rows that see it, and leaves zeros there: a token is not spoilt by one it cannot see,
    /// which 0 * NaN would do.
    /// </summary>
    private static void AddNonFinite(
        float* p, int width, long begin, long position, int tokens, float* values, int stride, int columns, float* sums, float* bounds)
    {
        for (var d = 0; d < columns; d++)
        {
            for (var token = 0; token < tokens; token++)
            {
                var value = values[(d * stride) + token];
                if (float.IsFinite(value))
                {
                    continue;
                }

                var at = position + token - begin;
                for (var row = 0; row < width; row++)
                {
                    if (at >= bounds[row] && at < bounds[AttentionRows + row])
                    {
                        sums[(d * width) + row] += p[(at * width) + row] * value;
                    }
                }

                values[(d * stride) + token] = 0f;
            }
        }
    }

    /// <summary>c[j, row] += sum over i of a[i, row] * b[j, i].</summary>
    /// <param name="a">[length, width].</param>
    /// <param name="width">Rows in whole lanes.</param>
    /// <param name="length">Of the sum.</param>
    /// <param name="b">[columns, length].</param>
    /// <param name="bStride">Singles between columns of b.</param>
    /// <param name="columns">Number of columns.</param>
    /// <param name="c">[columns, width].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddOuter(float* a, int width, int length, float* b, int bStride, int columns, float* c)
    {
        for (var column = 0; column < columns; column += OuterColumns)
        {
            var source = b + ((long)column * bStride);
            var target = c + ((long)column * width);
            switch (columns - column)
            {
                case 1 or 2:
                    AddOuterColumns<Two>(a, width, length, source, bStride, columns - column, target);
                    break;
                case 3 or 4:
                    AddOuterColumns<Four>(a, width, length, source, bStride, columns - column, target);
                    break;
                default:
                    AddOuterColumns<Six>(a, width, length, source, bStride, columns - column, target);
                    break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddOuterColumns<TColumns>(float* a, int width, int length, float* b, int bStride, int columns, float* c)
        where TColumns : struct, IRows
    {
        var step = OuterRows * TLanes.Count;
        for (var row = 0; row < width; row += step)
        {
            switch (Math.Min(step, width - row) / TLanes.Count)
            {
                case 1:
                    AddOuterTile<One, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
                case 2:
                    AddOuterTile<Two, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
                case 3:
                    AddOuterTile<Three, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
                default:
                    AddOuterTile<Four, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
            }
        }
    }

    // The sums go on where c stands, so that the order is that of the positions, whatever pages they lie in.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddOuterTile<TRows, TColumns>(float* a, int width, int length, float* b, int bStride, int columns, float* c)
        where TRows : struct, IRows
        where TColumns : struct, IRows
    {
        // Columns that are missing repeat the first, for nobody.
        var b1 = columns > 1 ? b + bStride : b;
        var c1 = columns > 1 ? c + width : c;
        var b2 = columns > 2 ? b + (2 * bStride) : b;
        var c2 = columns > 2 ? c + (2 * width) : c;
        var b3 = columns > 3 ? b + (3 * bStride) : b;
        var c3 = columns > 3 ? c + (3 * width) : c;
        var b4 = columns > 4 ? b + (4 * bStride) : b;
        var c4 = columns > 4 ? c + (4 * width) : c;
        var b5 = columns > 5 ? b + (5 * bStride) : b;
        var c5 = columns > 5 ? c + (5 * width) : c;
        Load<TRows>(c, out var s00, out var s10, out var s20, out var s30);
        Load<TRows>(c1, out var s01, out var s11, out var s21, out var s31);
        Load<TRows>(c2, out var s02, out var s12, out var s22, out var s32);
        Load<TRows>(c3, out var s03, out var s13, out var s23, out var s33);
        Load<TRows>(c4, out var s04, out var s14, out var s24, out var s34);
        Load<TRows>(c5, out var s05, out var s15, out var s25, out var s35);
        for (var i = 0; i < length; i++, a += width)
        {
            var x0 = TLanes.Load(a);
            var x1 = TRows.Count > 1 ? TLanes.Load(a + TLanes.Count) : x0;
            var x2 = TRows.Count > 2 ? TLanes.Load(a + (2 * TLanes.Count)) : x0;
            var x3 = TRows.Count > 3 ? TLanes.Load(a + (3 * TLanes.Count)) : x0;
            AddColumn<TRows>(b[i], x0, x1, x2, x3, ref s00, ref s10, ref s20, ref s30);
            AddColumn<TRows>(b1[i], x0, x1, x2, x3, ref s01, ref s11, ref s21, ref s31);
            if (TColumns.Count > 2)
            {
                AddColumn<TRows>(b2[i], x0, x1, x2, x3, ref s02, ref s12, ref s22, ref s32);
                AddColumn<TRows>(b3[i], x0, x1, x2, x3, ref s03, ref s13, ref s23, ref s33);
            }

            if (TColumns.Count > 4)
            {
                AddColumn<TRows>(b4[i], x0, x1, x2, x3, ref s04, ref s14, ref s24, ref s34);
                AddColumn<TRows>(b5[i], x0, x1, x2, x3, ref s05, ref s15, ref s25, ref s35);
            }
        }

        if (TColumns.Count > 4)
        {
            Store<TRows>(c5, s05, s15, s25, s35);
            Store<TRows>(c4, s04, s14, s24, s34);
        }

        if (TColumns.Count > 2)
        {
            Store<TRows>(c3, s03, s13, s23, s33);
            Store<TRows>(c2, s02, s12, s22, s32);
        }

        Store<TRows>(c1, s01, s11, s21, s31);
        Store<TRows>(c, s00, s10, s20, s30);
    }

    // One column's part of a step.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddColumn<TRows>(
        float value, TLanes x0, TLanes x1, TLanes x2, TLanes x3, ref TLanes s0, ref TLanes s1, ref TLanes s2, ref TLanes s3)
        where TRows : struct, IRows
    {
        var w = TLanes.Broadcast(value);
        TLanes.AddProduct(ref s0, x0, w);
        if (TRows.Count > 1)
        {
            TLanes.AddProduct(ref s1, x1, w);
        }

        if (TRows.Count > 2)
        {
            TLanes.AddProduct(ref s2, x2, w);
        }

        if (TRows.Count > 3)
        {
            TLanes.AddProduct(ref s3, x3, w);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Load<TRows>(float* c, out TLanes s0, out TLanes s1, out TLanes s2, out TLanes s3) where TRows : struct, IRows
    {
        s0 = TLanes.Load(c);
        s1 = TRows.Count > 1 ? TLanes.Load(c + TLanes.Count) : s0;
        s2 = TRows.Count > 2 ? TLanes.Load(c + (2 * TLanes.Count)) : s0;
        s3 = TRows.Count > 3 ? TLanes.Load(c + (3 * TLanes.Count)) : s0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<TRows>(float* c, TLanes s0, TLanes s1, TLanes s2, TLanes s3) where TRows : struct, IRows
    {
        TLanes.Store(c, s0);
        if (TRows.Count > 1)
        {
            TLanes.Store(c + TLanes.Count, s1);
        }

        if (TRows.Count > 2)
        {
            TLanes.Store(c + (2 * TLanes.Count), s2);
        }

        if (TRows.Count > 3)
        {
            TLanes.Store(c + (3 * TLanes.Count), s3);
        }
    }
}
