using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

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
    public static void AddTo(float* total, float* from, Lanes512 sum) =>
        ((Vector256.Load(from) + sum._value.GetLower()) + sum._value.GetUpper()).Store(total);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddProduct(ref Lanes512 sum, float* a, int offset, Lanes512 b) =>
        sum._value = Vector512.FusedMultiplyAdd(b._value, Vector512.Load(a + offset), sum._value);

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

        // NOTE: not a multiplication, which takes twice as long on some processors if its operand is subnormal.
        return new(Vector512.FusedMultiplyAdd(signed, Vector512.Create(rebias), Vector512.Create(-0f)));
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
        // Two codes to a word: sign, exponent and mantissa to where a BF16 has them; then each BF16 to the upper half of a single.
        var pairs = Vector512.Load((short*)codes);
        Mark(codes, mask, flip, ref mark);
        var odd = Vector512.ShiftRightArithmetic(pairs, 4).AsInt32();
        var even = Vector512.ShiftRightArithmetic(BytesUp(pairs.AsInt32(), 1).AsInt16(), 4).AsInt32();
        w0 = new((BytesUp(even, 2) & Vector512.Create(unchecked((int)0x87F00000))).AsSingle());
        w1 = new((BytesUp(odd, 2) & Vector512.Create(unchecked((int)0x87F00000))).AsSingle());
        w2 = new((even & Vector512.Create(unchecked((int)0x87F00000))).AsSingle());
        w3 = new((odd & Vector512.Create(unchecked((int)0x87F00000))).AsSingle());
    }

    // Whatever comes into the lower bytes. A shuffle where there is one: some processors have one port for shifts, and two for shuffles.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> BytesUp(Vector512<int> value, [ConstantExpected] byte bytes) =>
        Avx512BW.IsSupported ? Avx512BW.ShiftLeftLogical128BitLane(value.AsByte(), bytes).AsInt32() : Vector512.ShiftLeft(value, 8 * bytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenPairs(byte* values, out Lanes512 w0, out Lanes512 w1)
    {
        var pairs = Vector512.Load((int*)values);
        w0 = new(Vector512.ShiftLeft(pairs, 16).AsSingle());
        w1 = new((pairs & Vector512.Create(unchecked((int)0xFFFF0000))).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Mark(byte* codes, byte mask, byte flip, ref Lanes512 mark) =>
        mark = new(Vector512.Max(mark._value.AsByte(), (Vector512.Load(codes) & Vector512.Create(mask)) ^ Vector512.Create(flip)).AsSingle());

    public static bool HasByte(Lanes512 mark, byte value) => Vector512.EqualsAny(mark._value.AsByte(), Vector512.Create(value));
}
