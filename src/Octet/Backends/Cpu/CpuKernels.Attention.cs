namespace Octet.Backends;

// Scores and weighted sums are products of tiles like those of a weight: rows are queries times heads; columns are the
// positions of a page of K, then the elements of V.
internal sealed unsafe partial class CpuKernels<TLanes>
{
    // Singles of the totals of one tile.
    private const int TileTotals = TileRows * TileColumns * Lanes;

    public override void AttendSplit(
        CpuWorker worker, in CpuAttention attention, int* table, int kvHead, long firstRow, int queries, long firstPosition,
        long split, float* partials)
    {
        var (dim, group, rows) = (attention.HeadDim, attention.Group, queries * attention.Group);
        var q = worker.Scratch(AttentionScratch(in attention));
        var scores = q + (AttentionRows * dim);           // [rows, SplitTokens]
        var page = scores + (AttentionRows * SplitTokens); // [block_size, head_dim]
        var values = page + (Float8.Block * dim);         // [TileColumns, SplitTokens]
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
            Widen<BFloat16Codes>((byte*)head, dim, q + (row * dim));
        }

        // Scores: a page of K at a time.
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
                Widen(attention.K, k, tokens * dim, attention.Type, page);
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

        // Weighted sums of V: four of its rows (one for each element of a head) at a time.
        var valueScale = HeadScale(attention.VScales, attention.ScaleCount, kvHead);
        for (var d = 0; d < dim; d += TileColumns)
        {
            for (var i = 0; i < TileColumns; i++)
            {
                WidenValues(in attention, table, kvHead, d + i, first, end, values + (i * SplitTokens));
            }

            for (var query = 0; query < queries; query++)
            {
                var (low, high) = attention.Visible(firstPosition + query, firstPosition + query);
                var (from, to) = ((int)(Math.Max(low, begin) - begin), (int)(Math.Min(high, end) - begin));
                for (var head = 0; head < group && from < to; head += TileRows)
                {
                    var row = (query * group) + head;
                    WeighValues(
                        scores + (row * SplitTokens), Math.Min(TileRows, group - head), values, from, to, valueScale,
                        partials + ((long)row * attention.PartialStride) + Lanes + d, attention.PartialStride);
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
        var totals = stackalloc float[TileTotals];
        for (var row = 0; row < rows; row += TileRows)
        {
            for (var token = 0; token < tokens; token += TileColumns)
            {
                var (height, width) = (Math.Min(TileRows, rows - row), Math.Min(TileColumns, tokens - token));
                new Span<float>(totals, TileTotals).Clear();
                AddUnscaled(q + (row * dim), dim, height, page + (token * dim), dim, width, dim, totals);
                for (var r = 0; r < height; r++)
                {
                    for (var c = 0; c < width; c++)
                    {
                        scores[((row + r) * SplitTokens) + token + c] = Fold(totals + (((r * TileColumns) + c) * Lanes)) * scale;
                    }
                }
            }
        }
    }

    /// <summary>totals += A times B, both singles, length whole lanes.</summary>
    private static void AddUnscaled(float* a, int aStride, int rows, float* b, int bStride, int columns, int length, float* totals)
    {
        var ones = stackalloc float[TileColumns] { 1f, 1f, 1f, 1f };
        AddTile<SingleCodes>(new CpuTile
        {
            A = a,
            AStride = aStride,
            Rows = rows,
            B = (byte*)b,
            BStride = bStride * sizeof(float),
            Columns = columns,
            Length = length,
            RowScales = ones,
            ColumnScales = ones,
            Totals = totals,
            TotalStride = TileColumns * Lanes,
        });
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

        new Span<float>(scores + start, from - start).Fill(float.NegativeInfinity);
        new Span<float>(scores + to, end - to).Fill(float.NegativeInfinity);
        var sums = stackalloc float[Lanes];
        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            var sum = TLanes.Broadcast(0f);
            for (var i = start + lane; i < end; i += Lanes)
            {
                var p = TLanes.Exp(TLanes.Subtract(TLanes.Load(scores + i), TLanes.Broadcast(maximum)));
                TLanes.Store(scores + i, p);
                sum = TLanes.Add(sum, p);
            }

            TLanes.Store(sums + lane, sum);
        }

        (partial[0], partial[1]) = (maximum, Fold(sums));
    }

    /// <summary>Element d of V at positions first..end-1 of the split; zeros where the block table names no block.</summary>
    private static void WidenValues(in CpuAttention attention, int* table, int kvHead, int d, long first, long end, float* values)
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
            Widen(attention.V, v, tokens, attention.Type, values + (position - begin));
        }
    }

    /// <summary>
    /// output = scale * sum over positions from..to-1 of p * V for some heads and four elements. Positions outside take no part
    /// even where V is not finite there, so a token is not spoilt by one it cannot see.
    /// </summary>
    private static void WeighValues(
        float* p, int heads, float* values, int from, int to, float scale, float* output, int outputStride)
    {
        var totals = stackalloc float[TileTotals];
        new Span<float>(totals, TileTotals).Clear();
        var (inner, innerEnd) = ((int)Padded(from), to / Lanes * Lanes);
        if (inner < innerEnd)
        {
            AddUnscaled(p + inner, SplitTokens, heads, values + inner, SplitTokens, TileColumns, innerEnd - inner, totals);
        }

        var edge = stackalloc float[TileColumns * Lanes];
        for (var start = from / Lanes * Lanes; start < to; start = Math.Max(start + Lanes, innerEnd))
        {
            if (start >= inner && start < innerEnd)
            {
                continue;
            }

            new Span<float>(edge, TileColumns * Lanes).Clear();
            for (var position = Math.Max(start, from); position < Math.Min(start + Lanes, to); position++)
            {
                for (var c = 0; c < TileColumns; c++)
                {
                    edge[(c * Lanes) + position - start] = values[(c * SplitTokens) + position];
                }
            }

            AddUnscaled(p + start, SplitTokens, heads, edge, Lanes, TileColumns, Lanes, totals);
        }

        for (var head = 0; head < heads; head++)
        {
            for (var c = 0; c < TileColumns; c++)
            {
                output[((long)head * outputStride) + c] = scale * Fold(totals + (((head * TileColumns) + c) * Lanes));
            }
        }
    }
}
