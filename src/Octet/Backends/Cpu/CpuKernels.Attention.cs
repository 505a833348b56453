namespace Octet.Backends;

internal sealed unsafe partial class CpuKernels<TLanes>
{
    public override void AttendSplit(
        CpuWorker worker, in CpuAttention attention, int* table, int kvHead, long firstRow, int queries, long firstPosition,
        long split, float* partials)
    {
        var (dim, group, rows) = (attention.HeadDim, attention.Group, queries * attention.Group);
        var q = worker.Scratch(AttentionScratch(in attention));
        var scores = q + (PanelRows * dim);               // [rows, SplitTokens]
        var page = scores + (PanelRows * SplitTokens);    // [block_size, head_dim]
        var values = page + (Float8.Block * dim);         // [3, SplitTokens]
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

        for (var row = 0; row < rows; row++)
        {
            var head = attention.Q + ((firstRow + (row / group)) * attention.QStride) + ((((long)kvHead * group) + (row % group)) * dim);
            WidenCodes<BFloat16Codes>((byte*)head, dim, default, q + (row * dim));
        }

        // Scores: a page of K at a time.
        var widening = new Float8Widening(attention.Type);
        var scale = attention.Scale * HeadScale(attention.KScales, attention.ScaleCount, kvHead);
        for (var position = first; position < end;)
        {
            var offset = (int)(position % attention.BlockSize);
            var tokens = (int)Math.Min(attention.BlockSize - offset, end - position);
            var block = BlockOf(in attention, table, position);
            if (block < 0)
            {
                for (var row = 0; row < rows; row++)
                {
                    new Span<float>(scores + (row * SplitTokens) + (position - begin), tokens).Fill(float.NegativeInfinity);
                }
            }
            else
            {
                var k = ((((block * attention.KvHeads) + kvHead) * attention.BlockSize) + offset) * dim;
                Widen(attention.K, k, tokens * dim, attention.Type, in widening, page);
                Score(q, rows, page, tokens, dim, scale, scores + (position - begin));
            }

            position += tokens;
        }

        for (var query = 0; query < queries; query++)
        {
            var (low, high) = attention.Visible(firstPosition + query, firstPosition + query);
            var (from, to) = ((int)(Math.Max(low, begin) - begin), (int)(Math.Min(high, end) - begin));
            for (var row = query * group; row < (query + 1) * group && from < to; row++)
            {
                Exponentiate(scores + (row * SplitTokens), from, to, partials + ((long)row * attention.PartialStride));
            }
        }

        // Weighted sums of V: three of its rows (one for each element of a head) at a time.
        var valueScale = HeadScale(attention.VScales, attention.ScaleCount, kvHead);
        for (var d = 0; d < dim; d += 3)
        {
            var width = Math.Min(3, dim - d);
            for (var i = 0; i < width; i++)
            {
                WidenValues(in attention, in widening, table, kvHead, d + i, first, end, values + (i * SplitTokens));
            }

            for (var query = 0; query < queries; query++)
            {
                var (low, high) = attention.Visible(firstPosition + query, firstPosition + query);
                var (from, to) = ((int)(Math.Max(low, begin) - begin), (int)(Math.Min(high, end) - begin));
                for (var head = 0; head < group && from < to; head += 2)
                {
                    var row = (query * group) + head;
                    var next = Math.Min(head + 1, group - 1) - head;
                    WeighValues(
                        scores + (row * SplitTokens), next * SplitTokens, values, from, to, width, valueScale,
                        partials + ((long)row * attention.PartialStride) + Lanes + d, next * attention.PartialStride);
                }
            }
        }
    }

    private static float HeadScale(float* scales, int count, int kvHead) =>
        scales is null ? 1f : scales[count == 1 ? 0 : kvHead];

    /// <summary>The block of a position; -1 where the table names none of the cache.</summary>
    private static long BlockOf(in CpuAttention attention, int* table, long position)
    {
        var index = position / attention.BlockSize;
        return index < attention.BlockTableColumns && table[index] >= 0 && table[index] < attention.Blocks ? table[index] : -1;
    }

    private static void Score(float* q, int rows, float* page, int tokens, int dim, float scale, float* scores)
    {
        for (var row = 0; row < rows; row += 2)
        {
            var next = Math.Min(1, rows - 1 - row);
            var s0 = scores + (row * SplitTokens);
            var s1 = scores + ((row + next) * SplitTokens);
            for (var token = 0; token < tokens; token += 3)
            {
                var (t1, t2) = (Math.Min(token + 1, tokens - 1), Math.Min(token + 2, tokens - 1));
                var tile = Multiply2x3(
                    q + (row * dim), q + ((row + next) * dim), page + (token * dim), page + (t1 * dim), page + (t2 * dim), 0, dim);
                s0[token] = TLanes.Sum(tile.S00) * scale;
                s0[t1] = TLanes.Sum(tile.S01) * scale;
                s0[t2] = TLanes.Sum(tile.S02) * scale;
                s1[token] = TLanes.Sum(tile.S10) * scale;
                s1[t1] = TLanes.Sum(tile.S11) * scale;
                s1[t2] = TLanes.Sum(tile.S12) * scale;
            }
        }
    }

