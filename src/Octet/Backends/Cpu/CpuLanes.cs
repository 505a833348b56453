using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

/// <summary>
/// A vector of singles of one width: 4, 8 or 16 lanes. The loops over it always sum in sixteen lanes (a narrower vector takes
/// them in several passes) and fold those in one order, so every width gives the same bits.
/// </summary>
internal unsafe interface ILanes<TSelf> where TSelf : unmanaged, ILanes<TSelf>
{
    static abstract int Count { get; }

    static abstract TSelf Broadcast(float value);

    static abstract TSelf Load(float* source);

    static abstract void Store(float* destination, TSelf value);

    /// <summary>a * b + c, rounded once.</summary>
    static abstract TSelf MultiplyAdd(TSelf a, TSelf b, TSelf c);

    /// <summary>sum += a * b, rounded once. NOTE: written in place, for else the compiler moves some of a loop's sums from register to register.</summary>
    static abstract void AddProduct(ref TSelf sum, TSelf a, TSelf b);

    /// <summary>total[i] += sum[i] * scale, rounded once.</summary>
    static abstract void AddScaled(float* total, float scale, TSelf sum);

    static abstract TSelf Multiply(TSelf a, TSelf b);

    static abstract TSelf Add(TSelf a, TSelf b);

    static abstract TSelf Subtract(TSelf a, TSelf b);

    /// <summary>e to a power of at most 0: 2^n * P(r), r = value - n ln 2; within 2 units in the last place (Cephes' polynomial).</summary>
    static abstract TSelf Exp(TSelf value);

    /// <summary>NaN if one of both is.</summary>
    static abstract TSelf Max(TSelf a, TSelf b);

    /// <summary>The value where low &lt;= position &lt; high, else the other.</summary>
    static abstract TSelf KeepBetween(TSelf value, TSelf low, TSelf high, TSelf position, TSelf other);

    /// <summary>The value where it is not equal to what is to be replaced, else the replacement.</summary>
    static abstract TSelf Replace(TSelf value, TSelf replaced, TSelf replacement);

    /// <summary>Count BF16 values, exactly.</summary>
    static abstract TSelf WidenBFloat16(ushort* bits);

    /// <summary>Count FP8 codes exactly, NaN as any number.</summary>
    /// <param name="codes">The codes.</param>
    /// <param name="rebias">2^120 (OCP) or 2^119 (FNUZ): from a code's bits at the top of a single to its value, subnormals included.</param>
    static abstract TSelf WidenFloat8(byte* codes, float rebias);

    /// <summary>Whether the processor has 32 registers of this width, so that a tile may be larger.</summary>
    static abstract bool HasManyRegisters { get; }

    /// <summary>
    /// 4 * Count FP8 codes as singles that are 2^120 (OCP) or 2^119 (FNUZ) times too small, NaN as any number: lane i of the j-th has code 4i + j.
    /// </summary>
    /// <param name="codes">The codes.</param>
    /// <param name="mask">See <paramref name="mark"/>.</param>
    /// <param name="flip">See <paramref name="mark"/>.</param>
    /// <param name="mark">Becomes the larger, byte by byte, of itself and of ((codes and mask) xor flip).</param>
    /// <param name="w0">Codes 4i.</param>
    /// <param name="w1">Codes 4i + 1.</param>
    /// <param name="w2">Codes 4i + 2.</param>
    /// <param name="w3">Codes 4i + 3.</param>
    static abstract void WidenRaw(byte* codes, byte mask, byte flip, ref TSelf mark, out TSelf w0, out TSelf w1, out TSelf w2, out TSelf w3);

    /// <summary>2 * Count BF16 values, exactly: lane i of the j-th has value 2i + j.</summary>
    static abstract void WidenPairs(byte* values, out TSelf w0, out TSelf w1);

    /// <summary>Whether one of the bytes is this.</summary>
    static abstract bool HasByte(TSelf mark, byte value);
}

