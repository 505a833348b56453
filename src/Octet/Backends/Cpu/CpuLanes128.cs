using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

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
    public static void AddTo(float* total, float* from, Lanes128 sum) => (Vector128.Load(from) + sum._value).Store(total);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddProduct(ref Lanes128 sum, float* a, int offset, Lanes128 b) =>
        sum._value = Vector128.FusedMultiplyAdd(b._value, Vector128.Load(a + offset), sum._value);

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

        // NOTE: not a multiplication, which takes twice as long on some processors if its operand is subnormal.
        return new(Vector128.FusedMultiplyAdd(signed, Vector128.Create(rebias), Vector128.Create(-0f)));
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
        // Two codes to a word: sign, exponent and mantissa to where a BF16 has them; then each BF16 to the upper half of a single.
        var pairs = Vector128.Load((short*)codes);
        Mark(codes, mask, flip, ref mark);
        var odd = Vector128.ShiftRightArithmetic(pairs, 4).AsInt32();
        var even = Vector128.ShiftRightArithmetic(BytesUp(pairs.AsInt32(), 1).AsInt16(), 4).AsInt32();
        w0 = new((BytesUp(even, 2) & Vector128.Create(unchecked((int)0x87F00000))).AsSingle());
        w1 = new((BytesUp(odd, 2) & Vector128.Create(unchecked((int)0x87F00000))).AsSingle());
        w2 = new((even & Vector128.Create(unchecked((int)0x87F00000))).AsSingle());
        w3 = new((odd & Vector128.Create(unchecked((int)0x87F00000))).AsSingle());
    }

    // Whatever comes into the lower bytes. A shuffle where there is one: some processors have one port for shifts, and two for shuffles.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> BytesUp(Vector128<int> value, [ConstantExpected] byte bytes) =>
        Sse2.IsSupported ? Sse2.ShiftLeftLogical128BitLane(value, bytes) : Vector128.ShiftLeft(value, 8 * bytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenPairs(byte* values, out Lanes128 w0, out Lanes128 w1)
    {
        var pairs = Vector128.Load((int*)values);
        w0 = new(Vector128.ShiftLeft(pairs, 16).AsSingle());
        w1 = new((pairs & Vector128.Create(unchecked((int)0xFFFF0000))).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Mark(byte* codes, byte mask, byte flip, ref Lanes128 mark) =>
        mark = new(Vector128.Max(mark._value.AsByte(), (Vector128.Load(codes) & Vector128.Create(mask)) ^ Vector128.Create(flip)).AsSingle());

    public static bool HasByte(Lanes128 mark, byte value) => Vector128.EqualsAny(mark._value.AsByte(), Vector128.Create(value));
}
