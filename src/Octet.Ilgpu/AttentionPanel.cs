using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

/// <summary>
/// Attention of up to 16 rows (queries times heads that share a KV head) over a stretch of the context, 16 tokens at a time: scores
/// from a tile of K, exponentials relative to the largest so far, then a tile of V. Prefill and decode share it.
/// </summary>
internal struct AttentionPanel<T> where T : unmanaged
{
    public const int MaxRows = 16;
    public const int TileTokens = 16;

    /// <summary>Between tokens of a tile in shared memory: one more than a head, so that neighbours lie in different banks.</summary>
    public const int TileStride = MaxHeadDim + 1;

    public const int MaxHeadDim = 128;

    public CacheView<T> Cache;
    public ArrayView<ushort> Q;       // [rows, q_heads, head_dim] BF16
    public ArrayView<int> BlockTable; // [sequences, BlockTableColumns]
    public ArrayView<ushort> Output;  // [rows, q_heads, head_dim] BF16
    public ArrayView<float> Sinks;    // [q_heads]; empty: none
    public long QStride, OutputStride, BlockTableStride, BlockTableColumns, MaxContext;
    public int Group, Window;
    public float Scale;

    /// <summary>Queries of a panel.</summary>
    public readonly int PanelQueries => MaxRows / Group;

    /// <summary>The first position a query sees.</summary>
    public readonly long First(long position) => Window > 0 && position - Window + 1 > 0 ? position - Window + 1 : 0;

    /// <summary>The position behind the last a query sees.</summary>
    public readonly long End(long position) => position + 1 < MaxContext ? position + 1 : MaxContext;

    /// <summary>Adds the positions from <paramref name="begin"/> to <paramref name="end"/> - 1, as far as they are seen, to the state.</summary>
    /// <param name="panel">What is computed.</param>
    /// <param name="which">Whose queries.</param>
    /// <param name="begin">A multiple of the tile.</param>
    /// <param name="end">Of the stretch.</param>
    /// <param name="state">In shared memory.</param>
    public static void Attend<TElement>(AttentionPanel<T> panel, PanelQueries which, long begin, long end, PanelState state)
        where TElement : struct, IElement<T>
    {
        var (dim, rows) = (panel.Cache.HeadDim, which.Count * panel.Group);
        for (var i = ILGPU.Group.IdxX; i < rows * dim; i += ILGPU.Group.DimX)
        {
            var (r, d) = (i / dim, i % dim);
            var at = ((which.FirstRow + (r / panel.Group)) * panel.QStride) + (panel.Head(which, r) * dim) + d;
            state.Q[(r * MaxHeadDim) + d] = BFloat16Element.Widen(panel.Q[at]);
            state.Sums[(r * MaxHeadDim) + d] = 0f;
        }

        for (var r = ILGPU.Group.IdxX; r < rows; r += ILGPU.Group.DimX)
        {
            state.Maxima[r] = Bits.NegativeInfinity;
            state.Totals[r] = 0f;
        }

        var lowest = panel.First(which.Position);
        var highest = panel.End(which.Position + which.Count - 1);
        begin = lowest > begin ? lowest / TileTokens * TileTokens : begin;
        end = highest < end ? highest : end;
        for (var tile = begin; tile < end; tile += TileTokens)
        {
            // A tile lies in one block: blocks are whole tiles.
            var index = tile / panel.Cache.BlockSize;
            var block = index < panel.BlockTableColumns ? panel.BlockTable[(which.Sequence * panel.BlockTableStride) + index] : -1;
            if (block >= 0 && block < panel.Cache.Blocks)
            {
                AddTile<TElement>(panel, which, tile, block, rows, state);
            }
        }

        GroupWork.Sync();
    }

    /// <summary>output = sums / total, the sink in the total; a row that sees nothing becomes zeros.</summary>
    public readonly float Finish(long head, float maximum, float total, float sum)
    {
        // A total that is NaN, from scores that are, is not 0.
        if (maximum == Bits.NegativeInfinity && total == 0f)
        {
            return 0f;
        }

        if (Sinks.Length == 0)
        {
            return sum / total;
        }

        var sink = Sinks[head];
        var largest = sink > maximum ? sink : maximum;
        var factor = XMath.Exp(maximum - largest);
        return sum * factor / ((total * factor) + XMath.Exp(sink - largest));
    }

    /// <summary>The q head of a row of a panel.</summary>
    public readonly long Head(PanelQueries which, int row) => ((long)which.KvHead * Group) + (row % Group);

