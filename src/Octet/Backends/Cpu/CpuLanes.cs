using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

/// <summary>What widening FP8 codes needs: one for each encoding.</summary>
internal readonly struct Float8Widening
{
    /// <summary>2^120 (OCP) or 2^119 (FNUZ): from a code's bits at the top of a single to its value.</summary>
    public readonly float Rebias;

    /// <summary>A code is NaN where (code and NaNMask) equals NaN.</summary>
    public readonly int NaNMask;

    public readonly int NaN;

    public Float8Widening(DType encoding)
    {
        var fnuz = encoding == DType.Float8E4M3Fnuz;
        Rebias = fnuz ? 6.6461399789245794e35f : 1.3292279957849159e36f;
        NaNMask = fnuz ? 0xFF : 0x7F;
        NaN = fnuz ? 0x80 : 0x7F;
    }
}

/// <summary>
/// Sixteen singles side by side, whatever the machine's vector width: sums run over the same sixteen lanes everywhere and are
/// folded in the same order, so every width gives the same bits.
/// </summary>
internal unsafe interface ILanes<TSelf> where TSelf : unmanaged, ILanes<TSelf>
{
    static abstract TSelf Broadcast(float value);

    static abstract TSelf Load(float* source);

    static abstract void Store(float* destination, TSelf value);

    /// <summary>a * b + c, rounded once.</summary>
    static abstract TSelf MultiplyAdd(TSelf a, TSelf b, TSelf c);

    static abstract TSelf Subtract(TSelf a, TSelf b);

    static abstract TSelf Add(TSelf a, TSelf b);

    /// <summary>The larger of each pair; NaN if one is.</summary>
    static abstract TSelf Max(TSelf a, TSelf b);

    static abstract TSelf Exp(TSelf value);

    /// <summary>Lanes first to end - 1 as they are, the others 0.</summary>
    static abstract TSelf Keep(TSelf value, int first, int end);

    /// <summary>Sixteen FP8 codes, exactly.</summary>
    static abstract TSelf WidenFloat8(byte* codes, in Float8Widening widening);

    /// <summary>Sixteen BF16 values, exactly.</summary>
    static abstract TSelf WidenBFloat16(ushort* bits);

    /// <summary>((i and i+8) and 4 further) and 2 further and 1 further: the one order of all widths.</summary>
    static abstract float Sum(TSelf value);
}

/// <summary>One AVX-512 register.</summary>
internal readonly unsafe struct Lanes512(Vector512<float> value) : ILanes<Lanes512>
{
    private readonly Vector512<float> _value = value;

    public static Lanes512 Broadcast(float value) => new(Vector512.Create(value));

    public static Lanes512 Load(float* source) => new(Vector512.Load(source));

    public static void Store(float* destination, Lanes512 value) => value._value.Store(destination);

    public static Lanes512 MultiplyAdd(Lanes512 a, Lanes512 b, Lanes512 c) =>
        new(Vector512.FusedMultiplyAdd(a._value, b._value, c._value));

    public static Lanes512 Subtract(Lanes512 a, Lanes512 b) => new(a._value - b._value);

    public static Lanes512 Add(Lanes512 a, Lanes512 b) => new(a._value + b._value);

    public static Lanes512 Max(Lanes512 a, Lanes512 b) => new(Vector512.Max(a._value, b._value));

    public static Lanes512 Exp(Lanes512 value) => new(Vector512.Exp(value._value));

    public static Lanes512 Keep(Lanes512 value, int first, int end)
    {
        var lane = Vector512<int>.Indices;
        var kept = Vector512.GreaterThanOrEqual(lane, Vector512.Create(first)) & Vector512.LessThan(lane, Vector512.Create(end));
        return new(kept.AsSingle() & value._value);
    }

    public static Lanes512 WidenFloat8(byte* codes, in Float8Widening widening)
    {
        var wide = Vector512.WidenLower(Vector256.WidenLower(Vector128.Load(codes).ToVector256Unsafe()).ToVector512Unsafe()).AsInt32();
        var nan = Vector512.Equals(wide & Vector512.Create(widening.NaNMask), Vector512.Create(widening.NaN)).AsSingle();
        var magnitude = Vector512.ShiftLeft(wide & Vector512.Create(0x7F), 20).AsSingle() * Vector512.Create(widening.Rebias);
        return new(magnitude | (Vector512.ShiftLeft(wide, 24) & Vector512.Create(int.MinValue)).AsSingle() | nan);
    }

    public static Lanes512 WidenBFloat16(ushort* bits) =>
        new(Vector512.ShiftLeft(Vector512.WidenLower(Vector256.Load(bits).ToVector512Unsafe()), 16).AsSingle());

    public static float Sum(Lanes512 value) => Lanes128.Sum(value._value.GetLower() + value._value.GetUpper());
}

