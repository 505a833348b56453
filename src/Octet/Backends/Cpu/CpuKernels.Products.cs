using System.Runtime.CompilerServices;

namespace Octet.Backends;

/// <summary>
/// The inner loops over sixteen lanes of any vector width. Every product is a dot of two rows: a lane sums each sixteenth
/// column of a 128-wide block, the block's sum is scaled into a second accumulator, and the lanes are folded once at the end.
/// The order is the same for one row and for many, so a row's bits do not depend on the rows beside it.
/// </summary>
internal sealed unsafe partial class CpuKernels<TLanes> : CpuKernels
    where TLanes : unmanaged, ILanes<TLanes>
{
    // Up to this many rows a weight is widened in registers, four rows at a time; beyond, once per panel into scratch memory.
    private const int DirectRows = 8;

    // Columns of B that are widened together in a panel: two tiles of three.
    private const int TileColumns = 6;

    public override void Multiply(
        CpuWorker worker, in CpuProduct product, long* rows, int count, long panel, long firstColumn, int columns, float* result)
    {
        var paddedK = product.PaddedK;
        var a = worker.Scratch((PanelRows * paddedK) + (TileColumns * Float8.Block) + (PanelRows * TileColumns * Lanes));
        var widening = new Float8Widening(product.Type);
        if (worker.Panel != panel)
        {
            WidenRows(in product, in widening, rows, count, a, paddedK);
            worker.Panel = panel;
        }

        if (count > DirectRows)
        {
            MultiplyPanel(in product, in widening, rows, count, firstColumn, columns, a, paddedK, result);
            return;
        }

        for (var c = 0; c < columns; c++)
        {
            if (count == 1 && product.Type == DType.BFloat16)
            {
                MultiplyRow<BFloat16Codes>(in product, in widening, rows[0], firstColumn + c, a, result + c);
            }
            else if (count == 1)
            {
                MultiplyRow<Float8Codes>(in product, in widening, rows[0], firstColumn + c, a, result + c);
            }
            else
            {
                for (var r = 0; r < count; r += 4)
                {
                    var panelRows = a + (r * paddedK);
                    var results = result + (r * BlockColumns) + c;
                    var four = Math.Min(4, count - r);
                    if (product.Type == DType.BFloat16)
                    {
                        MultiplyRows<BFloat16Codes>(in product, in widening, rows + r, four, firstColumn + c, panelRows, paddedK, results);
                    }
                    else
                    {
                        MultiplyRows<Float8Codes>(in product, in widening, rows + r, four, firstColumn + c, panelRows, paddedK, results);
                    }
                }
            }
        }
    }

    /// <summary>Rows of A as singles, each segment filled up with zeros to whole lanes; an odd count gets one more row of zeros.</summary>
    private static void WidenRows(in CpuProduct product, in Float8Widening widening, long* rows, int count, float* a, long paddedK)
    {
        for (var r = 0; r < count; r++)
        {
            var padded = a + (r * paddedK);
            for (long start = 0, length; start < product.K; start += length)
            {
                length = product.SegmentLength(start);
                Widen(product.A, (rows[r] * product.AStride) + start, (int)length, product.Type, in widening, padded);
                padded += Padded(length);
            }
        }

        if (count % 2 != 0)
        {
            new Span<float>(a + (count * paddedK), checked((int)paddedK)).Clear();
        }
    }

    /// <summary>length elements from an index on as singles, zeros up to whole lanes.</summary>
    private static void Widen(byte* source, long index, int length, DType type, in Float8Widening widening, float* destination)
    {
        if (type == DType.BFloat16)
        {
            WidenCodes<BFloat16Codes>(source + (index * BFloat16Codes.Size), length, in widening, destination);
        }
        else
        {
            WidenCodes<Float8Codes>(source + index, length, in widening, destination);
        }
    }

    private static void WidenCodes<TCodes>(byte* source, int length, in Float8Widening widening, float* destination)
        where TCodes : struct, ICodes
    {
        var i = 0;
        for (; i + Lanes <= length; i += Lanes)
        {
            TLanes.Store(destination + i, TCodes.Load(source + (i * TCodes.Size), in widening));
        }

        if (i < length)
        {
            TLanes.Store(destination + i, LoadTail<TCodes>(source + (i * TCodes.Size), length - i, in widening));
        }
    }

    /// <summary>Fewer than sixteen elements and zeros: nothing behind the last one is read.</summary>
    private static TLanes LoadTail<TCodes>(byte* source, int count, in Float8Widening widening) where TCodes : struct, ICodes
    {
        var codes = stackalloc byte[Lanes * 2];
        new Span<byte>(codes, Lanes * 2).Clear();
        Buffer.MemoryCopy(source, codes, Lanes * 2, count * TCodes.Size);
        return TCodes.Load(codes, in widening);
    }

    private static void MultiplyRow<TCodes>(
        in CpuProduct product, in Float8Widening widening, long row, long column, float* a, float* result)
        where TCodes : struct, ICodes
    {
        var total = TLanes.Broadcast(0f);
        for (long start = 0, length; start < product.K; start += length)
        {
            length = product.SegmentLength(start);
            var b = product.B + (((column * product.BStride) + start) * TCodes.Size);
            var sum = TLanes.Broadcast(0f);
            var k = 0;
            for (; k + Lanes <= length; k += Lanes)
            {
                sum = TLanes.MultiplyAdd(TLanes.Load(a + k), TCodes.Load(b + (k * TCodes.Size), in widening), sum);
            }

            if (k < length)
            {
                sum = TLanes.MultiplyAdd(TLanes.Load(a + k), LoadTail<TCodes>(b + (k * TCodes.Size), (int)length - k, in widening), sum);
            }

            total = TLanes.MultiplyAdd(sum, TLanes.Broadcast(product.AScale(row, start) * product.BScale(column, start)), total);
            a += Padded(length);
        }

        *result = TLanes.Sum(total);
    }

    /// <summary>One to four rows; those that are missing repeat the last.</summary>
    private static void MultiplyRows<TCodes>(
        in CpuProduct product, in Float8Widening widening, long* rows, int count, long column, float* a, long paddedK, float* result)
        where TCodes : struct, ICodes
    {
        var (r1, r2, r3) = (Math.Min(1, count - 1), Math.Min(2, count - 1), Math.Min(3, count - 1));
        var a0 = a;
        var a1 = a + (r1 * paddedK);
        var a2 = a + (r2 * paddedK);
        var a3 = a + (r3 * paddedK);
        TLanes t0 = TLanes.Broadcast(0f), t1 = t0, t2 = t0, t3 = t0;
        for (long start = 0, padded = 0, length; start < product.K; start += length, padded += Padded(length))
        {
            length = product.SegmentLength(start);
            var b = product.B + (((column * product.BStride) + start) * TCodes.Size);
            TLanes s0 = TLanes.Broadcast(0f), s1 = s0, s2 = s0, s3 = s0;
            for (var k = 0; k < length; k += Lanes)
            {
                var codes = b + (k * TCodes.Size);
                var w = k + Lanes <= length ? TCodes.Load(codes, in widening) : LoadTail<TCodes>(codes, (int)length - k, in widening);
                s0 = TLanes.MultiplyAdd(TLanes.Load(a0 + padded + k), w, s0);
                s1 = TLanes.MultiplyAdd(TLanes.Load(a1 + padded + k), w, s1);
                s2 = TLanes.MultiplyAdd(TLanes.Load(a2 + padded + k), w, s2);
                s3 = TLanes.MultiplyAdd(TLanes.Load(a3 + padded + k), w, s3);
            }

            var scale = product.BScale(column, start);
            t0 = TLanes.MultiplyAdd(s0, TLanes.Broadcast(product.AScale(rows[0], start) * scale), t0);
            t1 = TLanes.MultiplyAdd(s1, TLanes.Broadcast(product.AScale(rows[r1], start) * scale), t1);
            t2 = TLanes.MultiplyAdd(s2, TLanes.Broadcast(product.AScale(rows[r2], start) * scale), t2);
            t3 = TLanes.MultiplyAdd(s3, TLanes.Broadcast(product.AScale(rows[r3], start) * scale), t3);
        }

        result[0] = TLanes.Sum(t0);
        result[r1 * BlockColumns] = TLanes.Sum(t1);
        result[r2 * BlockColumns] = TLanes.Sum(t2);
        result[r3 * BlockColumns] = TLanes.Sum(t3);
    }

    private static void MultiplyPanel(
        in CpuProduct product, in Float8Widening widening, long* rows, int count, long firstColumn, int columns, float* a,
        long paddedK, float* result)
    {
        var b = a + (PanelRows * paddedK);
        var totals = b + (TileColumns * Float8.Block);
        var scales = stackalloc float[TileColumns];
        for (var tile = 0; tile < columns; tile += TileColumns)
        {
            var width = Math.Min(TileColumns, columns - tile);
            new Span<float>(b, (TileColumns * Float8.Block) + (PanelRows * TileColumns * Lanes)).Clear();
            new Span<float>(scales, TileColumns).Clear();
            for (long start = 0, padded = 0, length; start < product.K; start += length, padded += Padded(length))
            {
                length = product.SegmentLength(start);
                for (var c = 0; c < width; c++)
                {
                    var column = firstColumn + tile + c;
                    Widen(product.B, (column * product.BStride) + start, (int)length, product.Type, in widening, b + (c * Float8.Block));
                    scales[c] = product.BScale(column, start);
                }

                for (var r = 0; r < count; r += 2)
                {
                    var scale0 = product.AScale(rows[r], start);
                    var scale1 = r + 1 < count ? product.AScale(rows[r + 1], start) : 0f;
                    for (var c = 0; c < width; c += 3)
                    {
                        AddTile(
                            a + (r * paddedK) + padded, paddedK, b + (c * Float8.Block), (int)Padded(length),
                            scale0, scale1, scales + c, totals + (((r * TileColumns) + c) * Lanes));
                    }
                }
            }

            for (var r = 0; r < count; r++)
            {
                for (var c = 0; c < width; c++)
                {
                    result[(r * BlockColumns) + tile + c] = TLanes.Sum(TLanes.Load(totals + (((r * TileColumns) + c) * Lanes)));
                }
            }
        }
    }

    /// <summary>totals += scale of the row * scale of the column * products of two rows of A and three of B over one segment.</summary>
    private static void AddTile(
        float* a, long aStride, float* b, int length, float scale0, float scale1, float* scales, float* totals)
    {
        var tile = Multiply2x3(a, a + aStride, b, b + Float8.Block, b + (2 * Float8.Block), 0, length);
        AddScaled(totals, tile.S00, scale0 * scales[0]);
        AddScaled(totals + Lanes, tile.S01, scale0 * scales[1]);
        AddScaled(totals + (2 * Lanes), tile.S02, scale0 * scales[2]);
        totals += TileColumns * Lanes;
        AddScaled(totals, tile.S10, scale1 * scales[0]);
        AddScaled(totals + Lanes, tile.S11, scale1 * scales[1]);
        AddScaled(totals + (2 * Lanes), tile.S12, scale1 * scales[2]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScaled(float* total, TLanes sum, float scale) =>
        TLanes.Store(total, TLanes.MultiplyAdd(sum, TLanes.Broadcast(scale), TLanes.Load(total)));

    /// <summary>Two rows by three over columns start to end - 1, whole lanes: twelve accumulators of eight lanes fill AVX2's registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Tile Multiply2x3(float* a0, float* a1, float* b0, float* b1, float* b2, int start, int end)
    {
        TLanes s00 = TLanes.Broadcast(0f), s01 = s00, s02 = s00, s10 = s00, s11 = s00, s12 = s00;
        for (var k = start; k < end; k += Lanes)
        {
            var (x, y) = (TLanes.Load(a0 + k), TLanes.Load(a1 + k));
            var w = TLanes.Load(b0 + k);
            s00 = TLanes.MultiplyAdd(x, w, s00);
            s10 = TLanes.MultiplyAdd(y, w, s10);
            w = TLanes.Load(b1 + k);
            s01 = TLanes.MultiplyAdd(x, w, s01);
            s11 = TLanes.MultiplyAdd(y, w, s11);
            w = TLanes.Load(b2 + k);
            s02 = TLanes.MultiplyAdd(x, w, s02);
            s12 = TLanes.MultiplyAdd(y, w, s12);
        }

        return new Tile { S00 = s00, S01 = s01, S02 = s02, S10 = s10, S11 = s11, S12 = s12 };
    }

    private ref struct Tile
    {
        public TLanes S00, S01, S02, S10, S11, S12;
    }

    /// <summary>How the elements of a weight are read.</summary>
    private interface ICodes
    {
        static abstract int Size { get; }

        static abstract TLanes Load(byte* source, in Float8Widening widening);
    }

    private readonly struct Float8Codes : ICodes
    {
        public static int Size => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Load(byte* source, in Float8Widening widening) => TLanes.WidenFloat8(source, in widening);
    }

    private readonly struct BFloat16Codes : ICodes
    {
        public static int Size => 2;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Load(byte* source, in Float8Widening widening) => TLanes.WidenBFloat16((ushort*)source);
    }
}