    private static void AddTile<TElement>(
        AttentionPanel<T> panel, PanelQueries which, long tile, long block, int rows, PanelState state)
        where TElement : struct, IElement<T>
    {
        var dim = panel.Cache.HeadDim;
        var token = tile % panel.Cache.BlockSize;
        GroupWork.Sync();
        var k = panel.Cache.KIndex(block, which.KvHead, token);
        for (var i = ILGPU.Group.IdxX; i < TileTokens * dim; i += ILGPU.Group.DimX)
        {
            state.Tile[(i / dim * TileStride) + (i % dim)] = TElement.Widen(panel.Cache.K[k + i]);
        }

        // Scores of the positions a row sees; the others are never looked at.
        GroupWork.Sync();
        var scale = panel.Scale * panel.Cache.KScale(which.KvHead);
        for (var i = ILGPU.Group.IdxX; i < rows * TileTokens; i += ILGPU.Group.DimX)
        {
            var (r, t) = (i / TileTokens, i % TileTokens);
            if (panel.Sees(which, r, tile + t))
            {
                var score = 0f;
                for (var d = 0; d < dim; d++)
                {
                    score += state.Q[(r * MaxHeadDim) + d] * state.Tile[(t * TileStride) + d];
                }

                state.Scores[i] = score * scale;
            }
        }

        // V in the place of K, and the exponentials: a thread for each row.
        GroupWork.Sync();
        var v = panel.Cache.VIndex(block, which.KvHead, token);
        for (var i = ILGPU.Group.IdxX; i < TileTokens * dim; i += ILGPU.Group.DimX)
        {
            var (d, t) = (i / TileTokens, i % TileTokens);
            state.Tile[(t * TileStride) + d] = TElement.Widen(panel.Cache.V[v + ((long)d * panel.Cache.BlockSize) + t]);
        }

        for (var r = ILGPU.Group.IdxX; r < rows; r += ILGPU.Group.DimX)
        {
            var maximum = state.Maxima[r];
            for (var t = 0; t < TileTokens; t++)
            {
                var score = state.Scores[(r * TileTokens) + t];
                maximum = panel.Sees(which, r, tile + t) && score > maximum ? score : maximum;
            }

            var factor = state.Maxima[r] == Bits.NegativeInfinity ? 0f : XMath.Exp(state.Maxima[r] - maximum);
            var total = state.Totals[r] * factor;
            for (var t = 0; t < TileTokens; t++)
            {
                if (panel.Sees(which, r, tile + t))
                {
                    var p = XMath.Exp(state.Scores[(r * TileTokens) + t] - maximum);
                    state.Scores[(r * TileTokens) + t] = p;
                    total += p;
                }
            }

            state.Maxima[r] = maximum;
            state.Factors[r] = factor;
            state.Totals[r] = total;
        }

        GroupWork.Sync();
        var valueScale = panel.Cache.VScale(which.KvHead);
        for (var i = ILGPU.Group.IdxX; i < rows * dim; i += ILGPU.Group.DimX)
        {
            var (r, d) = (i / dim, i % dim);
            var sum = 0f;
            for (var t = 0; t < TileTokens; t++)
            {
                if (panel.Sees(which, r, tile + t))
                {
                    sum += state.Scores[(r * TileTokens) + t] * state.Tile[(t * TileStride) + d];
                }
            }

            var at = (r * MaxHeadDim) + d;
            state.Sums[at] = (state.Sums[at] * state.Factors[r]) + (sum * valueScale);
        }
    }

    private readonly bool Sees(PanelQueries which, int row, long position)
    {
        var own = which.Position + (row / Group);
        return position >= First(own) && position < End(own);
    }
}

/// <summary>Queries of one sequence that follow each other, with the heads of one KV head.</summary>
internal struct PanelQueries
{
    public long Sequence, FirstRow, Position; // row of the first query in q, and where it stands in the context
    public int Count, KvHead;
}

/// <summary>What a panel keeps in shared memory: 26 KB.</summary>
internal struct PanelState
{
    public ArrayView<float> Q;       // [16, 128]
    public ArrayView<float> Tile;    // [16, 129]: K, then V
    public ArrayView<float> Scores;  // [16, 16]
    public ArrayView<float> Sums;    // [16, 128]: sum of exp(score - maximum) * v
    public ArrayView<float> Maxima;  // [16]
    public ArrayView<float> Totals;  // [16]: sum of exp(score - maximum)
    public ArrayView<float> Factors; // [16]

    public static PanelState Allocate() => new()
    {
        Q = SharedMemory.Allocate<float>(16 * 128),
        Tile = SharedMemory.Allocate<float>(16 * 129),
        Scores = SharedMemory.Allocate<float>(16 * 16),
        Sums = SharedMemory.Allocate<float>(16 * 128),
        Maxima = SharedMemory.Allocate<float>(16),
        Totals = SharedMemory.Allocate<float>(16),
        Factors = SharedMemory.Allocate<float>(16),
    };
}