    /// <summary>Scores from..to-1 become exp(score - maximum), with zeros around them up to whole lanes; partial gets maximum and sum.</summary>
    private static void Exponentiate(float* scores, int from, int to, float* partial)
    {
        var maximum = float.NegativeInfinity;
        var masked = true;
        for (var i = from; i < to; i++)
        {
            maximum = MathF.Max(maximum, scores[i]);
            masked &= float.IsNegativeInfinity(scores[i]);
        }

        var (start, end) = (from / Lanes * Lanes, (int)Padded(to));
        if (masked)
        {
            new Span<float>(scores + start, end - start).Clear();
            return;
        }

        var total = TLanes.Broadcast(0f);
        for (var i = start; i < end; i += Lanes)
        {
            var p = TLanes.Exp(TLanes.Subtract(TLanes.Load(scores + i), TLanes.Broadcast(maximum)));
            p = TLanes.Keep(p, from - i, to - i);
            TLanes.Store(scores + i, p);
            total = TLanes.Add(total, p);
        }

        (partial[0], partial[1]) = (maximum, TLanes.Sum(total));
    }

    /// <summary>Element d of V at positions first..end-1 of the split; zeros where the block table names no block.</summary>
    private static void WidenValues(
        in CpuAttention attention, in Float8Widening widening, int* table, int kvHead, int d, long first, long end, float* values)
    {
        var begin = first / SplitTokens * SplitTokens;
        for (var position = first / attention.BlockSize * attention.BlockSize; position < end; position += attention.BlockSize)
        {
            var tokens = (int)Math.Min(attention.BlockSize, end - position);
            var block = BlockOf(in attention, table, position);
            if (block < 0)
            {
                new Span<float>(values + (position - begin), (int)Padded(tokens)).Clear();
                continue;
            }

            var v = ((((block * attention.KvHeads) + kvHead) * attention.HeadDim) + d) * attention.BlockSize;
            Widen(attention.V, v, tokens, attention.Type, in widening, values + (position - begin));
        }
    }

    /// <summary>
    /// output = scale * sum over positions from..to-1 of p * V for two heads and three elements. Positions outside take no part
    /// even where V is not finite there, so a token is not spoilt by one it cannot see.
    /// </summary>
    private static void WeighValues(
        float* p, int nextP, float* values, int from, int to, int width, float scale, float* output, int nextOutput)
    {
        var (start, end) = (from / Lanes * Lanes, (int)Padded(to));
        var (inner, innerEnd) = ((int)Padded(from), to / Lanes * Lanes);
        var v0 = values;
        var v1 = values + SplitTokens;
        var v2 = values + (2 * SplitTokens);
        var tile = inner < innerEnd ? Multiply2x3(p, p + nextP, v0, v1, v2, inner, innerEnd) : default;
        for (var i = start; i < end; i += Lanes)
        {
            if (i >= inner && i < innerEnd)
            {
                i = innerEnd - Lanes;
                continue;
            }

            var (x, y) = (TLanes.Load(p + i), TLanes.Load(p + nextP + i));
            var w = TLanes.Keep(TLanes.Load(v0 + i), from - i, to - i);
            tile.S00 = TLanes.MultiplyAdd(x, w, tile.S00);
            tile.S10 = TLanes.MultiplyAdd(y, w, tile.S10);
            w = TLanes.Keep(TLanes.Load(v1 + i), from - i, to - i);
            tile.S01 = TLanes.MultiplyAdd(x, w, tile.S01);
            tile.S11 = TLanes.MultiplyAdd(y, w, tile.S11);
            w = TLanes.Keep(TLanes.Load(v2 + i), from - i, to - i);
            tile.S02 = TLanes.MultiplyAdd(x, w, tile.S02);
            tile.S12 = TLanes.MultiplyAdd(y, w, tile.S12);
        }

        for (var i = 0; i < width; i++)
        {
            output[i] = scale * TLanes.Sum(i == 0 ? tile.S00 : i == 1 ? tile.S01 : tile.S02);
            output[nextOutput + i] = scale * TLanes.Sum(i == 0 ? tile.S10 : i == 1 ? tile.S11 : tile.S12);
        }
    }
}