/// <summary>
/// How the elements of a row are read as singles. Sums take them in groups of 16 * Steps: step j has element Steps * i + j in lane i,
/// which is the order that unpacking a register gives.
/// </summary>
internal unsafe interface ICodes
{
    static abstract int Size { get; }

    /// <summary>Elements that a lane takes from a group.</summary>
    static abstract int Steps { get; }

    /// <summary>A code is NaN where ((code and NaNMask) xor NaNFlip) is NaNMark, the largest that can be; 0 where NaN needs no care.</summary>
    static abstract byte NaNMark { get; }

    static abstract byte NaNMask { get; }

    static abstract byte NaNFlip { get; }

    /// <summary>2^i of a raw single, so that with <see cref="Postscale"/> the product is right: what the rows of A carry.</summary>
    static abstract float Prescale { get; }

    /// <summary>What is left for the block's scale. Prescale times the raw value of the other side neither overflows nor underflows.</summary>
    static abstract float Postscale { get; }

    /// <summary>From a raw single to the value.</summary>
    static abstract float Rebias { get; }

    /// <summary>Where the first NaN is; negative: nowhere, or NaN needs no care.</summary>
    static abstract int IndexOfNaN(ReadOnlySpan<byte> codes);

    /// <summary>Elements in their own order, exactly but for NaN, which is any number where it needs care.</summary>
    static abstract TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes>;
}

internal readonly unsafe struct OcpCodes : ICodes
{
    public static int Size => 1;

    public static int Steps => 4;

    public static byte NaNMark => 0x7F;

    public static byte NaNMask => 0x7F;

    public static byte NaNFlip => 0;

    public static float Prescale => 5.192296858534828e33f; // 2^112

    public static float Postscale => 256f;

    public static float Rebias => 1.3292279957849159e36f; // 2^120

    public static int IndexOfNaN(ReadOnlySpan<byte> codes) => codes.IndexOfAny((byte)0x7F, (byte)0xFF);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> =>
        TLanes.WidenFloat8(source, Rebias);
}

internal readonly unsafe struct FnuzCodes : ICodes
{
    public static int Size => 1;

    public static int Steps => 4;

    public static byte NaNMark => 0xFF;

    public static byte NaNMask => 0xFF;

    public static byte NaNFlip => 0x7F;

    public static float Prescale => 5.192296858534828e33f; // 2^112

    public static float Postscale => 128f;

    public static float Rebias => 6.6461399789245794e35f; // 2^119

    public static int IndexOfNaN(ReadOnlySpan<byte> codes) => codes.IndexOf((byte)0x80);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> =>
        TLanes.WidenFloat8(source, Rebias);
}

internal readonly unsafe struct BFloat16Codes : ICodes
{
    public static int Size => 2;

    public static int Steps => 2;

    public static byte NaNMark => 0;

    public static byte NaNMask => 0;

    public static byte NaNFlip => 0;

    public static float Prescale => 1f;

    public static float Postscale => 1f;

    public static float Rebias => 1f;

    public static int IndexOfNaN(ReadOnlySpan<byte> codes) => -1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> => TLanes.WidenBFloat16((ushort*)source);
}

/// <summary>Sixteen lanes: AVX-512.</summary>
internal unsafe struct Lanes512(Vector512<float> value) : ILanes<Lanes512>
{
    private Vector512<float> _value = value;

