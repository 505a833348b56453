using System.Runtime.CompilerServices;

namespace Octet.Backends;

// Rows (queries times heads) lie in the lanes, so no sum is folded across them: scores are [position, row], the weighted sums of V
// [element, row], and an element of K or V is broadcast to all rows that share its head. Each row's sums run over the elements of a
// head and over the positions of a split in their order, at every vector width and whatever rows are beside it.
internal sealed unsafe partial class CpuKernels<TLanes>
{
    // Positions of K, or elements of V, widened at a time: what the first-level cache holds beside the rows.
    private const int PageColumns = 4 * OuterColumns;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void AttendSplit(
        CpuWorker worker, in CpuAttention attention, int* table, int kvHead, long firstRow, int queries, long firstPosition,
        long split, float* partials)
    {
        var (dim, group, rows) = (attention.HeadDim, attention.Group, queries * attention.Group);
        var (first, end) = attention.Visible(firstPosition, firstPosition + queries - 1);
        var begin = split * SplitTokens;
        (first, end) = (Math.Max(first, begin), Math.Min(end, begin + SplitTokens));
        if (first >= end)
        {
            ClearPartials(partials, rows, attention.PartialStride);
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

        if (rows < width)
        {
            new Span<float>(q, dim * width).Clear();
        }

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
        return cache + (page * attention.Type.SizeInBytes());
    }

    /// <summary>scores[position - begin, row] = q . k, unscaled; -inf where the block table names no block.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Score(
        in CpuAttention attention, int* table, int kvHead, long first, long end, long begin, float* q, int width, float* page, float* scores)
    {
        var dim = attention.HeadDim;
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

            Widen(k + ((long)offset * dim * attention.Type.SizeInBytes()), tokens * dim, attention.Type, page);
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
                var hasNaN = Widen(v + ((long)d * size * attention.Type.SizeInBytes()), columns * size, attention.Type, page);
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
        TLanes.AddTo(lanes, lanes, TLanes.Add(even, odd));
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
}
