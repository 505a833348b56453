using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

/// <summary>
/// The inner loops for one vector width. Every product is a dot of two rows: each of sixteen lanes sums every sixteenth column
/// of a 128-wide block, the block's sum is scaled into a second accumulator, and the lanes are folded once at the end. The
/// order is the same for one row and for many, so a row's bits do not depend on the rows beside it.
/// </summary>
internal sealed unsafe partial class CpuKernels<TLanes> : CpuKernels
    where TLanes : unmanaged, ILanes<TLanes>
{
    // A tile of 3 rows by 4 columns: twelve accumulators and what they are made from fit AVX2's sixteen registers.
    private const int TileRows = 3;
    private const int TileColumns = 4;

    // Columns of B that are widened together for a panel of rows.
    private const int WideColumns = 2 * TileColumns;

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
        var stride = product.PaddedK;
        var a = worker.Scratch((PanelRows * stride) + (WideColumns * Float8.Block) + (PanelRows * WideColumns * Lanes));
        var b = a + (PanelRows * stride);
        var totals = b + (WideColumns * Float8.Block);
        if (worker.Panel != panel)
        {
            WidenRows<TCodes>(in product, rows, count, a, stride);
            worker.Panel = panel;
        }

        for (var column = 0; column < columns; column += WideColumns)
        {
            var width = Math.Min(WideColumns, columns - column);
            new Span<float>(totals, (count + TileRows - 1) / TileRows * TileRows * WideColumns * Lanes).Clear();
            AddProducts<TCodes>(in product, rows, count, firstColumn + column, width, a, stride, b, totals);
            for (var r = 0; r < count; r++)
            {
                for (var c = 0; c < width; c++)
                {
                    result[(r * BlockColumns) + column + c] = Fold(totals + (((r * WideColumns) + c) * Lanes));
                }
            }
        }
    }

    /// <summary>totals += A times a few rows of B, segment by segment.</summary>
    private static void AddProducts<TCodes>(
        in CpuProduct product, long* rows, int count, long firstColumn, int width, float* a, long aStride, float* wide, float* totals)
        where TCodes : struct, ICodes
    {
        var rowScales = stackalloc float[TileRows];
        var columnScales = stackalloc float[WideColumns];
        for (long start = 0, padded = 0, length; start < product.K; start += length, padded += Padded(length))
        {
            length = product.SegmentLength(start);
            var steps = (int)Padded(length);
            var codes = product.B + (((firstColumn * product.BStride) + start) * TCodes.Size);

            // Few rows use the codes once: they are widened in registers. Codes that do not fill whole lanes are not read beyond.
            var direct = count <= TileRows && steps == length;
            for (var c = 0; c < WideColumns; c++)
            {
                columnScales[c] = c < width ? product.BScale(firstColumn + c, start) : 0f;
                if (!direct && c < width)
                {
                    Widen<TCodes>(codes + (c * product.BStride * TCodes.Size), (int)length, wide + (c * Float8.Block));
                }
            }

            for (var r = 0; r < count; r += TileRows)
            {
                for (var i = 0; i < TileRows; i++)
                {
                    rowScales[i] = product.AScale(rows[Math.Min(r + i, count - 1)], start);
                }

                for (var c = 0; c < width; c += TileColumns)
                {
                    var tile = new CpuTile
                    {
                        A = a + (r * aStride) + padded,
                        AStride = aStride,
                        Rows = Math.Min(TileRows, count - r),
                        B = direct ? codes + (c * product.BStride * TCodes.Size) : (byte*)(wide + (c * Float8.Block)),
                        BStride = direct ? product.BStride * TCodes.Size : Float8.Block * sizeof(float),
                        Columns = Math.Min(TileColumns, width - c),
                        Length = steps,
                        RowScales = rowScales,
                        ColumnScales = columnScales + c,
                        Totals = totals + (((r * WideColumns) + c) * Lanes),
                        TotalStride = WideColumns * Lanes,
                    };
                    if (direct)
                    {
                        AddTile<TCodes>(in tile);
                    }
                    else
                    {
                        AddTile<SingleCodes>(in tile);
                    }
                }
            }
        }
    }

    /// <summary>Rows of A as singles, each segment filled up with zeros to whole lanes.</summary>
    private static void WidenRows<TCodes>(in CpuProduct product, long* rows, int count, float* a, long stride)
        where TCodes : struct, ICodes
    {
        for (var r = 0; r < count; r++)
        {
            var padded = a + (r * stride);
            for (long start = 0, length; start < product.K; start += length)
            {
                length = product.SegmentLength(start);
                Widen<TCodes>(product.A + (((rows[r] * product.AStride) + start) * TCodes.Size), (int)length, padded);
                padded += Padded(length);
            }
        }
    }

    /// <summary>Elements as singles, with zeros up to whole lanes; nothing behind the last element is read.</summary>
    private static void Widen<TCodes>(byte* source, int length, float* destination) where TCodes : struct, ICodes
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
    }

    /// <summary>The same for a type known at run time; the index counts elements.</summary>
    private static void Widen(byte* source, long index, int length, DType type, float* destination)
    {
        switch (type)
        {
            case DType.BFloat16:
                Widen<BFloat16Codes>(source + (index * BFloat16Codes.Size), length, destination);
                break;
            case DType.Float8E4M3Fnuz:
                Widen<FnuzCodes>(source + index, length, destination);
                break;
            default:
                Widen<OcpCodes>(source + index, length, destination);
                break;
        }
    }

    /// <summary>The sum of sixteen lanes: i and i + 8, then 4 further, 2 further and 1 further, at every width.</summary>
    private static float Fold(float* lanes)
    {
        var four = (Vector128.Load(lanes) + Vector128.Load(lanes + 8)) + (Vector128.Load(lanes + 4) + Vector128.Load(lanes + 12));
        return (four.GetElement(0) + four.GetElement(2)) + (four.GetElement(1) + four.GetElement(3));
    }

    /// <summary>Adds a tile's scaled products to its totals. Rows and columns that are missing repeat the last, into totals nobody reads.</summary>
    private static void AddTile<TCodes>(in CpuTile tile) where TCodes : struct, ICodes
    {
        var b0 = tile.B;
        var b1 = b0 + (tile.Columns > 1 ? tile.BStride : 0);
        var b2 = b1 + (tile.Columns > 2 ? tile.BStride : 0);
        var b3 = b2 + (tile.Columns > 3 ? tile.BStride : 0);
        if (tile.Rows == 1)
        {
            AddRow<TCodes>(in tile, tile.A, b0, b1, b2, b3);
            return;
        }

        var a0 = tile.A;
        var a1 = a0 + tile.AStride;
        var a2 = a1 + (tile.Rows > 2 ? tile.AStride : 0);
        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            TLanes s00 = TLanes.Broadcast(0f), s01 = s00, s02 = s00, s03 = s00;
            TLanes s10 = s00, s11 = s00, s12 = s00, s13 = s00, s20 = s00, s21 = s00, s22 = s00, s23 = s00;
            for (long k = lane, end = tile.Length; k < end; k += Lanes)
            {
                var x = TLanes.Load(a0 + k);
                var y = TLanes.Load(a1 + k);
                var z = TLanes.Load(a2 + k);
                var w = TCodes.Load<TLanes>(b0 + (k * TCodes.Size));
                s00 = TLanes.MultiplyAdd(x, w, s00);
                s10 = TLanes.MultiplyAdd(y, w, s10);
                s20 = TLanes.MultiplyAdd(z, w, s20);
                w = TCodes.Load<TLanes>(b1 + (k * TCodes.Size));
                s01 = TLanes.MultiplyAdd(x, w, s01);
                s11 = TLanes.MultiplyAdd(y, w, s11);
                s21 = TLanes.MultiplyAdd(z, w, s21);
                w = TCodes.Load<TLanes>(b2 + (k * TCodes.Size));
                s02 = TLanes.MultiplyAdd(x, w, s02);
                s12 = TLanes.MultiplyAdd(y, w, s12);
                s22 = TLanes.MultiplyAdd(z, w, s22);
                w = TCodes.Load<TLanes>(b3 + (k * TCodes.Size));
                s03 = TLanes.MultiplyAdd(x, w, s03);
                s13 = TLanes.MultiplyAdd(y, w, s13);
                s23 = TLanes.MultiplyAdd(z, w, s23);
            }

            AddScaled(in tile, 0, lane, s00, s01, s02, s03);
            AddScaled(in tile, 1, lane, s10, s11, s12, s13);
            AddScaled(in tile, 2, lane, s20, s21, s22, s23);
        }
    }

    private static void AddRow<TCodes>(in CpuTile tile, float* a, byte* b0, byte* b1, byte* b2, byte* b3) where TCodes : struct, ICodes
    {
        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            TLanes s0 = TLanes.Broadcast(0f), s1 = s0, s2 = s0, s3 = s0;
            for (long k = lane, end = tile.Length; k < end; k += Lanes)
            {
                var x = TLanes.Load(a + k);
                s0 = TLanes.MultiplyAdd(x, TCodes.Load<TLanes>(b0 + (k * TCodes.Size)), s0);
                s1 = TLanes.MultiplyAdd(x, TCodes.Load<TLanes>(b1 + (k * TCodes.Size)), s1);
                s2 = TLanes.MultiplyAdd(x, TCodes.Load<TLanes>(b2 + (k * TCodes.Size)), s2);
                s3 = TLanes.MultiplyAdd(x, TCodes.Load<TLanes>(b3 + (k * TCodes.Size)), s3);
            }

            AddScaled(in tile, 0, lane, s0, s1, s2, s3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScaled(in CpuTile tile, int row, int lane, TLanes s0, TLanes s1, TLanes s2, TLanes s3)
    {
        var total = tile.Totals + (row * tile.TotalStride) + lane;
        var scale = tile.RowScales[row];
        TLanes.Store(total, TLanes.MultiplyAdd(s0, TLanes.Broadcast(scale * tile.ColumnScales[0]), TLanes.Load(total)));
        total += Lanes;
        TLanes.Store(total, TLanes.MultiplyAdd(s1, TLanes.Broadcast(scale * tile.ColumnScales[1]), TLanes.Load(total)));
        total += Lanes;
        TLanes.Store(total, TLanes.MultiplyAdd(s2, TLanes.Broadcast(scale * tile.ColumnScales[2]), TLanes.Load(total)));
        total += Lanes;
        TLanes.Store(total, TLanes.MultiplyAdd(s3, TLanes.Broadcast(scale * tile.ColumnScales[3]), TLanes.Load(total)));
    }
}
