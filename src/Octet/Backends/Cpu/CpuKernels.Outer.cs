using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

// Products whose rows lie in the lanes: what attention multiplies with, and the transposes into that order and out of it.
internal sealed unsafe partial class CpuKernels<TLanes>
{
    // A tile of sums: columns by vectors of rows that fit the registers beside a step of the rows.
    private const int OuterColumns = 6;

    private static int OuterRows => TLanes.HasManyRegisters ? 4 : 2;

    /// <summary>c[j, row] += sum over i of a[i, row] * b[j, i].</summary>
    /// <param name="a">[length, width].</param>
    /// <param name="width">Rows in whole lanes.</param>
    /// <param name="length">Of the sum.</param>
    /// <param name="b">[columns, length].</param>
    /// <param name="bStride">Singles between columns of b.</param>
    /// <param name="columns">Number of columns.</param>
    /// <param name="c">[columns, width].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddOuter(float* a, int width, int length, float* b, int bStride, int columns, float* c)
    {
        for (var column = 0; column < columns; column += OuterColumns)
        {
            var source = b + ((long)column * bStride);
            var target = c + ((long)column * width);
            switch (columns - column)
            {
                case 1 or 2:
                    AddOuterColumns<Two>(a, width, length, source, bStride, columns - column, target);
                    break;
                case 3 or 4:
                    AddOuterColumns<Four>(a, width, length, source, bStride, columns - column, target);
                    break;
                default:
                    AddOuterColumns<Six>(a, width, length, source, bStride, columns - column, target);
                    break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddOuterColumns<TColumns>(float* a, int width, int length, float* b, int bStride, int columns, float* c)
        where TColumns : struct, IRows
    {
        var step = OuterRows * TLanes.Count;
        for (var row = 0; row < width; row += step)
        {
            switch (Math.Min(step, width - row) / TLanes.Count)
            {
                case 1:
                    AddOuterTile<One, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
                case 2:
                    AddOuterTile<Two, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
                case 3:
                    AddOuterTile<Three, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
                default:
                    AddOuterTile<Four, TColumns>(a + row, width, length, b, bStride, columns, c + row);
                    break;
            }
        }
    }

    // The sums go on where c stands, so that the order is that of the positions, whatever pages they lie in.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddOuterTile<TRows, TColumns>(float* a, int width, int length, float* b, int bStride, int columns, float* c)
        where TRows : struct, IRows
        where TColumns : struct, IRows
    {
        // Columns that are missing repeat the first, for nobody.
        var b1 = columns > 1 ? b + bStride : b;
        var c1 = columns > 1 ? c + width : c;
        var b2 = columns > 2 ? b + (2 * bStride) : b;
        var c2 = columns > 2 ? c + (2 * width) : c;
        var b3 = columns > 3 ? b + (3 * bStride) : b;
        var c3 = columns > 3 ? c + (3 * width) : c;
        var b4 = columns > 4 ? b + (4 * bStride) : b;
        var c4 = columns > 4 ? c + (4 * width) : c;
        var b5 = columns > 5 ? b + (5 * bStride) : b;
        var c5 = columns > 5 ? c + (5 * width) : c;
        Load<TRows>(c, out var s00, out var s10, out var s20, out var s30);
        Load<TRows>(c1, out var s01, out var s11, out var s21, out var s31);
        Load<TRows>(c2, out var s02, out var s12, out var s22, out var s32);
        Load<TRows>(c3, out var s03, out var s13, out var s23, out var s33);
        Load<TRows>(c4, out var s04, out var s14, out var s24, out var s34);
        Load<TRows>(c5, out var s05, out var s15, out var s25, out var s35);
        for (var i = 0; i < length; i++, a += width)
        {
            var x0 = TLanes.Load(a);
            var x1 = TRows.Count > 1 ? TLanes.Load(a + TLanes.Count) : x0;
            var x2 = TRows.Count > 2 ? TLanes.Load(a + (2 * TLanes.Count)) : x0;
            var x3 = TRows.Count > 3 ? TLanes.Load(a + (3 * TLanes.Count)) : x0;
            AddColumn<TRows>(b[i], x0, x1, x2, x3, ref s00, ref s10, ref s20, ref s30);
            AddColumn<TRows>(b1[i], x0, x1, x2, x3, ref s01, ref s11, ref s21, ref s31);
            if (TColumns.Count > 2)
            {
                AddColumn<TRows>(b2[i], x0, x1, x2, x3, ref s02, ref s12, ref s22, ref s32);
                AddColumn<TRows>(b3[i], x0, x1, x2, x3, ref s03, ref s13, ref s23, ref s33);
            }

            if (TColumns.Count > 4)
            {
                AddColumn<TRows>(b4[i], x0, x1, x2, x3, ref s04, ref s14, ref s24, ref s34);
                AddColumn<TRows>(b5[i], x0, x1, x2, x3, ref s05, ref s15, ref s25, ref s35);
            }
        }

        if (TColumns.Count > 4)
        {
            Store<TRows>(c5, s05, s15, s25, s35);
            Store<TRows>(c4, s04, s14, s24, s34);
        }

        if (TColumns.Count > 2)
        {
            Store<TRows>(c3, s03, s13, s23, s33);
            Store<TRows>(c2, s02, s12, s22, s32);
        }

        Store<TRows>(c1, s01, s11, s21, s31);
        Store<TRows>(c, s00, s10, s20, s30);
    }

    // One column's part of a step.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddColumn<TRows>(
        float value, TLanes x0, TLanes x1, TLanes x2, TLanes x3, ref TLanes s0, ref TLanes s1, ref TLanes s2, ref TLanes s3)
        where TRows : struct, IRows
    {
        var w = TLanes.Broadcast(value);
        TLanes.AddProduct(ref s0, x0, w);
        if (TRows.Count > 1)
        {
            TLanes.AddProduct(ref s1, x1, w);
        }

        if (TRows.Count > 2)
        {
            TLanes.AddProduct(ref s2, x2, w);
        }

        if (TRows.Count > 3)
        {
            TLanes.AddProduct(ref s3, x3, w);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Load<TRows>(float* c, out TLanes s0, out TLanes s1, out TLanes s2, out TLanes s3) where TRows : struct, IRows
    {
        s0 = TLanes.Load(c);
        s1 = TRows.Count > 1 ? TLanes.Load(c + TLanes.Count) : s0;
        s2 = TRows.Count > 2 ? TLanes.Load(c + (2 * TLanes.Count)) : s0;
        s3 = TRows.Count > 3 ? TLanes.Load(c + (3 * TLanes.Count)) : s0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<TRows>(float* c, TLanes s0, TLanes s1, TLanes s2, TLanes s3) where TRows : struct, IRows
    {
        TLanes.Store(c, s0);
        if (TRows.Count > 1)
        {
            TLanes.Store(c + TLanes.Count, s1);
        }

        if (TRows.Count > 2)
        {
            TLanes.Store(c + (2 * TLanes.Count), s2);
        }

        if (TRows.Count > 3)
        {
            TLanes.Store(c + (3 * TLanes.Count), s3);
        }
    }

    /// <summary>to[c, r] = factor * from[r, c].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Transpose(float* from, long fromStride, int rows, int columns, float factor, float* to, long toStride)
    {
        const int side = 4;
        var (wholeRows, wholeColumns) = Sse.IsSupported ? (rows / side * side, columns / side * side) : (0, 0);
        for (var r = 0; r < wholeRows; r += side)
        {
            for (var c = 0; c < wholeColumns; c += side)
            {
                var source = from + (r * fromStride) + c;
                var target = to + (c * toStride) + r;
                var (a, b) = (Vector128.Load(source) * factor, Vector128.Load(source + fromStride) * factor);
                var (x, y) = (Vector128.Load(source + (2 * fromStride)) * factor, Vector128.Load(source + (3 * fromStride)) * factor);
                var (abLow, abHigh, xyLow, xyHigh) = (Sse.UnpackLow(a, b), Sse.UnpackHigh(a, b), Sse.UnpackLow(x, y), Sse.UnpackHigh(x, y));
                Sse.MoveLowToHigh(abLow, xyLow).Store(target);
                Sse.MoveHighToLow(xyLow, abLow).Store(target + toStride);
                Sse.MoveLowToHigh(abHigh, xyHigh).Store(target + (2 * toStride));
                Sse.MoveHighToLow(xyHigh, abHigh).Store(target + (3 * toStride));
            }
        }

        for (var r = 0; r < rows; r++)
        {
            for (var c = r < wholeRows ? wholeColumns : 0; c < columns; c++)
            {
                to[(c * toStride) + r] = factor * from[(r * fromStride) + c];
            }
        }
    }
}
