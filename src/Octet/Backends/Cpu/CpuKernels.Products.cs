using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

/// <summary>
/// The inner loops for one vector width. Every product is a dot of two rows: sixteen lanes share its columns (<see cref="ICodes"/>
/// says how), 512 columns are one sum in each lane, those sums are added to eight totals in order, and these are folded once at the end.
/// The order is the same for one row and for many, so a row's bits do not depend on the rows beside it. A leaf is such a sum by itself:
/// it has the bits of a product of its columns alone.
/// </summary>
/// <remarks>
/// NOTE: all of it is compiled with all optimisations at its first call. A model's first tokens would else run in code that
/// nobody has optimised yet, and a loop that is called once per op stays there for long.
/// The scale pairs of the 128-wide blocks are put into the elements of A, rounded once, for every row of the weight's scales anew:
/// 1/128 of the work, where scaling each block's sums costs a tile that has one every eight steps a fifth of its time.
/// One row (decode) takes the codes straight from memory, widened in registers: reading them is all that counts. More rows share
/// what a few columns over half a kilobyte of K become once widened; that stays in the first-level cache, the rows come from the
/// second, and the tile of rows and columns lives in registers.
/// </remarks>
internal sealed unsafe partial class CpuKernels<TLanes> : CpuKernels
    where TLanes : unmanaged, ILanes<TLanes>
{
    // A chunk of K that is one sum: what a tile's columns need of it fits the first-level cache.
    private const int ChunkLength = 512;

    // Of every pair of a row and a column: one of two lanes.
    private const int Totals = 8;

    // What sixteen lanes take at a time.
    private const int GroupBytes = 64;

    // The tile: its accumulators, a step of its columns and one of a row fit the registers.
    private const int TileRows = 4;

    // Columns widened at a time: what a tile of rows is multiplied with while it is in the first-level cache with them.
    private static int WideColumns => TLanes.HasManyRegisters ? TileColumns : 3 * TileColumns;

    private static int TileTotals => TileRows * TileColumns * Totals;

    // Totals of a panel of rows and a block of columns, in whole tiles.
    private static long MostTotals => (long)(PanelRows + TileRows) * (BlockColumns + TileColumns) * Totals;

    // Singles between the sums of two leaves: not a power of two, which would put all of them into one set of a cache.
    private const long LeafStride = (PanelRows * BlockColumns) + Lanes;

    private static int TileColumns
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => TLanes.HasManyRegisters ? 6 : 3;
    }

    public override void Multiply(
        CpuWorker worker, in CpuProduct product, long* rows, int count, long panel, long firstColumn, int columns, float* result)
    {
        switch (product.Type)
        {
            case DType.BFloat16:
                Multiply<BFloat16Codes>(worker, in product, rows, count, panel, firstColumn, columns, result);
                break;
            case DType.Float8E4M3Fnuz:
                Multiply<FnuzCodes>(worker, in product, rows, count, panel, firstColumn, columns, result);
                break;
            default:
                Multiply<OcpCodes>(worker, in product, rows, count, panel, firstColumn, columns, result);
                break;
        }
    }

    private static void Multiply<TCodes>(
        CpuWorker worker, in CpuProduct product, long* rows, int count, long panel, long firstColumn, int columns, float* result)
        where TCodes : struct, ICodes
    {
        if (product.K == 0)
        {
            new Span<float>(result, count * BlockColumns).Clear();
            AddBias(in product, firstColumn, count, columns, result);
            return;
        }

        if (count == 0)
        {
            return;
        }

        // Rows lie interleaved, as many as are used side by side: [tile of rows][step][row][lane]. Of several leaves the sums lie behind all.
        var leaves = Math.Max(product.Leaves, 1);
        var padded = Padded<TCodes>(product.K);
        var isFew = padded == product.K && count <= MostFewRows;
        var a = worker.Scratch(
            ((PanelRows + FewRows + 1) * padded) + (2 * leaves * PanelRows) + (WideColumns * ChunkLength) + MostTotals +
            (leaves > 1 ? leaves * LeafStride : 0));
        var row = a + ((PanelRows + FewRows) * padded);
        var units = (double*)(row + padded);
        var wide = (float*)(units + (leaves * PanelRows));
        for (int done = 0, width; done < columns; done += width)
        {
            // The columns that share a row of scales share the rows of A that have them in.
            var column = firstColumn + done;
            width = (int)Math.Min(columns - done, product.ColumnsOfScaleRow(column));
            var scales = (nint)product.BScaleRow(column, 0);
            if (worker.Panel != (panel, scales))
            {
                for (var r = 0; r < count; r++)
                {
                    var first = isFew ? r / FewRows * FewRows : r / TileRows * TileRows;
                    var step = Lanes * (isFew ? Interleaved(count - first) : TileRows);
                    WidenRow<TCodes>(in product, rows[r], column, row, a + (first * padded) + ((r - first) * Lanes), step, units + r);
                }

                worker.Panel = (panel, scales);
            }

            var sums = leaves > 1 ? wide + (WideColumns * ChunkLength) + MostTotals : result + done;
            if (!isFew)
            {
                MultiplyMany<TCodes>(in product, a, padded, count, units, column, width, wide, sums);
            }
            else if (count > 1)
            {
                MultiplyFew<TCodes>(in product, a, count, units, column, width, wide, sums);
            }
            else
            {
                MultiplyOne<TCodes>(in product, a, units, column, width, sums);
            }

            AddBias(in product, column, count, width, sums);
            for (var r = 0; leaves > 1 && r < count; r++)
            {
                CpuTree.Root(sums + (r * BlockColumns), LeafStride, leaves, width, result + (r * BlockColumns) + done);
            }
        }
    }

    private static void AddBias(in CpuProduct product, long firstColumn, int count, int columns, float* sums)
    {
        for (var r = 0; product.Bias is not null && r < count; r++)
        {
            for (var c = 0; c < columns; c++)
            {
                sums[(r * BlockColumns) + c] += product.Bias[firstColumn + c];
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyMany<TCodes>(
        in CpuProduct product, float* a, long stride, int count, double* units, long firstColumn, int columns, float* wide, float* sums)
        where TCodes : struct, ICodes
    {
        // A chunk of the rows is used for all columns while it is cached. The totals of a tile lie together,
        // [column tile, row tile][row, column][total], but for a leaf's last chunk: those are folded at once. NOTE: a column beyond the
        // last is what lies there from an earlier tile: finite or not, nobody reads its totals.
        var totals = wide + (WideColumns * ChunkLength);
        var zeros = stackalloc float[TileTotals];
        var last = stackalloc float[TileTotals];
        new Span<float>(zeros, TileTotals).Clear();
        var rowTiles = (count + TileRows - 1) / TileRows;
        var leafLength = product.LeafLength;
        for (long leaf = 0, start = 0; leaf < Math.Max(product.Leaves, 1); leaf++)
        {
            var (leafStart, leafEnd) = (start, start + leafLength);
            for (int length; start < leafEnd; start += length)
            {
                length = (int)Math.Min(ChunkLength, leafEnd - start);
                var padded = Padded<TCodes>(length);
                for (var c = 0; c < columns; c += WideColumns)
                {
                    var width = Math.Min(WideColumns, columns - c);

                    // What is needed next: the rows after these, behind the last of them the first ones' next chunk, at the end what comes after all.
                    var next = c + WideColumns < columns ? WideColumns * product.BStride
                        : start + length < product.K ? length - (c * product.BStride)
                        : (WideColumns * product.BStride) - start;
                    for (var i = 0; i < width; i++)
                    {
                        var codes = product.B + ((((firstColumn + c + i) * product.BStride) + start) * TCodes.Size);
                        WidenRaw<TCodes>(codes, length, wide + (i * ChunkLength), next * TCodes.Size);
                    }

                    for (var r = 0; r < count; r += TileRows)
                    {
                        for (var t = 0; t < width; t += TileColumns)
                        {
                            var rows = Math.Min(TileRows, count - r);
                            var place = totals + (((((c + t) / TileColumns) * rowTiles) + (r / TileRows)) * TileTotals);
                            var isLast = start + length == leafEnd;
                            AddTile(
                                rows, a + (r * stride) + (start * TileRows), wide + (t * ChunkLength), padded, start == leafStart ? zeros : place,
                                isLast ? last : place);
                            if (isLast)
                            {
                                FoldTile(
                                    last, rows, Math.Min(TileColumns, width - t), units + (leaf * PanelRows) + r,
                                    sums + (leaf * LeafStride) + (r * BlockColumns) + c + t);
                            }
                        }
                    }
                }
            }
        }
    }

    /// <summary>
    /// A row of A as singles in groups, filled up with zeros, each times its scale pair in units of a power of two near the largest of its
    /// leaf: so neither these nor their products overflow, or underflow unless they are 2^-100 of what is beside them.
    /// </summary>
    /// <param name="product">The operands.</param>
    /// <param name="row">The row of A.</param>
    /// <param name="column">A row of B with the scales.</param>
    /// <param name="raw">Room for the row.</param>
    /// <param name="destination">Gets what lanes take in a step; that of the next step lies <paramref name="step"/> further.</param>
    /// <param name="step">See <paramref name="destination"/>.</param>
    /// <param name="units">[leaves], <see cref="CpuKernels.PanelRows"/> apart: get what the sums of a leaf's products with raw singles are to be multiplied by.</param>
    private static void WidenRow<TCodes>(in CpuProduct product, long row, long column, float* raw, float* destination, int step, double* units)
        where TCodes : struct, ICodes
    {
        WidenRaw<TCodes>(product.A + (row * product.AStride * TCodes.Size), product.K, raw, 0);
        for (var last = product.K / Lanes / TCodes.Steps * TCodes.Steps; last < Padded<TCodes>(product.K) / Lanes; last++)
        {
            new Span<float>(destination + (last * step), Lanes).Clear();
        }

        var leafLength = product.LeafLength;
        for (long leaf = 0; leaf < Math.Max(product.Leaves, 1); leaf++)
        {
            var (first, end) = (leaf * leafLength, (leaf + 1) * leafLength);
            var largest = 0.0;
            for (var k = first; k < end; k += product.SegmentLength(k))
            {
                var scale = Math.Abs(product.ScalePair(row, column, k));
                largest = double.IsFinite(scale) ? Math.Max(largest, scale) : largest;
            }

            var unit = Math.ScaleB(1, largest > 0 ? Math.ILogB(largest) : 0);
            for (long k = first, length; k < end; k += length)
            {
                length = product.SegmentLength(k);
                var factor = (float)(product.ScalePair(row, column, k) / unit * TCodes.Prescale);
                Scale<TCodes>(raw, k, length, factor, destination, step);
            }

            units[leaf * PanelRows] = unit * TCodes.Postscale;
        }
    }

    /// <summary>Elements first to first + count - 1 of a row of raw singles in groups become their values times a factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scale<TCodes>(float* raw, long first, long count, float factor, float* destination, int step) where TCodes : struct, ICodes
    {
        var group = Lanes * TCodes.Steps;
        var (rebias, factors, nothing) = (TLanes.Broadcast(TCodes.Rebias), TLanes.Broadcast(factor), TLanes.Broadcast(-0f));
        for (var (k, end) = (first, first + count); k < end;)
        {
            var from = raw + (k / group * group);
            var to = destination + (k / group * TCodes.Steps * step);
            if (k % group == 0 && k + group <= end)
            {
                for (var s = 0; s < TCodes.Steps; s++, to += step, from += Lanes)
                {
                    for (var lane = 0; lane < Lanes; lane += TLanes.Count)
                    {
                        TLanes.Store(to + lane, TLanes.Multiply(TLanes.MultiplyAdd(TLanes.Load(from + lane), rebias, nothing), factors));
                    }
                }

                k += group;
                continue;
            }

            // A group that is cut by an end of the scales or of the row.
            var (j, i) = (k % TCodes.Steps, k % group / TCodes.Steps);
            to[(j * step) + i] = from[(j * Lanes) + i] * TCodes.Rebias * factor;
            k++;
        }
    }

    /// <summary>Elements as raw singles in groups, with zeros up to a whole group; nothing behind the last element is read.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenRaw<TCodes>(byte* source, long length, float* destination, long prefetch) where TCodes : struct, ICodes
    {
        var group = Lanes * TCodes.Steps;
        var full = length / group * group;
        var hasNaN = WidenGroups<TCodes>(source, full / group, destination, prefetch);
        if (full < length)
        {
            var tail = stackalloc byte[GroupBytes];
            new Span<byte>(tail, GroupBytes).Clear();
            Buffer.MemoryCopy(source + (full * TCodes.Size), tail, GroupBytes, (length - full) * TCodes.Size);
            hasNaN |= WidenGroups<TCodes>(tail, 1, destination + full, 0);
        }

        var codes = new ReadOnlySpan<byte>(source, hasNaN ? checked((int)length) : 0);
        for (int next, i = 0; (next = TCodes.IndexOfNaN(codes[i..])) >= 0; i += next + 1)
        {
            var at = i + next;
            destination[(at / group * group) + (at % TCodes.Steps * Lanes) + (at % group / TCodes.Steps)] = float.NaN;
        }
    }

    /// <summary>Whole groups, fetching as many at an offset for later; whether one of the elements is NaN, which the raw singles do not say.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool WidenGroups<TCodes>(byte* source, long groups, float* destination, long prefetch) where TCodes : struct, ICodes
    {
        // NOTE: no call in here, or the mark would go through memory in every turn.
        var mark = TLanes.Broadcast(0f);
        for (var end = source + (groups * GroupBytes); source < end; source += GroupBytes, destination += Lanes * TCodes.Steps)
        {
            Prefetch(source + prefetch);
            for (var lane = 0; lane < Lanes; lane += TLanes.Count)
            {
                var to = destination + lane;
                if (TCodes.Steps == 4)
                {
                    TLanes.WidenRaw(source + (lane * 4), TCodes.NaNMask, TCodes.NaNFlip, ref mark, out var w0, out var w1, out var w2, out var w3);
                    TLanes.Store(to, w0);
                    TLanes.Store(to + Lanes, w1);
                    TLanes.Store(to + (2 * Lanes), w2);
                    TLanes.Store(to + (3 * Lanes), w3);
                }
                else
                {
                    TLanes.WidenPairs(source + (lane * 4), out var w0, out var w1);
                    TLanes.Store(to, w0);
                    TLanes.Store(to + Lanes, w1);
                }
            }
        }

        return TCodes.NaNMark != 0 && TLanes.HasByte(mark, TCodes.NaNMark);
    }

    /// <summary>Elements in their own order, with zeros up to whole lanes; nothing behind the last element is read. True: NaN needs care and is among them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Widen<TCodes>(byte* source, int length, float* destination) where TCodes : struct, ICodes
    {
        var groups = length * TCodes.Size / GroupBytes;
        var mark = TLanes.Broadcast(0f);
        var from = source;
        var to = destination;
        for (var end = source + (groups * GroupBytes); from < end; from += 4 * TLanes.Count, to += 4 * TLanes.Count / TCodes.Size)
        {
            // NOTE: no call and no loop in here, or the mark would go through memory in every turn.
            TLanes.Store(to, TCodes.Load<TLanes>(from));
            TLanes.Store(to + TLanes.Count, TCodes.Load<TLanes>(from + (TLanes.Count * TCodes.Size)));
            if (TCodes.NaNMark != 0)
            {
                TLanes.Mark(from, TCodes.NaNMask, TCodes.NaNFlip, ref mark);
                TLanes.Store(to + (2 * TLanes.Count), TCodes.Load<TLanes>(from + (2 * TLanes.Count)));
                TLanes.Store(to + (3 * TLanes.Count), TCodes.Load<TLanes>(from + (3 * TLanes.Count)));
            }
        }

        var full = groups * GroupBytes / TCodes.Size;
        if (full < length)
        {
            var tail = stackalloc byte[GroupBytes];
            new Span<byte>(tail, GroupBytes).Clear();
            Buffer.MemoryCopy(source + (full * TCodes.Size), tail, GroupBytes, (length - full) * TCodes.Size);
            for (var i = 0; i < length - full; i += TLanes.Count)
            {
                TLanes.Store(destination + full + i, TCodes.Load<TLanes>(tail + (i * TCodes.Size)));
            }
        }

        var found = false;
        var codes = new ReadOnlySpan<byte>(source, length * TCodes.Size);
        for (int next, i = TLanes.HasByte(mark, TCodes.NaNMark) ? 0 : full; (next = TCodes.IndexOfNaN(codes[i..])) >= 0; i += next + 1)
        {
            destination[i + next] = float.NaN;
            found = true;
        }

        return found;
    }

    /// <summary>The same for a type known at run time.</summary>
    private static bool Widen(byte* source, int length, DType type, float* destination) => type switch
    {
        DType.BFloat16 => Widen<BFloat16Codes>(source, length, destination),
        DType.Float8E4M3Fnuz => Widen<FnuzCodes>(source, length, destination),
        _ => Widen<OcpCodes>(source, length, destination),
    };

    /// <summary>The sum of the totals: i and i + 4, then 2 further and 1 further, at every width.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Fold(float* totals)
    {
        var four = Vector128.Load(totals) + Vector128.Load(totals + 4);
        return (four.GetElement(0) + four.GetElement(2)) + (four.GetElement(1) + four.GetElement(3));
    }

    /// <summary>Four sums, each of eight totals.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Fold(float* t0, float* t1, float* t2, float* t3)
    {
        if (!Sse.IsSupported)
        {
            return Vector128.Create(Fold(t0), Fold(t1), Fold(t2), Fold(t3));
        }

        var (a, b) = (Vector128.Load(t0) + Vector128.Load(t0 + 4), Vector128.Load(t1) + Vector128.Load(t1 + 4));
        var (c, d) = (Vector128.Load(t2) + Vector128.Load(t2 + 4), Vector128.Load(t3) + Vector128.Load(t3 + 4));
        var (ab, cd) = (Sse.MoveLowToHigh(a, b) + Sse.MoveHighToLow(b, a), Sse.MoveLowToHigh(c, d) + Sse.MoveHighToLow(d, c));
        return Sse.Shuffle(ab, cd, 0b10_00_10_00) + Sse.Shuffle(ab, cd, 0b11_01_11_01);
    }

    /// <summary>Sums of the totals of neighbouring columns, times their unit.</summary>
    /// <param name="totals">[count][Totals], <paramref name="stride"/> apart.</param>
    /// <param name="stride">Singles between two columns' totals.</param>
    /// <param name="count">Columns.</param>
    /// <param name="unit">What their row's sums are to be multiplied by: a power of two.</param>
    /// <param name="sums">[count].</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fold(float* totals, long stride, int count, double unit, float* sums)
    {
        // A power of two that a single holds scales as exactly as a double would.
        var factor = (float)unit;
        if (factor != unit)
        {
            for (var c = 0; c < count; c++)
            {
                sums[c] = (float)(Fold(totals + (c * stride)) * unit);
            }

            return;
        }

        var factors = Vector128.Create(factor);
        var done = 0;
        for (; done + 4 <= count; done += 4, totals += 4 * stride)
        {
            (Fold(totals, totals + stride, totals + (2 * stride), totals + (3 * stride)) * factors).Store(sums + done);
        }

        // Columns that are missing repeat the first, for nobody.
        if (done < count)
        {
            var rest = count - done;
            var four = Fold(totals, rest > 1 ? totals + stride : totals, rest > 2 ? totals + (2 * stride) : totals, totals) * factors;
            sums[done] = four.GetElement(0);
            if (rest > 1)
            {
                sums[done + 1] = four.GetElement(1);
            }

            if (rest > 2)
            {
                sums[done + 2] = four.GetElement(2);
            }
        }
    }

    /// <summary>Sums of a tile's totals, times their rows' units.</summary>
    /// <param name="totals">[TileRows, TileColumns, Totals].</param>
    /// <param name="rows">Rows that are wanted.</param>
    /// <param name="columns">Columns that are wanted.</param>
    /// <param name="units">[rows].</param>
    /// <param name="sums">[rows, columns] at <see cref="CpuKernels.BlockColumns"/>.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FoldTile(float* totals, int rows, int columns, double* units, float* sums)
    {
        var folded = stackalloc float[TileRows * TileColumns];
        for (var i = 0; i < TileRows * TileColumns; i += 4)
        {
            var from = totals + (i * Totals);
            Fold(from, from + Totals, from + (2 * Totals), from + (3 * Totals)).Store(folded + i);
        }

        for (var r = 0; r < rows; r++, folded += TileColumns, sums += BlockColumns)
        {
            var factor = (float)units[r];
            if (columns == 6 && factor == units[r])
            {
                (Vector128.Load(folded) * factor).Store(sums);
                (Vector64.Load(folded + 4) * factor).Store(sums + 4);
                continue;
            }

            for (var c = 0; c < columns; c++)
            {
                sums[c] = (float)(folded[c] * units[r]);
            }
        }
    }

    /// <summary>Zeros where a sum begins: so many totals, whole sets of eight.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ClearTotals(float* totals, int count)
    {
        // NOTE: a call to clear a few hundred bytes takes as long as a leaf's fold.
        for (var i = 0; i < count; i += Totals)
        {
            Vector256<float>.Zero.Store(totals + i);
        }
    }

    private static long Padded<TCodes>(long length) where TCodes : struct, ICodes =>
        (length + (Lanes * TCodes.Steps) - 1) / (Lanes * TCodes.Steps) * (Lanes * TCodes.Steps);
}