/// <summary>Two AVX2 registers.</summary>
internal readonly unsafe struct Lanes256(Vector256<float> low, Vector256<float> high) : ILanes<Lanes256>
{
    private readonly Vector256<float> _low = low, _high = high;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Broadcast(float value) => new(Vector256.Create(value), Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Load(float* source) => new(Vector256.Load(source), Vector256.Load(source + 8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, Lanes256 value)
    {
        value._low.Store(destination);
        value._high.Store(destination + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 MultiplyAdd(Lanes256 a, Lanes256 b, Lanes256 c) =>
        new(Vector256.FusedMultiplyAdd(a._low, b._low, c._low), Vector256.FusedMultiplyAdd(a._high, b._high, c._high));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Subtract(Lanes256 a, Lanes256 b) => new(a._low - b._low, a._high - b._high);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Add(Lanes256 a, Lanes256 b) => new(a._low + b._low, a._high + b._high);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Max(Lanes256 a, Lanes256 b) => new(Vector256.Max(a._low, b._low), Vector256.Max(a._high, b._high));

    public static Lanes256 Exp(Lanes256 value) => new(Vector256.Exp(value._low), Vector256.Exp(value._high));

    public static Lanes256 Keep(Lanes256 value, int first, int end) =>
        new(value._low & Kept(first, end), value._high & Kept(first - 8, end - 8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 WidenFloat8(byte* codes, in Float8Widening widening)
    {
        var pairs = Vector256.WidenLower(Vector128.Load(codes).ToVector256Unsafe());
        return new(Widen(Vector256.WidenLower(pairs), in widening), Widen(Vector256.WidenUpper(pairs), in widening));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 WidenBFloat16(ushort* bits)
    {
        var pairs = Vector256.Load(bits);
        return new(
            Vector256.ShiftLeft(Vector256.WidenLower(pairs), 16).AsSingle(),
            Vector256.ShiftLeft(Vector256.WidenUpper(pairs), 16).AsSingle());
    }

    public static float Sum(Lanes256 value) => Lanes128.Sum(value._low + value._high);

    private static Vector256<float> Kept(int first, int end)
    {
        var lane = Vector256<int>.Indices;
        return (Vector256.GreaterThanOrEqual(lane, Vector256.Create(first)) & Vector256.LessThan(lane, Vector256.Create(end))).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Widen(Vector256<uint> codes, in Float8Widening widening)
    {
        var wide = codes.AsInt32();
        var nan = Vector256.Equals(wide & Vector256.Create(widening.NaNMask), Vector256.Create(widening.NaN)).AsSingle();
        var magnitude = Vector256.ShiftLeft(wide & Vector256.Create(0x7F), 20).AsSingle() * Vector256.Create(widening.Rebias);
        return magnitude | (Vector256.ShiftLeft(wide, 24) & Vector256.Create(int.MinValue)).AsSingle() | nan;
    }
}

/// <summary>Four registers of 128 bits: Arm, and every machine without AVX2.</summary>
internal readonly unsafe struct Lanes128(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d)
    : ILanes<Lanes128>
{
    private readonly Vector128<float> _a = a, _b = b, _c = c, _d = d;

    public static Lanes128 Broadcast(float value)
    {
        var all = Vector128.Create(value);
        return new(all, all, all, all);
    }

    public static Lanes128 Load(float* source) =>
        new(Vector128.Load(source), Vector128.Load(source + 4), Vector128.Load(source + 8), Vector128.Load(source + 12));

    public static void Store(float* destination, Lanes128 value)
    {
        value._a.Store(destination);
        value._b.Store(destination + 4);
        value._c.Store(destination + 8);
        value._d.Store(destination + 12);
    }

    public static Lanes128 MultiplyAdd(Lanes128 a, Lanes128 b, Lanes128 c) => new(
        Vector128.FusedMultiplyAdd(a._a, b._a, c._a),
        Vector128.FusedMultiplyAdd(a._b, b._b, c._b),
        Vector128.FusedMultiplyAdd(a._c, b._c, c._c),
        Vector128.FusedMultiplyAdd(a._d, b._d, c._d));

    public static Lanes128 Subtract(Lanes128 a, Lanes128 b) => new(a._a - b._a, a._b - b._b, a._c - b._c, a._d - b._d);

    public static Lanes128 Add(Lanes128 a, Lanes128 b) => new(a._a + b._a, a._b + b._b, a._c + b._c, a._d + b._d);

    public static Lanes128 Max(Lanes128 a, Lanes128 b) =>
        new(Vector128.Max(a._a, b._a), Vector128.Max(a._b, b._b), Vector128.Max(a._c, b._c), Vector128.Max(a._d, b._d));

    public static Lanes128 Exp(Lanes128 value) =>
        new(Vector128.Exp(value._a), Vector128.Exp(value._b), Vector128.Exp(value._c), Vector128.Exp(value._d));

    public static Lanes128 Keep(Lanes128 value, int first, int end) => new(
        value._a & Kept(first, end), value._b & Kept(first - 4, end - 4),
        value._c & Kept(first - 8, end - 8), value._d & Kept(first - 12, end - 12));

    public static Lanes128 WidenFloat8(byte* codes, in Float8Widening widening)
    {
        var (low, high) = Vector128.Widen(Vector128.Load(codes));
        var (a, b) = Vector128.Widen(low);
        var (c, d) = Vector128.Widen(high);
        return new(Widen(a, in widening), Widen(b, in widening), Widen(c, in widening), Widen(d, in widening));
    }

    public static Lanes128 WidenBFloat16(ushort* bits)
    {
        var (a, b) = Vector128.Widen(Vector128.Load(bits));
        var (c, d) = Vector128.Widen(Vector128.Load(bits + 8));
        return new(
            Vector128.ShiftLeft(a, 16).AsSingle(), Vector128.ShiftLeft(b, 16).AsSingle(),
            Vector128.ShiftLeft(c, 16).AsSingle(), Vector128.ShiftLeft(d, 16).AsSingle());
    }

    public static float Sum(Lanes128 value) => Sum(Vector256.Create(value._a + value._c, value._b + value._d));

    /// <summary>Folds eight lanes by 4, 2 and 1: shared by all widths.</summary>
    public static float Sum(Vector256<float> eight)
    {
        var four = eight.GetLower() + eight.GetUpper();
        var two = four + Vector128.Shuffle(four, Vector128.Create(2, 3, 0, 1));
        return two.GetElement(0) + two.GetElement(1);
    }

    private static Vector128<float> Kept(int first, int end)
    {
        var lane = Vector128<int>.Indices;
        return (Vector128.GreaterThanOrEqual(lane, Vector128.Create(first)) & Vector128.LessThan(lane, Vector128.Create(end))).AsSingle();
    }

    private static Vector128<float> Widen(Vector128<uint> codes, in Float8Widening widening)
    {
        var wide = codes.AsInt32();
        var nan = Vector128.Equals(wide & Vector128.Create(widening.NaNMask), Vector128.Create(widening.NaN)).AsSingle();
        var magnitude = Vector128.ShiftLeft(wide & Vector128.Create(0x7F), 20).AsSingle() * Vector128.Create(widening.Rebias);
        return magnitude | (Vector128.ShiftLeft(wide, 24) & Vector128.Create(int.MinValue)).AsSingle() | nan;
    }
}
