using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

// The two loops everything waits for.
internal sealed unsafe partial class CpuKernels<TLanes>
{
    // Rows of B that one row of A is multiplied with side by side.
    private const int RowColumns = 4;

    private interface IRows
    {
        static abstract int Count { get; }
    }

    private readonly struct One : IRows
    {
        public static int Count => 1;
    }

    private readonly struct Two : IRows
    {
        public static int Count => 2;
    }

    private readonly struct Three : IRows
    {
        public static int Count => 3;
    }

    private readonly struct Four : IRows
    {
        public static int Count => 4;
    }

    private static void AddTile(int rows, float* a, float* b, long length, float* from, float* totals)
    {
        switch (rows)
        {
            case 1:
                AddTile<One>(a, b, length, from, totals);
                break;
            case 2:
                AddTile<Two>(a, b, length, from, totals);
                break;
            case 3:
                AddTile<Three>(a, b, length, from, totals);
                break;
            default:
                AddTile<Four>(a, b, length, from, totals);
                break;
        }
    }

    /// <summary>totals = what they were before and the products of the tile's rows and columns over a chunk of K; what the tile has not is compiled away.</summary>
    /// <param name="a">[length / lanes, TileRows, lanes], in groups.</param>
    /// <param name="b">[TileColumns, length] at <see cref="ChunkLength"/>.</param>
    /// <param name="length">Whole groups.</param>
    /// <param name="from">[rows, TileColumns, Totals] before.</param>
    /// <param name="totals">[rows, TileColumns, Totals].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddTile<TRows>(float* a, float* b, long length, float* from, float* totals) where TRows : struct, IRows
    {
        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            var zero = TLanes.Broadcast(0f);
            TLanes s00 = zero, s01 = zero, s02 = zero, s03 = zero, s04 = zero, s05 = zero;
            TLanes s10 = zero, s11 = zero, s12 = zero, s13 = zero, s14 = zero, s15 = zero;
            TLanes s20 = zero, s21 = zero, s22 = zero, s23 = zero, s24 = zero, s25 = zero;
            TLanes s30 = zero, s31 = zero, s32 = zero, s33 = zero, s34 = zero, s35 = zero;
            var x = a + lane;
            var w = b + lane;
            for (var end = w + length; w < end; w += Lanes, x += TileRows * Lanes)
            {
                var w0 = TLanes.Load(w);
                var w1 = TLanes.Load(w + ChunkLength);
                var w2 = TLanes.Load(w + (2 * ChunkLength));
                var w3 = TLanes.HasManyRegisters ? TLanes.Load(w + (3 * ChunkLength)) : w0;
                var w4 = TLanes.HasManyRegisters ? TLanes.Load(w + (4 * ChunkLength)) : w0;
                var w5 = TLanes.HasManyRegisters ? TLanes.Load(w + (5 * ChunkLength)) : w0;
                AddRow(TLanes.Load(x), w0, w1, w2, w3, w4, w5, ref s00, ref s01, ref s02, ref s03, ref s04, ref s05);
                if (TRows.Count > 1)
                {
                    AddRow(TLanes.Load(x + Lanes), w0, w1, w2, w3, w4, w5, ref s10, ref s11, ref s12, ref s13, ref s14, ref s15);
                }

                if (TRows.Count > 2)
                {
                    AddRow(TLanes.Load(x + (2 * Lanes)), w0, w1, w2, w3, w4, w5, ref s20, ref s21, ref s22, ref s23, ref s24, ref s25);
                }

                if (TRows.Count > 3)
                {
                    AddRow(TLanes.Load(x + (3 * Lanes)), w0, w1, w2, w3, w4, w5, ref s30, ref s31, ref s32, ref s33, ref s34, ref s35);
                }
            }

            var total = totals + (lane % Totals);
            var before = lane < Totals ? from + lane : total;
            AddTo(total, before, s00, s01, s02, s03, s04, s05);
            if (TRows.Count > 1)
            {
                AddTo(total + (TileColumns * Totals), before + (TileColumns * Totals), s10, s11, s12, s13, s14, s15);
            }

            if (TRows.Count > 2)
            {
                AddTo(total + (2 * TileColumns * Totals), before + (2 * TileColumns * Totals), s20, s21, s22, s23, s24, s25);
            }

            if (TRows.Count > 3)
            {
                AddTo(total + (3 * TileColumns * Totals), before + (3 * TileColumns * Totals), s30, s31, s32, s33, s34, s35);
            }
        }
    }

    // One row's part of a step.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow(
        TLanes x, TLanes w0, TLanes w1, TLanes w2, TLanes w3, TLanes w4, TLanes w5,
        ref TLanes s0, ref TLanes s1, ref TLanes s2, ref TLanes s3, ref TLanes s4, ref TLanes s5)
    {
        TLanes.AddProduct(ref s0, x, w0);
        TLanes.AddProduct(ref s1, x, w1);
        TLanes.AddProduct(ref s2, x, w2);
        if (TLanes.HasManyRegisters)
        {
            TLanes.AddProduct(ref s3, x, w3);
            TLanes.AddProduct(ref s4, x, w4);
            TLanes.AddProduct(ref s5, x, w5);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTo(float* total, float* from, TLanes s0, TLanes s1, TLanes s2, TLanes s3, TLanes s4, TLanes s5)
    {
        TLanes.AddTo(total, from, s0);
        TLanes.AddTo(total + Totals, from + Totals, s1);
        TLanes.AddTo(total + (2 * Totals), from + (2 * Totals), s2);
        if (TLanes.HasManyRegisters)
        {
            TLanes.AddTo(total + (3 * Totals), from + (3 * Totals), s3);
            TLanes.AddTo(total + (4 * Totals), from + (4 * Totals), s4);
            TLanes.AddTo(total + (5 * Totals), from + (5 * Totals), s5);
        }
    }

    private static void MultiplyOne<TCodes>(in CpuProduct product, float* a, double* units, long firstColumn, int columns, float* sums)
        where TCodes : struct, ICodes
    {
        for (var column = 0; column < columns; column += RowColumns)
        {
            MultiplyRow<TCodes>(in product, a, units, firstColumn + column, Math.Min(RowColumns, columns - column), sums + column);
        }
    }

    /// <summary>One row of A times a few rows of B (at most <see cref="RowColumns"/>), widened in registers, from end to end.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyRow<TCodes>(in CpuProduct product, float* a, double* units, long column, int width, float* sums)
        where TCodes : struct, ICodes
    {
        // A leaf's are folded when all are there: then no fold waits for what it reads.
        var allTotals = stackalloc float[SumTree.MaxLeaves * RowColumns * Totals];
        var zeros = stackalloc float[RowColumns * Totals];
        ClearTotals(zeros, RowColumns * Totals);
        var stride = product.BStride * TCodes.Size;
        var first = product.B + (column * stride);
        var zero = TLanes.Broadcast(0f);
        var mark = zero;

        // Rows that are missing repeat the first, for nobody.
        var (b1, b2, b3) = (width > 1 ? stride : 0, width > 2 ? 2 * stride : 0, width > 3 ? 3 * stride : 0);
        var soon = RowColumns * stride;
        var (leaves, leafLength) = (Math.Max(product.Leaves, 1), product.LeafLength);
        for (long leaf = 0, start = 0; leaf < leaves; leaf++)
        {
            var totals = allTotals + (leaf * RowColumns * Totals);
            var from = zeros;
            for (long length; start < (leaf + 1) * leafLength; start += length, from = totals)
            {
                length = Math.Min(ChunkLength, ((leaf + 1) * leafLength) - start);
                for (var lane = 0; lane < Lanes; lane += TLanes.Count)
                {
                    // The same place in the rows after these, half of them in each pass: the processor itself does not fetch beyond a page.
                    var (near, far) = lane == 0 ? (soon, soon + b1) : (soon + b2, soon + b3);
                    TLanes s0 = zero, s1 = zero, s2 = zero, s3 = zero;
                    var x = a + start + lane;
                    var b = first + (start * TCodes.Size) + (4 * lane);
                    for (var end = x + length; x < end; x += Lanes * TCodes.Steps, b += GroupBytes)
                    {
                        Prefetch(b + near);
                        Prefetch(b + far);
                        if (TLanes.Count == Lanes)
                        {
                            Prefetch(b + soon + b2);
                            Prefetch(b + soon + b3);
                        }

                        if (TCodes.Steps == 4)
                        {
                            AddFour<TCodes>(b, x, ref s0, ref mark);
                            AddFour<TCodes>(b + b1, x, ref s1, ref mark);
                            AddFour<TCodes>(b + b2, x, ref s2, ref mark);
                            AddFour<TCodes>(b + b3, x, ref s3, ref mark);
                        }
                        else
                        {
                            AddTwo(b, x, ref s0);
                            AddTwo(b + b1, x, ref s1);
                            AddTwo(b + b2, x, ref s2);
                            AddTwo(b + b3, x, ref s3);
                        }
                    }

                    var total = totals + (lane % Totals);
                    var before = lane < Totals ? from + lane : total;
                    TLanes.AddTo(total, before, s0);
                    TLanes.AddTo(total + Totals, before + Totals, s1);
                    TLanes.AddTo(total + (2 * Totals), before + (2 * Totals), s2);
                    TLanes.AddTo(total + (3 * Totals), before + (3 * Totals), s3);
                }
            }
        }

        for (long leaf = 0; leaf < leaves; leaf++)
        {
            Fold(allTotals + (leaf * RowColumns * Totals), Totals, width, units[leaf * PanelRows], sums + (leaf * LeafStride));
        }

        if (TCodes.NaNMark != 0 && TLanes.HasByte(mark, TCodes.NaNMark))
        {
            for (var c = 0; c < width; c++)
            {
                sums[c] = HasNaN<TCodes>(first + (c * stride), product.K) ? float.NaN : sums[c];
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddFour<TCodes>(byte* b, float* x, ref TLanes sum, ref TLanes mark)
        where TCodes : struct, ICodes
    {
        TLanes.WidenRaw(b, TCodes.NaNMask, TCodes.NaNFlip, ref mark, out var w0, out var w1, out var w2, out var w3);
        TLanes.AddProduct(ref sum, x, 0, w0);
        TLanes.AddProduct(ref sum, x, Lanes, w1);
        TLanes.AddProduct(ref sum, x, 2 * Lanes, w2);
        TLanes.AddProduct(ref sum, x, 3 * Lanes, w3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTwo(byte* b, float* x, ref TLanes sum)
    {
        TLanes.WidenPairs(b, out var w0, out var w1);
        TLanes.AddProduct(ref sum, x, 0, w0);
        TLanes.AddProduct(ref sum, x, Lanes, w1);
    }

    private static bool HasNaN<TCodes>(byte* codes, long count) where TCodes : struct, ICodes =>
        TCodes.IndexOfNaN(new ReadOnlySpan<byte>(codes, checked((int)(count * TCodes.Size)))) >= 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* address)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch1(address);
        }
    }
}
