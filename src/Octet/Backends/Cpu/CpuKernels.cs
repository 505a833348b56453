using System.Runtime.Intrinsics;

namespace Octet.Backends;

/// <summary>A product with a weight: A [rows, k] and B [n, k] of one type, strides in elements, both scaled per 128 columns if FP8.</summary>
internal unsafe struct CpuProduct
{
    public byte* A;
    public float* AScales;
    public byte* B;
    public float* BScales;
    public long AStride, AScaleStride, BStride, BScaleStride;
    public long K;

    /// <summary>Equal parts of K whose sums are rounded to BF16 each and added by the tree (<see cref="CpuTree"/>); 0 or 1: one sum, not rounded.</summary>
    public int Leaves;

    /// <summary>[n] added to the first leaf's sum; null: none.</summary>
    public BFloat16* Bias;
    public int ScaleRowOffset, ScaleColumnOffset;
    public DType Type;

    /// <summary>Columns of a leaf.</summary>
    public readonly long LeafLength => K / Math.Max(Leaves, 1);

    /// <summary>Columns from <paramref name="start"/> on that share one scale of A and one of B.</summary>
    public readonly int SegmentLength(long start)
    {
        var toOwnBlock = Float8.Block - (start % Float8.Block);
        var toWeightBlock = Float8.Block - ((start + ScaleColumnOffset) % Float8.Block);
        return (int)Math.Min(Math.Min(toOwnBlock, toWeightBlock), K - start);
    }

    private readonly float AScale(long row, long start) =>
        AScales is null ? 1f : AScales[(row * AScaleStride) + (start / Float8.Block)];

    /// <summary>What a product of elements of a row of A and of B at a place is multiplied by.</summary>
    public readonly double ScalePair(long row, long column, long k) =>
        (double)AScale(row, k) * (BScales is null ? 1f : *BScaleRow(column, k));

    /// <summary>Rows of B from <paramref name="column"/> on that share their scales.</summary>
    public readonly long ColumnsOfScaleRow(long column) =>
        BScales is null ? long.MaxValue : Float8.Block - ((ScaleRowOffset + column) % Float8.Block);

    /// <summary>The scales of a column's blocks from <paramref name="start"/> on; null: all are 1.</summary>
    public readonly float* BScaleRow(long column, long start) =>
        BScales is null
            ? null
            : BScales + ((ScaleRowOffset + column) / Float8.Block * BScaleStride) + ((ScaleColumnOffset + start) / Float8.Block);
}

/// <summary>Attention of some queries that share a KV head; the cache and the strides of every launch.</summary>
internal unsafe struct CpuAttention
{
    public BFloat16* Q;
    public byte* K, V;
    public float* KScales, VScales;
    public float* Sinks;
    public int* BlockTable;
    public BFloat16* Output;
    public long QStride, OutputStride, BlockTableStride, BlockTableColumns, Blocks, MaxContext;
    public int KvHeads, BlockSize, HeadDim, Group, ScaleCount, Window;
    public float Scale;
    public DType Type;

    /// <summary>Floats of a partial result: maximum and sum, then (from a whole vector on) the weighted sum of V.</summary>
    public readonly int PartialStride => CpuKernels.Lanes + HeadDim;

    /// <summary>Context positions that any of the queries at firstPosition to lastPosition sees.</summary>
    public readonly (long First, long End) Visible(long firstPosition, long lastPosition) =>
        (Window > 0 ? Math.Max(0, firstPosition - Window + 1) : 0, Math.Min(lastPosition + 1, MaxContext));
}

/// <summary>The inner loops, for one vector width; see <see cref="CpuKernels{TLanes}"/>.</summary>
internal abstract unsafe class CpuKernels
{
    /// <summary>Singles side by side in every sum.</summary>
    public const int Lanes = 16;

    /// <summary>Rows of A that are widened once and then used for a block of columns.</summary>
    public const int PanelRows = 64;

    /// <summary>Rows of attention, queries times heads, that share what is widened of K and V.</summary>
    public const int AttentionRows = 64;

    /// <summary>Columns of a result block.</summary>
    public const int BlockColumns = Float8.Block;

    /// <summary>Positions of one attention split: fixed, so that a row's sums do not depend on what else is in the batch.</summary>
    public const int SplitTokens = 512;

    /// <summary>The kernels for 512, 256 or 128 bits; 0 takes the widest the machine is fast with.</summary>
    public static CpuKernels Create(int bits = 0) => bits switch
    {
        512 => new CpuKernels<Lanes512>(),
        256 => new CpuKernels<Lanes256>(),
        128 => new CpuKernels<Lanes128>(),
        _ => Create(Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128),
    };

    /// <summary>
    /// result[r, c] = row rows[r] of A times row firstColumn + c of B (+ bias), in f32, of several leaves the root of their tree; result has a
    /// stride of <see cref="BlockColumns"/>.
    /// </summary>
    /// <param name="worker">Its scratch memory holds the widened rows of <paramref name="panel"/> from call to call.</param>
    /// <param name="product">The operands.</param>
    /// <param name="rows">[count] row numbers in A, count at most <see cref="PanelRows"/>.</param>
    /// <param name="count">Number of rows.</param>
    /// <param name="panel">A number for this choice of rows, unique within one launch.</param>
    /// <param name="firstColumn">The first row of B.</param>
    /// <param name="columns">Rows of B, at most <see cref="BlockColumns"/>.</param>
    /// <param name="result">[count, BlockColumns].</param>
    public abstract void Multiply(
        CpuWorker worker, in CpuProduct product, long* rows, int count, long panel, long firstColumn, int columns, float* result);

    /// <summary>
    /// One split of the context for queries firstPosition.. (queries of them, group heads each): for each row its maximum score,
    /// the sum of exp(score - maximum), and the sum of exp(score - maximum) * V. A row that sees nothing has maximum -inf, sum 0.
    /// </summary>
    /// <param name="worker">Scratch memory.</param>
    /// <param name="attention">The operands.</param>
    /// <param name="table">The sequence's row of the block table.</param>
    /// <param name="kvHead">The KV head.</param>
    /// <param name="firstRow">Row of the first query in Q.</param>
    /// <param name="queries">Queries, queries * group at most <see cref="AttentionRows"/>.</param>
    /// <param name="firstPosition">Position of the first query.</param>
    /// <param name="split">Which <see cref="SplitTokens"/> positions.</param>
    /// <param name="partials">[queries * group, PartialStride].</param>
    public abstract void AttendSplit(
        CpuWorker worker, in CpuAttention attention, int* table, int kvHead, long firstRow, int queries, long firstPosition,
        long split, float* partials);

    /// <summary>Multiply-adds that need no memory, a fixed number of chains for each turn; the result says nothing.</summary>
    public abstract float MultiplyAdds(int turns);

    /// <summary>Operations of <see cref="MultiplyAdds"/>.</summary>
    public abstract double MultiplyAddFlops(int turns);

    /// <summary>Partial results of rows that have seen nothing.</summary>
    public static void ClearPartials(float* partials, int rows, int stride)
    {
        new Span<float>(partials, rows * stride).Clear();
        for (var row = 0; row < rows; row++)
        {
            partials[row * stride] = float.NegativeInfinity;
        }
    }

    /// <summary>Scratch floats of <see cref="AttendSplit"/>.</summary>
    public static long AttentionScratch(in CpuAttention attention) =>
        ((long)AttentionRows * ((2 * attention.HeadDim) + SplitTokens + 4)) + (Float8.Block * attention.HeadDim);
}
