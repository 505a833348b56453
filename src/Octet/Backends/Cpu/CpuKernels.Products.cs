using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

/// <summary>
/// The inner loops for one vector width. Every product is a dot of two rows: sixteen lanes share the columns of a 128-wide block
/// (<see cref="ICodes"/> says how), the block's sum is scaled into a second accumulator, and the lanes are folded once at the end.
/// The order is the same for one row and for many, so a row's bits do not depend on the rows beside it.
/// </summary>
/// <remarks>
/// NOTE: all of it is compiled with all optimisations at its first call. A model's first tokens would else run in code that
/// nobody has optimised yet, and a loop that is called once per op stays there for long.
/// One row (decode) takes the codes straight from memory, widened in registers: reading them is all that counts. More rows share
/// what a few columns over half a kilobyte of K become once widened; that stays in the first-level cache, the rows come from the
/// second, and the tile of rows and columns lives in registers.
/// </remarks>
internal sealed unsafe partial class CpuKernels<TLanes> : CpuKernels
    where TLanes : unmanaged, ILanes<TLanes>
{
    // A chunk of K: what a tile's columns need of it fits the first-level cache.
    private const int ChunkLength = 512;

    // Blocks of K that a chunk can have: scale blocks of the weight that begin elsewhere than the rows' cut them in two.
    private const int ChunkSegments = 2 * ChunkLength / Float8.Block;

    // What sixteen lanes take at a time.
    private const int GroupBytes = 64;

    // Scales of a segment's columns lie this far apart.
    private const int TileScales = 8;

    // The longest rest of a row that is no whole group.
    private const int TailBytes = Float8.Block * sizeof(ushort);

    // The tile: its accumulators, a step of its columns and one of a row fit the registers.
    private const int TileRows = 4;

    private static int TileTotals => TileRows * TileColumns * Lanes;

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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply<TCodes>(
        CpuWorker worker, in CpuProduct product, long* rows, int count, long panel, long firstColumn, int columns, float* result)
        where TCodes : struct, ICodes
    {
        if (count == 0)
        {
            return;
        }

        // NOTE: rows a power of two apart would share the few sets of the caches where that much of each is kept.
        var stride = PaddedLength<TCodes>(in product) + (5 * Lanes);
        var wideSize = TileScales * (ChunkLength + Float8.Block);
        var a = worker.Scratch((PanelRows * stride) + wideSize + ((long)(PanelRows + 4) * (BlockColumns + TileScales) * Lanes));
        var wide = a + (PanelRows * stride);
        if (worker.Panel != panel)
        {
            for (var r = 0; r < count; r++)
            {
                WidenRow<TCodes>(in product, rows[r], a + (r * stride));
            }

            worker.Panel = panel;
        }

        if (count == 1 && (TLanes.HasManyRegisters || !CanTakePairs<TCodes>(in product, count)))
        {
            for (var column = 0; column < columns; column += RowColumns)
            {
                MultiplyRow<TCodes>(in product, rows[0], a, firstColumn + column, Math.Min(RowColumns, columns - column), result + column);
            }

            return;
        }

        if (CanTakePairs<TCodes>(in product, count))
        {
            MultiplyFew<TCodes>(in product, rows, count, a, stride, firstColumn, columns, wide + wideSize, result);
            return;
        }

        // A chunk of the rows is used for all columns while it is cached. The totals of a tile lie together,
        // [column tile, row tile][row, column][lane].
        var totals = wide + wideSize;
        var rowTiles = (count + TileRows - 1) / TileRows;
        new Span<float>(totals, (columns + TileColumns - 1) / TileColumns * rowTiles * TileTotals).Clear();
        AddProducts<TCodes>(in product, rows, count, firstColumn, columns, a, stride, wide, totals);
        for (var c = 0; c < columns; c++)
        {
            var columnTotals = totals + (c / TileColumns * rowTiles * TileTotals) + (c % TileColumns * Lanes);
            for (var r = 0; r < count; r++)
            {
                result[(r * BlockColumns) + c] = Fold(columnTotals + (r / TileRows * TileTotals) + (r % TileRows * TileColumns * Lanes));
            }
        }
    }

    /// <summary>totals += A times some rows of B, a chunk of K at a time.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddProducts<TCodes>(
        in CpuProduct product, long* rows, int count, long firstColumn, int width, float* a, long stride, float* wide, float* totals)
        where TCodes : struct, ICodes
    {
        var lengths = stackalloc int[ChunkSegments + 1];
        var rowScales = stackalloc float[ChunkSegments * PanelRows];
        var columnScales = stackalloc float[ChunkSegments * TileScales];
        for (long start = 0, padded = 0, next; start < product.K; start = next)
        {
            var (segments, chunk) = (0, 0);
            for (next = start; next < product.K && segments < ChunkSegments; segments++)
            {
                var length = product.SegmentLength(next);
                lengths[segments] = (int)Padded<TCodes>(length);
                if (chunk + lengths[segments] > ChunkLength && segments > 0)
                {
                    break;
                }

                for (var r = 0; r < count; r++)
                {
                    rowScales[(segments * PanelRows) + r] = product.AScale(rows[r], next);
                }

                chunk += lengths[segments];
                next += length;
            }

            var tileTotals = totals;
            for (var c = 0; c < width; c += TileColumns)
            {
                var tileWidth = Math.Min(TileColumns, width - c);
                WidenColumns<TCodes>(in product, firstColumn + c, tileWidth, start, next, wide, columnScales);
                for (var r = 0; r < count; r += TileRows)
                {
                    var tile = new CpuTile
                    {
                        A = a + (r * stride) + padded,
                        AStride = stride,
                        B = wide,
                        BStride = ChunkLength + Float8.Block,
                        Segments = segments,
                        Lengths = lengths,
                        RowScales = rowScales + r,
                        ColumnScales = columnScales,
                        Totals = tileTotals,
                    };
                    AddTile(Math.Min(TileRows, count - r), in tile);
                    tileTotals += TileTotals;
                }
            }

            padded += chunk;
        }
    }

    /// <summary>Columns start to end-1 of a few rows of B as raw singles, and their scales; the last row stands for those a tile has beyond.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenColumns<TCodes>(
        in CpuProduct product, long firstColumn, int width, long start, long end, float* wide, float* columnScales)
        where TCodes : struct, ICodes
    {
        for (var c = 0; c < width; c++)
        {
            var codes = product.B + ((firstColumn + c) * product.BStride * TCodes.Size);
            var destination = wide + (c * (ChunkLength + Float8.Block));
            var blocks = product.BScaleRow(firstColumn + c, start);
            var segment = 0;
            for (long k = start; k < end; k += product.SegmentLength(k), segment++)
            {
                columnScales[(segment * TileScales) + c] = (blocks is null ? 1f : blocks[product.BlocksFrom(start, k)]) * TCodes.Postscale;
            }

            // What is needed next: more of the same row, or the same of the row after these.
            var next = (end < product.K ? end - start : (TileColumns * product.BStride) - start) * TCodes.Size;
            if (product.ScaleColumnOffset == 0)
            {
                WidenRaw<TCodes>(codes + (start * TCodes.Size), (int)(end - start), destination, next);
                continue;
            }

            for (long k = start, length; k < end; k += length)
            {
                length = product.SegmentLength(k);
                WidenRaw<TCodes>(codes + (k * TCodes.Size), (int)length, destination, next);
                destination += Padded<TCodes>(length);
            }
        }

        for (var c = width; c < TileColumns; c++)
        {
            // NOTE: a column beyond the last repeats what lies there from an earlier tile: finite or not, nobody reads its totals.
            for (var segment = 0; segment < ChunkSegments; segment++)
            {
                columnScales[(segment * TileScales) + c] = 0f;
            }
        }
    }

    /// <summary>A row of A as singles times Prescale, each segment filled up with zeros to a whole group.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenRow<TCodes>(in CpuProduct product, long row, float* destination) where TCodes : struct, ICodes
    {
        var codes = product.A + (row * product.AStride * TCodes.Size);
        for (long start = 0, length; start < product.K; start += length)
        {
            length = product.SegmentLength(start);
            WidenRaw<TCodes>(codes + (start * TCodes.Size), (int)length, destination, 0);
            var padded = (int)Padded<TCodes>(length);
            for (var i = 0; i < padded && TCodes.Rebias != 1f; i += TLanes.Count)
            {
                var value = TLanes.Multiply(TLanes.Load(destination + i), TLanes.Broadcast(TCodes.Rebias));
                TLanes.Store(destination + i, TLanes.Multiply(value, TLanes.Broadcast(TCodes.Prescale)));
            }

            destination += padded;
        }
    }

    /// <summary>Elements as raw singles in groups, with zeros up to a whole group; nothing behind the last element is read.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenRaw<TCodes>(byte* source, int length, float* destination, long prefetch) where TCodes : struct, ICodes
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

        var codes = new ReadOnlySpan<byte>(source, hasNaN ? length : 0);
        for (int next, i = 0; (next = TCodes.IndexOfNaN(codes[i..])) >= 0; i += next + 1)
        {
            var at = i + next;
            destination[(at / group * group) + (at % TCodes.Steps * Lanes) + (at % group / TCodes.Steps)] = float.NaN;
        }
    }

    /// <summary>Whole groups, fetching as many at an offset for later; whether one of the elements is NaN, which the raw singles do not say.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool WidenGroups<TCodes>(byte* source, int groups, float* destination, long prefetch) where TCodes : struct, ICodes
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
        var full = length / Lanes * Lanes;
        for (var i = 0; i < full; i += TLanes.Count)
        {
            TLanes.Store(destination + i, TCodes.Load<TLanes>(source + (i * TCodes.Size)));
        }

        if (full < length)
        {
            var tail = stackalloc byte[Lanes * sizeof(float)];
            new Span<byte>(tail, Lanes * sizeof(float)).Clear();
            Buffer.MemoryCopy(source + (full * TCodes.Size), tail, Lanes * sizeof(float), (length - full) * TCodes.Size);
            for (var i = 0; i < Lanes; i += TLanes.Count)
            {
                TLanes.Store(destination + full + i, TCodes.Load<TLanes>(tail + (i * TCodes.Size)));
            }
        }

        var codes = new ReadOnlySpan<byte>(source, length * TCodes.Size);
        var found = false;
        for (int next, i = 0; (next = TCodes.IndexOfNaN(codes[i..])) >= 0; i += next + 1)
        {
            destination[i + next] = float.NaN;
            found = true;
        }

        return found;
    }

    /// <summary>The same for a type known at run time; the index counts elements.</summary>
    private static bool Widen(byte* source, long index, int length, DType type, float* destination) => type switch
    {
        DType.BFloat16 => Widen<BFloat16Codes>(source + (index * BFloat16Codes.Size), length, destination),
        DType.Float8E4M3Fnuz => Widen<FnuzCodes>(source + index, length, destination),
        _ => Widen<OcpCodes>(source + index, length, destination),
    };

    /// <summary>The sum of sixteen lanes: i and i + 8, then 4 further, 2 further and 1 further, at every width.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Fold(float* lanes)
    {
        var four = (Vector128.Load(lanes) + Vector128.Load(lanes + 8)) + (Vector128.Load(lanes + 4) + Vector128.Load(lanes + 12));
        return (four.GetElement(0) + four.GetElement(2)) + (four.GetElement(1) + four.GetElement(3));
    }

    private static long Padded<TCodes>(long length) where TCodes : struct, ICodes =>
        (length + (Lanes * TCodes.Steps) - 1) / (Lanes * TCodes.Steps) * (Lanes * TCodes.Steps);

    /// <summary>Floats of a row once it is widened.</summary>
    private static long PaddedLength<TCodes>(in CpuProduct product) where TCodes : struct, ICodes
    {
        if (product.ScaleColumnOffset == 0)
        {
            return Padded<TCodes>(product.K);
        }

        long padded = 0;
        for (long start = 0, length; start < product.K; start += length)
        {
            length = product.SegmentLength(start);
            padded += Padded<TCodes>(length);
        }

        return padded;
    }
}
