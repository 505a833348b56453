using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Octet.Backends;

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
    public static void AddTo(float* total, float* from, Lanes256 sum) => (Vector256.Load(from) + sum._value).Store(total);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddProduct(ref Lanes256 sum, float* a, int offset, Lanes256 b) =>
        sum._value = Vector256.FusedMultiplyAdd(b._value, Vector256.Load(a + offset), sum._value);

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

        // NOTE: not a multiplication, which takes twice as long on some processors if its operand is subnormal.
        return new(Vector256.FusedMultiplyAdd(signed, Vector256.Create(rebias), Vector256.Create(-0f)));
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
        // Two codes to a word: sign, exponent and mantissa to where a BF16 has them; then each BF16 to the upper half of a single.
        var pairs = Vector256.Load((short*)codes);
        Mark(codes, mask, flip, ref mark);
        var odd = Vector256.ShiftRightArithmetic(pairs, 4).AsInt32();
        var even = Vector256.ShiftRightArithmetic(BytesUp(pairs.AsInt32(), 1).AsInt16(), 4).AsInt32();
        w0 = new((BytesUp(even, 2) & Vector256.Create(unchecked((int)0x87F00000))).AsSingle());
        w1 = new((BytesUp(odd, 2) & Vector256.Create(unchecked((int)0x87F00000))).AsSingle());
        w2 = new((even & Vector256.Create(unchecked((int)0x87F00000))).AsSingle());
        w3 = new((odd & Vector256.Create(unchecked((int)0x87F00000))).AsSingle());
    }

    // Whatever comes into the lower bytes. A shuffle where there is one: some processors have one port for shifts, and two for shuffles.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> BytesUp(Vector256<int> value, [ConstantExpected] byte bytes) =>
        Avx2.IsSupported ? Avx2.ShiftLeftLogical128BitLane(value, bytes) : Vector256.ShiftLeft(value, 8 * bytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenPairs(byte* values, out Lanes256 w0, out Lanes256 w1)
    {
        var pairs = Vector256.Load((int*)values);
        w0 = new(Vector256.ShiftLeft(pairs, 16).AsSingle());
        w1 = new((pairs & Vector256.Create(unchecked((int)0xFFFF0000))).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Mark(byte* codes, byte mask, byte flip, ref Lanes256 mark) =>
        mark = new(Vector256.Max(mark._value.AsByte(), (Vector256.Load(codes) & Vector256.Create(mask)) ^ Vector256.Create(flip)).AsSingle());

    public static bool HasByte(Lanes256 mark, byte value) => Vector256.EqualsAny(mark._value.AsByte(), Vector256.Create(value));
}
