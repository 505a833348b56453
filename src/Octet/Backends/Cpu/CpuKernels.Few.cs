using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

// Up to a few times eight rows: a pair of B's rows, or one of them, is widened in registers as it arrives and used by all rows of A at once.
// Unpacking and waiting for memory hide behind the multiply-adds, which a panel of widened columns would keep apart.
internal sealed unsafe partial class CpuKernels<TLanes>
{
    // The most rows for which unpacking again for every eight of them is no dearer than a panel of widened columns.
    private static int MostFewRows => TLanes.HasManyRegisters ? 6 * FewRows : 2 * FewRows;

    // Rows of A that share a pair of columns: sixteen sums, eight unpacked registers and the constants fill the 32.
    private const int FewRows = 8;

    // Columns that pass over a chunk of the rows while it is in the first-level cache.
    private const int FewColumns = 16;

    private readonly struct Six : IRows
    {
        public static int Count => 6;
    }

    private readonly struct Eight : IRows
    {
        public static int Count => 8;
    }

    /// <summary>Rows that lie interleaved where so many are left.</summary>
    private static int Interleaved(int count) => count switch { 1 => 1, 2 => 2, <= 4 => 4, <= 6 => 6, _ => FewRows };

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyFew<TCodes>(
        in CpuProduct product, float* a, int count, double* units, long firstColumn, int columns, float* totals, float* sums)
        where TCodes : struct, ICodes
    {
        const int TileSize = FewColumns * FewRows * Totals; // [eight rows][column][row][total]
        var (leaves, leafLength) = (Math.Max(product.Leaves, 1), product.LeafLength);
        var zeros = stackalloc float[2 * FewRows * Totals];
        new Span<float>(zeros, 2 * FewRows * Totals).Clear();
        for (var column = 0; column < columns; column += FewColumns)
        {
            var width = Math.Min(FewColumns, columns - column);
            for (long leaf = 0, start = 0; leaf < leaves; leaf++)
            {
                for (long length; start < (leaf + 1) * leafLength; start += length)
                {
                    length = Math.Min(ChunkLength, ((leaf + 1) * leafLength) - start);
                    for (var r = 0; r < count; r += FewRows)
                    {
                        AddFew<TCodes>(
                            in product, a + (r * product.K) + (start * Interleaved(count - r)), Math.Min(FewRows, count - r), firstColumn + column, width,
                            start, length, start == leaf * leafLength ? zeros : null, totals + (r / FewRows * TileSize));
                    }
                }

                for (var r = 0; r < count; r++)
                {
                    Fold(
                        totals + (r / FewRows * TileSize) + (r % FewRows * Totals), FewRows * Totals, width, units[(leaf * PanelRows) + r],
                        sums + (leaf * LeafStride) + (r * BlockColumns) + column);
                }
            }
        }
    }

