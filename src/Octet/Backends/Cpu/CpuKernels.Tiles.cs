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

    private static void AddTile(int rows, in CpuTile tile)
    {
        switch (rows)
        {
            case 1:
                AddTile<One>(in tile);
                break;
            case 2:
                AddTile<Two>(in tile);
                break;
            case 3:
                AddTile<Three>(in tile);
                break;
            default:
                AddTile<Four>(in tile);
                break;
        }
    }

    /// <summary>totals += scaled products of the tile's rows and columns over its segments; what the tile has not is compiled away.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddTile<TRows>(in CpuTile tile) where TRows : struct, IRows
    {
        var (stride, bStride) = (tile.AStride, tile.BStride);
        var zero = TLanes.Broadcast(0f);

        // The scale pairs beforehand, so that the multiply-add units are left to the sums.
        var scales = stackalloc float[ChunkSegments * 4 * TileScales];
        for (var segment = 0; segment < tile.Segments; segment++)
        {
            var columns = tile.ColumnScales + (segment * TileScales);
            for (var r = 0; r < TRows.Count; r++)
            {
                var row = Vector256.Create(tile.RowScales[(segment * PanelRows) + r]);
                (row * Vector256.Load(columns)).Store(scales + (((segment * 4) + r) * TileScales));
            }
        }

        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            var a = tile.A + lane;
            var b = tile.B + lane;
            for (var segment = 0; segment < tile.Segments; segment++)
            {
                TLanes s00 = zero, s01 = zero, s02 = zero, s03 = zero, s04 = zero, s05 = zero;
                TLanes s10 = zero, s11 = zero, s12 = zero, s13 = zero, s14 = zero, s15 = zero;
                TLanes s20 = zero, s21 = zero, s22 = zero, s23 = zero, s24 = zero, s25 = zero;
                TLanes s30 = zero, s31 = zero, s32 = zero, s33 = zero, s34 = zero, s35 = zero;
                for (var end = a + tile.Lengths[segment]; a < end; a += Lanes, b += Lanes)
                {
                    var x0 = TLanes.Load(a);
                    var x1 = TRows.Count > 1 ? TLanes.Load(a + stride) : zero;
                    var x2 = TRows.Count > 2 ? TLanes.Load(a + (2 * stride)) : zero;
                    var x3 = TRows.Count > 3 ? TLanes.Load(a + (3 * stride)) : zero;
                    var w = TLanes.Load(b);
                    s00 = TLanes.MultiplyAdd(x0, w, s00);
                    s10 = TRows.Count > 1 ? TLanes.MultiplyAdd(x1, w, s10) : zero;
                    s20 = TRows.Count > 2 ? TLanes.MultiplyAdd(x2, w, s20) : zero;
                    s30 = TRows.Count > 3 ? TLanes.MultiplyAdd(x3, w, s30) : zero;
                    w = TLanes.Load(b + bStride);
                    s01 = TLanes.MultiplyAdd(x0, w, s01);
                    s11 = TRows.Count > 1 ? TLanes.MultiplyAdd(x1, w, s11) : zero;
                    s21 = TRows.Count > 2 ? TLanes.MultiplyAdd(x2, w, s21) : zero;
                    s31 = TRows.Count > 3 ? TLanes.MultiplyAdd(x3, w, s31) : zero;
                    w = TLanes.Load(b + (2 * bStride));
                    s02 = TLanes.MultiplyAdd(x0, w, s02);
                    s12 = TRows.Count > 1 ? TLanes.MultiplyAdd(x1, w, s12) : zero;
                    s22 = TRows.Count > 2 ? TLanes.MultiplyAdd(x2, w, s22) : zero;
                    s32 = TRows.Count > 3 ? TLanes.MultiplyAdd(x3, w, s32) : zero;
                    w = TLanes.Load(b + (3 * bStride));
                    s03 = TLanes.MultiplyAdd(x0, w, s03);
                    s13 = TRows.Count > 1 ? TLanes.MultiplyAdd(x1, w, s13) : zero;
                    s23 = TRows.Count > 2 ? TLanes.MultiplyAdd(x2, w, s23) : zero;
                    s33 = TRows.Count > 3 ? TLanes.MultiplyAdd(x3, w, s33) : zero;
                    if (TLanes.HasManyRegisters)
                    {
                        w = TLanes.Load(b + (4 * bStride));
                        s04 = TLanes.MultiplyAdd(x0, w, s04);
                        s14 = TRows.Count > 1 ? TLanes.MultiplyAdd(x1, w, s14) : zero;
                        s24 = TRows.Count > 2 ? TLanes.MultiplyAdd(x2, w, s24) : zero;
                        s34 = TRows.Count > 3 ? TLanes.MultiplyAdd(x3, w, s34) : zero;
                        w = TLanes.Load(b + (5 * bStride));
                        s05 = TLanes.MultiplyAdd(x0, w, s05);
                        s15 = TRows.Count > 1 ? TLanes.MultiplyAdd(x1, w, s15) : zero;
                        s25 = TRows.Count > 2 ? TLanes.MultiplyAdd(x2, w, s25) : zero;
                        s35 = TRows.Count > 3 ? TLanes.MultiplyAdd(x3, w, s35) : zero;
                    }
                }

                var scale = scales + (segment * 4 * TileScales);
                var total = tile.Totals + lane;
                AddScaled(total, scale, s00, s01, s02, s03, s04, s05);

                if (TRows.Count > 1)
                {
                    total += TLanes.HasManyRegisters ? 6 * Lanes : 4 * Lanes;
                    AddScaled(total, scale + TileScales, s10, s11, s12, s13, s14, s15);
                }

                if (TRows.Count > 2)
                {
                    total += TLanes.HasManyRegisters ? 6 * Lanes : 4 * Lanes;
                    AddScaled(total, scale + (2 * TileScales), s20, s21, s22, s23, s24, s25);
                }

                if (TRows.Count > 3)
                {
                    total += TLanes.HasManyRegisters ? 6 * Lanes : 4 * Lanes;
                    AddScaled(total, scale + (3 * TileScales), s30, s31, s32, s33, s34, s35);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScaled(float* total, float* scale, TLanes s0, TLanes s1, TLanes s2, TLanes s3, TLanes s4, TLanes s5)
    {
        AddScaled(total, scale, s0);
        AddScaled(total + Lanes, scale + 1, s1);
        AddScaled(total + (2 * Lanes), scale + 2, s2);
        AddScaled(total + (3 * Lanes), scale + 3, s3);
        if (TLanes.HasManyRegisters)
        {
            AddScaled(total + (4 * Lanes), scale + 4, s4);
            AddScaled(total + (5 * Lanes), scale + 5, s5);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScaled(float* total, float* scale, TLanes sum) =>
        TLanes.Store(total, TLanes.MultiplyAdd(sum, TLanes.Broadcast(*scale), TLanes.Load(total)));

    /// <summary>One widened row of A times a few rows of B (at most <see cref="RowColumns"/>), widened in registers, from end to end.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyRow<TCodes>(in CpuProduct product, long row, float* a, long column, int width, float* result)
        where TCodes : struct, ICodes
    {
        var tails = stackalloc byte[RowColumns * TailBytes];
        var scales = stackalloc float[RowColumns];
        var totals = stackalloc float[RowColumns * Lanes];
        var stride = product.BStride * TCodes.Size;
        var first = product.B + (column * stride);
        var zero = TLanes.Broadcast(0f);
        var isNaN = false;
        for (var lane = 0; lane < Lanes; lane += TLanes.Count)
        {
            TLanes t0 = zero, t1 = zero, t2 = zero, t3 = zero, mark = zero;
            var x = a + lane;
            for (long start = 0, length; start < product.K; start += length)
            {
                length = product.SegmentLength(start);
                var padded = Padded<TCodes>(length);
                var b = first + (start * TCodes.Size);
                var step = stride;
                if (padded != length)
                {
                    CopyTails(b, stride, width, length * TCodes.Size, tails);
                    b = tails;
                    step = TailBytes;
                }

                var scale = product.AScale(row, start);
                for (var c = 0; c < RowColumns; c++)
                {
                    scales[c] = scale * (product.BScale(column + Math.Min(c, width - 1), start) * TCodes.Postscale);
                }

                // Rows that are missing repeat the first, for nobody.
                var (b1, b2, b3) = (width > 1 ? step : 0, width > 2 ? 2 * step : 0, width > 3 ? 3 * step : 0);
                var end = x + padded;
                TLanes s0 = zero, s1 = zero, s2 = zero, s3 = zero;
                for (b += 4 * lane; x < end; x += Lanes * TCodes.Steps, b += 4 * Lanes)
                {
                    if (lane == 0)
                    {
                        // The same place in the rows after these: the processor itself does not fetch beyond a page.
                        Prefetch(b + (RowColumns * stride));
                        Prefetch(b + (RowColumns * stride) + b1);
                        Prefetch(b + (RowColumns * stride) + b2);
                        Prefetch(b + (RowColumns * stride) + b3);
                    }

                    var x0 = TLanes.Load(x);
                    var x1 = TLanes.Load(x + Lanes);
                    if (TCodes.Steps == 4)
                    {
                        var x2 = TLanes.Load(x + (2 * Lanes));
                        var x3 = TLanes.Load(x + (3 * Lanes));
                        AddFour<TCodes>(b, x0, x1, x2, x3, ref s0, ref mark);
                        AddFour<TCodes>(b + b1, x0, x1, x2, x3, ref s1, ref mark);
                        AddFour<TCodes>(b + b2, x0, x1, x2, x3, ref s2, ref mark);
                        AddFour<TCodes>(b + b3, x0, x1, x2, x3, ref s3, ref mark);
                    }
                    else
                    {
                        AddTwo(b, x0, x1, ref s0);
                        AddTwo(b + b1, x0, x1, ref s1);
                        AddTwo(b + b2, x0, x1, ref s2);
                        AddTwo(b + b3, x0, x1, ref s3);
                    }
                }

                // The widened row goes on behind the padding of this segment.
                x = end;
                t0 = TLanes.MultiplyAdd(s0, TLanes.Broadcast(scales[0]), t0);
                t1 = TLanes.MultiplyAdd(s1, TLanes.Broadcast(scales[1]), t1);
                t2 = TLanes.MultiplyAdd(s2, TLanes.Broadcast(scales[2]), t2);
                t3 = TLanes.MultiplyAdd(s3, TLanes.Broadcast(scales[3]), t3);
            }

            TLanes.Store(totals + lane, t0);
            TLanes.Store(totals + Lanes + lane, t1);
            TLanes.Store(totals + (2 * Lanes) + lane, t2);
            TLanes.Store(totals + (3 * Lanes) + lane, t3);
            isNaN |= TCodes.NaNMark != 0 && TLanes.HasByte(mark, TCodes.NaNMark);
        }

        for (var c = 0; c < width; c++)
        {
            result[c] = isNaN && HasNaN<TCodes>(first + (c * stride), product.K) ? float.NaN : Fold(totals + (c * Lanes));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddFour<TCodes>(byte* b, TLanes x0, TLanes x1, TLanes x2, TLanes x3, ref TLanes sum, ref TLanes mark)
        where TCodes : struct, ICodes
    {
        TLanes.WidenRaw(b, out var w0, out var w1, out var w2, out var w3);
        mark = TLanes.MarkLargest(mark, b, TCodes.NaNMask, TCodes.NaNFlip);
        sum = TLanes.MultiplyAdd(x3, w3, TLanes.MultiplyAdd(x2, w2, TLanes.MultiplyAdd(x1, w1, TLanes.MultiplyAdd(x0, w0, sum))));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTwo(byte* b, TLanes x0, TLanes x1, ref TLanes sum)
    {
        TLanes.WidenPairs(b, out var w0, out var w1);
        sum = TLanes.MultiplyAdd(x1, w1, TLanes.MultiplyAdd(x0, w0, sum));
    }

    // Nothing behind the last element is read: what is left of the rows gets zeros behind it.
    private static void CopyTails(byte* source, long stride, int count, long size, byte* tails)
    {
        new Span<byte>(tails, RowColumns * TailBytes).Clear();
        for (var c = 0; c < count; c++)
        {
            Buffer.MemoryCopy(source + (c * stride), tails + (c * TailBytes), TailBytes, size);
        }
    }

    private static bool HasNaN<TCodes>(byte* codes, long count) where TCodes : struct, ICodes
    {
        for (long i = 0; i < count; i++)
        {
            if (IsNaN<TCodes>(codes[i]))
            {
                return true;
            }
        }

        return false;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* address)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch1(address);
        }
    }
}