    public static int Count => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Broadcast(float value) => new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Load(float* source) => new(Vector512.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, Lanes512 value) => value._value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 MultiplyAdd(Lanes512 a, Lanes512 b, Lanes512 c) =>
        new(Vector512.FusedMultiplyAdd(a._value, b._value, c._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddProduct(ref Lanes512 sum, Lanes512 a, Lanes512 b) =>
        sum._value = Vector512.FusedMultiplyAdd(a._value, b._value, sum._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddScaled(float* total, float scale, Lanes512 sum) =>
        Vector512.FusedMultiplyAdd(sum._value, Vector512.Create(scale), Vector512.Load(total)).Store(total);

    public static Lanes512 Multiply(Lanes512 a, Lanes512 b) => new(a._value * b._value);

    public static Lanes512 Add(Lanes512 a, Lanes512 b) => new(a._value + b._value);

    public static Lanes512 Subtract(Lanes512 a, Lanes512 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Exp(Lanes512 value)
    {
        var x = value._value;
        var z = Vector512.FusedMultiplyAdd(x, Vector512.Create(1.44269504f), Vector512.Create(12582912f)); // the low bits are n
        var n = z - Vector512.Create(12582912f);
        var r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.693359375f), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(2.12194440e-4f), r);
        var p = Vector512.FusedMultiplyAdd(Vector512.Create(1.9875691500e-4f), r, Vector512.Create(1.3981999507e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(8.3334519073e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(4.1665795894e-2f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.6666665459e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(5.0000001201e-1f));
        p = Vector512.FusedMultiplyAdd(p, r * r, r) + Vector512.Create(1f);
        p = (p.AsInt32() + Vector512.ShiftLeft(z.AsInt32(), 23)).AsSingle();
        p = Vector512.ConditionalSelect(Vector512.LessThan(x, Vector512.Create(-87f)), Vector512<float>.Zero, p);
        return new(Vector512.ConditionalSelect(Vector512.Equals(x, x), p, x));
    }

    public static Lanes512 Max(Lanes512 a, Lanes512 b) => new(Vector512.Max(a._value, b._value));

    public static Lanes512 KeepBetween(Lanes512 value, Lanes512 low, Lanes512 high, Lanes512 position, Lanes512 other) => new(Vector512.ConditionalSelect(
        Vector512.GreaterThanOrEqual(position._value, low._value) & Vector512.LessThan(position._value, high._value), value._value, other._value));

    public static Lanes512 Replace(Lanes512 value, Lanes512 replaced, Lanes512 replacement) =>
        new(Vector512.ConditionalSelect(Vector512.Equals(value._value, replaced._value), replacement._value, value._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 WidenBFloat16(ushort* bits)
    {
        var source = Vector256.Load(bits);
        return new(Vector512.ShiftLeft(Vector512.Create(Vector256.WidenLower(source), Vector256.WidenUpper(source)), 16).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 WidenFloat8(byte* codes, float rebias)
    {
        var wide = Widen((sbyte*)codes);
        var signed = (Vector512.ShiftLeft(wide, 20) & Vector512.Create(unchecked((int)0x87F00000))).AsSingle();
        return new(signed * Vector512.Create(rebias));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> Widen(sbyte* codes)
    {
        if (Avx512F.IsSupported)
        {
            return Avx512F.ConvertToVector512Int32(Vector128.Load(codes));
        }

        var (low, high) = Vector128.Widen(Vector128.Load(codes));
        var (a, b) = Vector128.Widen(low);
        var (c, d) = Vector128.Widen(high);
        return Vector512.Create(Vector256.Create(a, b), Vector256.Create(c, d));
    }

    public static bool HasManyRegisters
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenRaw(
        byte* codes, byte mask, byte flip, ref Lanes512 mark, out Lanes512 w0, out Lanes512 w1, out Lanes512 w2, out Lanes512 w3)
    {
        // Sign, exponent and mantissa to where a BF16 has them, the odd bytes of each pair and the even ones; then BF16 to singles.
        var pairs = Vector512.Load((short*)codes);
        mark = new(Vector512.Max(mark._value.AsByte(), (pairs.AsByte() & Vector512.Create(mask)) ^ Vector512.Create(flip)).AsSingle());
        var odd = Vector512.ShiftRightArithmetic(pairs, 4) & Vector512.Create(unchecked((short)0x87F0));
        var even = Vector512.ShiftRightArithmetic(Vector512.ShiftLeft(pairs, 8), 4) & Vector512.Create(unchecked((short)0x87F0));
        var upper = Vector512.Create(unchecked((int)0xFFFF0000));
        w0 = new(Vector512.ShiftLeft(even.AsInt32(), 16).AsSingle());
        w1 = new(Vector512.ShiftLeft(odd.AsInt32(), 16).AsSingle());
        w2 = new((even.AsInt32() & upper).AsSingle());
        w3 = new((odd.AsInt32() & upper).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenPairs(byte* values, out Lanes512 w0, out Lanes512 w1)
    {
        var pairs = Vector512.Load((int*)values);
        w0 = new(Vector512.ShiftLeft(pairs, 16).AsSingle());
        w1 = new((pairs & Vector512.Create(unchecked((int)0xFFFF0000))).AsSingle());
    }

    public static bool HasByte(Lanes512 mark, byte value) => Vector512.EqualsAny(mark._value.AsByte(), Vector512.Create(value));
}

/// <summary>Eight lanes: AVX2.</summary>
internal unsafe struct Lanes256(Vector256<float> value) : ILanes<Lanes256>
{
    private Vector256<float> _value = value;

    public static int Count => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Broadcast(float value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Load(float* source) => new(Vector256.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, Lanes256 value) => value._value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 MultiplyAdd(Lanes256 a, Lanes256 b, Lanes256 c) =>
        new(Vector256.FusedMultiplyAdd(a._value, b._value, c._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddProduct(ref Lanes256 sum, Lanes256 a, Lanes256 b) =>
        sum._value = Vector256.FusedMultiplyAdd(a._value, b._value, sum._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddScaled(float* total, float scale, Lanes256 sum) =>
        Vector256.FusedMultiplyAdd(sum._value, Vector256.Create(scale), Vector256.Load(total)).Store(total);

    public static Lanes256 Multiply(Lanes256 a, Lanes256 b) => new(a._value * b._value);

    public static Lanes256 Add(Lanes256 a, Lanes256 b) => new(a._value + b._value);

    public static Lanes256 Subtract(Lanes256 a, Lanes256 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Exp(Lanes256 value)
    {
        var x = value._value;
        var z = Vector256.FusedMultiplyAdd(x, Vector256.Create(1.44269504f), Vector256.Create(12582912f)); // the low bits are n
        var n = z - Vector256.Create(12582912f);
        var r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-0.693359375f), x);
        r = Vector256.FusedMultiplyAdd(n, Vector256.Create(2.12194440e-4f), r);
        var p = Vector256.FusedMultiplyAdd(Vector256.Create(1.9875691500e-4f), r, Vector256.Create(1.3981999507e-3f));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(8.3334519073e-3f));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(4.1665795894e-2f));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(1.6666665459e-1f));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(5.0000001201e-1f));
        p = Vector256.FusedMultiplyAdd(p, r * r, r) + Vector256.Create(1f);
        p = (p.AsInt32() + Vector256.ShiftLeft(z.AsInt32(), 23)).AsSingle();
        p = Vector256.ConditionalSelect(Vector256.LessThan(x, Vector256.Create(-87f)), Vector256<float>.Zero, p);
        return new(Vector256.ConditionalSelect(Vector256.Equals(x, x), p, x));
    }

    public static Lanes256 Max(Lanes256 a, Lanes256 b) => new(Vector256.Max(a._value, b._value));

    public static Lanes256 KeepBetween(Lanes256 value, Lanes256 low, Lanes256 high, Lanes256 position, Lanes256 other) => new(Vector256.ConditionalSelect(
        Vector256.GreaterThanOrEqual(position._value, low._value) & Vector256.LessThan(position._value, high._value), value._value, other._value));

    public static Lanes256 Replace(Lanes256 value, Lanes256 replaced, Lanes256 replacement) =>
        new(Vector256.ConditionalSelect(Vector256.Equals(value._value, replaced._value), replacement._value, value._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 WidenBFloat16(ushort* bits)
    {
        if (Avx2.IsSupported)
        {
            return new(Vector256.ShiftLeft(Avx2.ConvertToVector256Int32(bits), 16).AsSingle());
        }

        var (low, high) = Vector128.Widen(Vector128.Load(bits));
        return new(Vector256.ShiftLeft(Vector256.Create(low, high), 16).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 WidenFloat8(byte* codes, float rebias)
    {
        var wide = Widen((sbyte*)codes);
        var signed = (Vector256.ShiftLeft(wide, 20) & Vector256.Create(unchecked((int)0x87F00000))).AsSingle();
        return new(signed * Vector256.Create(rebias));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Widen(sbyte* codes)
    {
        if (Avx2.IsSupported)
        {
            return Avx2.ConvertToVector256Int32(codes);
        }

        var (low, high) = Vector128.Widen(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(long*)codes).AsSByte()));
        return Vector256.Create(low, high);
    }

    public static bool HasManyRegisters
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Avx512F.VL.IsSupported;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenRaw(
        byte* codes, byte mask, byte flip, ref Lanes256 mark, out Lanes256 w0, out Lanes256 w1, out Lanes256 w2, out Lanes256 w3)
    {
        // Sign, exponent and mantissa to where a BF16 has them, the odd bytes of each pair and the even ones; then BF16 to singles.
        var pairs = Vector256.Load((short*)codes);
        mark = new(Vector256.Max(mark._value.AsByte(), (pairs.AsByte() & Vector256.Create(mask)) ^ Vector256.Create(flip)).AsSingle());
        var odd = Vector256.ShiftRightArithmetic(pairs, 4) & Vector256.Create(unchecked((short)0x87F0));
        var even = Vector256.ShiftRightArithmetic(Vector256.ShiftLeft(pairs, 8), 4) & Vector256.Create(unchecked((short)0x87F0));
        var upper = Vector256.Create(unchecked((int)0xFFFF0000));
        w0 = new(Vector256.ShiftLeft(even.AsInt32(), 16).AsSingle());
        w1 = new(Vector256.ShiftLeft(odd.AsInt32(), 16).AsSingle());
        w2 = new((even.AsInt32() & upper).AsSingle());
        w3 = new((odd.AsInt32() & upper).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenPairs(byte* values, out Lanes256 w0, out Lanes256 w1)
    {
        var pairs = Vector256.Load((int*)values);
        w0 = new(Vector256.ShiftLeft(pairs, 16).AsSingle());
        w1 = new((pairs & Vector256.Create(unchecked((int)0xFFFF0000))).AsSingle());
    }

    public static bool HasByte(Lanes256 mark, byte value) => Vector256.EqualsAny(mark._value.AsByte(), Vector256.Create(value));
}

/// <summary>Four lanes: Arm, and x64 without AVX2.</summary>
internal unsafe struct Lanes128(Vector128<float> value) : ILanes<Lanes128>
{
    private Vector128<float> _value = value;

    public static int Count => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Broadcast(float value) => new(Vector128.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Load(float* source) => new(Vector128.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, Lanes128 value) => value._value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 MultiplyAdd(Lanes128 a, Lanes128 b, Lanes128 c) =>
        new(Vector128.FusedMultiplyAdd(a._value, b._value, c._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddProduct(ref Lanes128 sum, Lanes128 a, Lanes128 b) =>
        sum._value = Vector128.FusedMultiplyAdd(a._value, b._value, sum._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddScaled(float* total, float scale, Lanes128 sum) =>
        Vector128.FusedMultiplyAdd(sum._value, Vector128.Create(scale), Vector128.Load(total)).Store(total);

    public static Lanes128 Multiply(Lanes128 a, Lanes128 b) => new(a._value * b._value);

    public static Lanes128 Add(Lanes128 a, Lanes128 b) => new(a._value + b._value);

    public static Lanes128 Subtract(Lanes128 a, Lanes128 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Exp(Lanes128 value)
    {
        var x = value._value;
        var z = Vector128.FusedMultiplyAdd(x, Vector128.Create(1.44269504f), Vector128.Create(12582912f)); // the low bits are n
        var n = z - Vector128.Create(12582912f);
        var r = Vector128.FusedMultiplyAdd(n, Vector128.Create(-0.693359375f), x);
        r = Vector128.FusedMultiplyAdd(n, Vector128.Create(2.12194440e-4f), r);
        var p = Vector128.FusedMultiplyAdd(Vector128.Create(1.9875691500e-4f), r, Vector128.Create(1.3981999507e-3f));
        p = Vector128.FusedMultiplyAdd(p, r, Vector128.Create(8.3334519073e-3f));
        p = Vector128.FusedMultiplyAdd(p, r, Vector128.Create(4.1665795894e-2f));
        p = Vector128.FusedMultiplyAdd(p, r, Vector128.Create(1.6666665459e-1f));
        p = Vector128.FusedMultiplyAdd(p, r, Vector128.Create(5.0000001201e-1f));
        p = Vector128.FusedMultiplyAdd(p, r * r, r) + Vector128.Create(1f);
        p = (p.AsInt32() + Vector128.ShiftLeft(z.AsInt32(), 23)).AsSingle();
        p = Vector128.ConditionalSelect(Vector128.LessThan(x, Vector128.Create(-87f)), Vector128<float>.Zero, p);
        return new(Vector128.ConditionalSelect(Vector128.Equals(x, x), p, x));
    }

    public static Lanes128 Max(Lanes128 a, Lanes128 b) => new(Vector128.Max(a._value, b._value));

    public static Lanes128 KeepBetween(Lanes128 value, Lanes128 low, Lanes128 high, Lanes128 position, Lanes128 other) => new(Vector128.ConditionalSelect(
        Vector128.GreaterThanOrEqual(position._value, low._value) & Vector128.LessThan(position._value, high._value), value._value, other._value));

    public static Lanes128 Replace(Lanes128 value, Lanes128 replaced, Lanes128 replacement) =>
        new(Vector128.ConditionalSelect(Vector128.Equals(value._value, replaced._value), replacement._value, value._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 WidenBFloat16(ushort* bits) =>
        new(Vector128.ShiftLeft(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(long*)bits).AsUInt16()), 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 WidenFloat8(byte* codes, float rebias)
    {
        var wide = Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(int*)codes).AsSByte()));
        var signed = (Vector128.ShiftLeft(wide, 20) & Vector128.Create(unchecked((int)0x87F00000))).AsSingle();
        return new(signed * Vector128.Create(rebias));
    }

    public static bool HasManyRegisters
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Avx512F.VL.IsSupported || System.Runtime.Intrinsics.Arm.AdvSimd.IsSupported;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenRaw(
        byte* codes, byte mask, byte flip, ref Lanes128 mark, out Lanes128 w0, out Lanes128 w1, out Lanes128 w2, out Lanes128 w3)
    {
        // Sign, exponent and mantissa to where a BF16 has them, the odd bytes of each pair and the even ones; then BF16 to singles.
        var pairs = Vector128.Load((short*)codes);
        mark = new(Vector128.Max(mark._value.AsByte(), (pairs.AsByte() & Vector128.Create(mask)) ^ Vector128.Create(flip)).AsSingle());
        var odd = Vector128.ShiftRightArithmetic(pairs, 4) & Vector128.Create(unchecked((short)0x87F0));
        var even = Vector128.ShiftRightArithmetic(Vector128.ShiftLeft(pairs, 8), 4) & Vector128.Create(unchecked((short)0x87F0));
        var upper = Vector128.Create(unchecked((int)0xFFFF0000));
        w0 = new(Vector128.ShiftLeft(even.AsInt32(), 16).AsSingle());
        w1 = new(Vector128.ShiftLeft(odd.AsInt32(), 16).AsSingle());
        w2 = new((even.AsInt32() & upper).AsSingle());
        w3 = new((odd.AsInt32() & upper).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenPairs(byte* values, out Lanes128 w0, out Lanes128 w1)
    {
        var pairs = Vector128.Load((int*)values);
        w0 = new(Vector128.ShiftLeft(pairs, 16).AsSingle());
        w1 = new((pairs & Vector128.Create(unchecked((int)0xFFFF0000))).AsSingle());
    }

    public static bool HasByte(Lanes128 mark, byte value) => Vector128.EqualsAny(mark._value.AsByte(), Vector128.Create(value));
}