    /// <summary>totals += A times some rows of B over a chunk of K; with <paramref name="zeros"/> these are what was before.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddFew<TCodes>(
        in CpuProduct product, float* a, int count, long firstColumn, int width, long start, long length, float* zeros, float* totals)
        where TCodes : struct, ICodes
    {
        var bStride = product.BStride * TCodes.Size;
        var step = TLanes.HasManyRegisters || count <= 2 ? 2 : 1;
        for (var c = 0; c < width; c += step)
        {
            // A column that is missing repeats the one before, for nobody.
            var second = step == 2 && c + 1 < width ? 1 : 0;
            // What is needed next: the same rows' next chunk, behind the last one the first of the rows after these.
            var codes = product.B + ((firstColumn + c) * bStride) + (start * TCodes.Size);
            var next = start + length < product.K ? length * TCodes.Size : (FewColumns * bStride) - (start * TCodes.Size);
            var sums = totals + (c * FewRows * Totals);
            var from = zeros is null ? sums : zeros;
            var hasNaN = step == 1
                ? AddRows<TCodes, One>(count, a, codes, 0, length, next, from, sums)
                : AddRows<TCodes, Two>(count, a, codes, second * bStride, length, next, from, sums);
            for (var s = 0; hasNaN && s <= second; s++)
            {
                if (HasNaN<TCodes>(codes + (s * bStride), length))
                {
                    new Span<float>(sums + (s * FewRows * Totals), FewRows * Totals).Fill(float.NaN);
                }
            }
        }
    }

    private static bool AddRows<TCodes, TColumns>(
        int count, float* a, byte* b, long bStride, long length, long prefetch, float* from, float* totals)
        where TCodes : struct, ICodes
        where TColumns : struct, IRows => count switch
        {
            1 => AddColumns<TCodes, One, TColumns>(a, b, bStride, length, prefetch, from, totals),
            2 => AddColumns<TCodes, Two, TColumns>(a, b, bStride, length, prefetch, from, totals),
            <= 4 => AddColumns<TCodes, Four, TColumns>(a, b, bStride, length, prefetch, from, totals),
            <= 6 => AddColumns<TCodes, Six, TColumns>(a, b, bStride, length, prefetch, from, totals),
            _ => AddColumns<TCodes, Eight, TColumns>(a, b, bStride, length, prefetch, from, totals),
        };

    /// <summary>totals = what they were before and rows of A times one or two rows of B; whether one of the elements of B is NaN, which the sums do not say.</summary>
    /// <param name="a">[length / lanes, Count, lanes], in groups; those behind the last row are anything.</param>
    /// <param name="b">The first row's codes.</param>
    /// <param name="bStride">To the second's, in bytes.</param>
    /// <param name="length">Whole groups.</param>
    /// <param name="prefetch">Where the codes lie that will be needed soon, from those at hand.</param>
    /// <param name="from">[2, FewRows, Totals] before.</param>
    /// <param name="totals">[2, FewRows, Totals].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool AddColumns<TCodes, TRows, TColumns>(
        float* a, byte* b, long bStride, long length, long prefetch, float* from, float* totals)
        where TCodes : struct, ICodes
        where TRows : struct, IRows
        where TColumns : struct, IRows
    {
        var mark = TLanes.Broadcast(0f);
        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            var zero = TLanes.Broadcast(0f);
            var x = a + lane;
            var codes = b + (4 * lane);
            TLanes s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero;
            TLanes t0 = zero, t1 = zero, t2 = zero, t3 = zero, t4 = zero, t5 = zero, t6 = zero, t7 = zero;
            for (var end = x + (TRows.Count * length); x < end; x += TRows.Count * Lanes * TCodes.Steps, codes += GroupBytes)
            {
                if (lane == 0)
                {
                    Prefetch(codes + prefetch);
                    if (TColumns.Count > 1)
                    {
                        Prefetch(codes + bStride + prefetch);
                    }
                }

                TLanes w0, w1, w2 = zero, w3 = zero, v0 = zero, v1 = zero, v2 = zero, v3 = zero;
                if (TCodes.Steps == 4)
                {
                    TLanes.WidenRaw(codes, TCodes.NaNMask, TCodes.NaNFlip, ref mark, out w0, out w1, out w2, out w3);
                    if (TColumns.Count > 1)
                    {
                        TLanes.WidenRaw(codes + bStride, TCodes.NaNMask, TCodes.NaNFlip, ref mark, out v0, out v1, out v2, out v3);
                    }
                }
                else
                {
                    TLanes.WidenPairs(codes, out w0, out w1);
                    if (TColumns.Count > 1)
                    {
                        TLanes.WidenPairs(codes + bStride, out v0, out v1);
                    }
                }

                AddStep<TRows, TColumns>(x, 0, w0, v0, ref s0, ref t0, ref s1, ref t1, ref s2, ref t2, ref s3, ref t3, ref s4, ref t4, ref s5, ref t5, ref s6, ref t6, ref s7, ref t7);
                AddStep<TRows, TColumns>(x, TRows.Count * Lanes, w1, v1, ref s0, ref t0, ref s1, ref t1, ref s2, ref t2, ref s3, ref t3, ref s4, ref t4, ref s5, ref t5, ref s6, ref t6, ref s7, ref t7);
                if (TCodes.Steps == 4)
                {
                    AddStep<TRows, TColumns>(x, 2 * TRows.Count * Lanes, w2, v2, ref s0, ref t0, ref s1, ref t1, ref s2, ref t2, ref s3, ref t3, ref s4, ref t4, ref s5, ref t5, ref s6, ref t6, ref s7, ref t7);
                    AddStep<TRows, TColumns>(x, 3 * TRows.Count * Lanes, w3, v3, ref s0, ref t0, ref s1, ref t1, ref s2, ref t2, ref s3, ref t3, ref s4, ref t4, ref s5, ref t5, ref s6, ref t6, ref s7, ref t7);
                }
            }

            var total = totals + (lane % Totals);
            var before = lane < Totals ? from + lane : total;
            AddTo<TRows>(total, before, s0, s1, s2, s3, s4, s5, s6, s7);
            if (TColumns.Count > 1)
            {
                AddTo<TRows>(total + (FewRows * Totals), before + (FewRows * Totals), t0, t1, t2, t3, t4, t5, t6, t7);
            }
        }

        return TCodes.NaNMark != 0 && TLanes.HasByte(mark, TCodes.NaNMark);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTo<TRows>(float* total, float* from, TLanes s0, TLanes s1, TLanes s2, TLanes s3, TLanes s4, TLanes s5, TLanes s6, TLanes s7)
        where TRows : struct, IRows
    {
        TLanes.AddTo(total, from, s0);
        if (TRows.Count > 1)
        {
            TLanes.AddTo(total + Totals, from + Totals, s1);
        }

        if (TRows.Count > 2)
        {
            TLanes.AddTo(total + (2 * Totals), from + (2 * Totals), s2);
            TLanes.AddTo(total + (3 * Totals), from + (3 * Totals), s3);
        }

        if (TRows.Count > 4)
        {
            TLanes.AddTo(total + (4 * Totals), from + (4 * Totals), s4);
            TLanes.AddTo(total + (5 * Totals), from + (5 * Totals), s5);
        }

        if (TRows.Count > 6)
        {
            TLanes.AddTo(total + (6 * Totals), from + (6 * Totals), s6);
            TLanes.AddTo(total + (7 * Totals), from + (7 * Totals), s7);
        }
    }

    // One row's element of each lane.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddPair<TColumns>(float* x, int offset, TLanes w, TLanes v, ref TLanes s, ref TLanes t) where TColumns : struct, IRows
    {
        if (TColumns.Count == 1)
        {
            TLanes.AddProduct(ref s, x, offset, w);
            return;
        }

        var value = TLanes.Load(x + offset);
        TLanes.AddProduct(ref s, value, w);
        TLanes.AddProduct(ref t, value, v);
    }

    // One element of each lane: up to sixteen sums that do not wait for each other.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddStep<TRows, TColumns>(
        float* x, int offset, TLanes w, TLanes v,
        ref TLanes s0, ref TLanes t0, ref TLanes s1, ref TLanes t1, ref TLanes s2, ref TLanes t2, ref TLanes s3, ref TLanes t3,
        ref TLanes s4, ref TLanes t4, ref TLanes s5, ref TLanes t5, ref TLanes s6, ref TLanes t6, ref TLanes s7, ref TLanes t7)
        where TRows : struct, IRows
        where TColumns : struct, IRows
    {
        AddPair<TColumns>(x, offset, w, v, ref s0, ref t0);
        if (TRows.Count > 1)
        {
            AddPair<TColumns>(x, offset + Lanes, w, v, ref s1, ref t1);
        }

        if (TRows.Count > 2)
        {
            AddPair<TColumns>(x, offset + (2 * Lanes), w, v, ref s2, ref t2);
            AddPair<TColumns>(x, offset + (3 * Lanes), w, v, ref s3, ref t3);
        }

        if (TRows.Count > 4)
        {
            AddPair<TColumns>(x, offset + (4 * Lanes), w, v, ref s4, ref t4);
            AddPair<TColumns>(x, offset + (5 * Lanes), w, v, ref s5, ref t5);
        }

        if (TRows.Count > 6)
        {
            AddPair<TColumns>(x, offset + (6 * Lanes), w, v, ref s6, ref t6);
            AddPair<TColumns>(x, offset + (7 * Lanes), w, v, ref s7, ref t7);
        }
    }
}
