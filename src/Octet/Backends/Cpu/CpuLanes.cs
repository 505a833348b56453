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

    static abstract TSelf Add(TSelf a, TSelf b);

    static abstract TSelf Subtract(TSelf a, TSelf b);

    static abstract TSelf Exp(TSelf value);

    /// <summary>Count BF16 values, exactly.</summary>
    static abstract TSelf WidenBFloat16(ushort* bits);

    /// <summary>Count FP8 codes, exactly.</summary>
    /// <param name="codes">The codes.</param>
    /// <param name="rebias">2^120 (OCP) or 2^119 (FNUZ): from a code's bits at the top of a single to its value, subnormals included.</param>
    /// <param name="nanMask">A code is NaN where (code and nanMask) equals <paramref name="nan"/>.</param>
    /// <param name="nan">See <paramref name="nanMask"/>.</param>
    static abstract TSelf WidenFloat8(byte* codes, float rebias, int nanMask, int nan);
}

/// <summary>How the elements of a row are read as singles.</summary>
internal unsafe interface ICodes
{
    static abstract int Size { get; }

    static abstract TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes>;
}

internal readonly unsafe struct OcpCodes : ICodes
{
    public static int Size => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> =>
        TLanes.WidenFloat8(source, 1.3292279957849159e36f, 0x7F, 0x7F);
}

internal readonly unsafe struct FnuzCodes : ICodes
{
    public static int Size => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> =>
        TLanes.WidenFloat8(source, 6.6461399789245794e35f, 0xFF, 0x80);
}

internal readonly unsafe struct BFloat16Codes : ICodes
{
    public static int Size => 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> => TLanes.WidenBFloat16((ushort*)source);
}

internal readonly unsafe struct SingleCodes : ICodes
{
    public static int Size => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source) where TLanes : unmanaged, ILanes<TLanes> => TLanes.Load((float*)source);
}

/// <summary>Sixteen lanes: AVX-512.</summary>
internal readonly unsafe struct Lanes512(Vector512<float> value) : ILanes<Lanes512>
{
    private readonly Vector512<float> _value = value;

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

    public static Lanes512 Add(Lanes512 a, Lanes512 b) => new(a._value + b._value);

    public static Lanes512 Subtract(Lanes512 a, Lanes512 b) => new(a._value - b._value);

    public static Lanes512 Exp(Lanes512 value) => new(Vector512.Exp(value._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 WidenBFloat16(ushort* bits)
    {
        var source = Vector256.Load(bits);
        return new(Vector512.ShiftLeft(Vector512.Create(Vector256.WidenLower(source), Vector256.WidenUpper(source)), 16).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 WidenFloat8(byte* codes, float rebias, int nanMask, int nan)
    {
        var wide = Widen((sbyte*)codes);
        var isNaN = Vector512.Equals(wide & Vector512.Create(nanMask), Vector512.Create(nan)).AsSingle();
        var signed = (Vector512.ShiftLeft(wide, 20) & Vector512.Create(unchecked((int)0x87F00000))).AsSingle();
        return new((signed * Vector512.Create(rebias)) | isNaN);
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
}

/// <summary>Eight lanes: AVX2.</summary>
internal readonly unsafe struct Lanes256(Vector256<float> value) : ILanes<Lanes256>
{
    private readonly Vector256<float> _value = value;

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

    public static Lanes256 Add(Lanes256 a, Lanes256 b) => new(a._value + b._value);

    public static Lanes256 Subtract(Lanes256 a, Lanes256 b) => new(a._value - b._value);

    public static Lanes256 Exp(Lanes256 value) => new(Vector256.Exp(value._value));

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
    public static Lanes256 WidenFloat8(byte* codes, float rebias, int nanMask, int nan)
    {
        var wide = Widen((sbyte*)codes);
        var isNaN = Vector256.Equals(wide & Vector256.Create(nanMask), Vector256.Create(nan)).AsSingle();
        var signed = (Vector256.ShiftLeft(wide, 20) & Vector256.Create(unchecked((int)0x87F00000))).AsSingle();
        return new((signed * Vector256.Create(rebias)) | isNaN);
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
}

/// <summary>Four lanes: Arm, and x64 without AVX2.</summary>
internal readonly unsafe struct Lanes128(Vector128<float> value) : ILanes<Lanes128>
{
    private readonly Vector128<float> _value = value;

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

    public static Lanes128 Add(Lanes128 a, Lanes128 b) => new(a._value + b._value);

    public static Lanes128 Subtract(Lanes128 a, Lanes128 b) => new(a._value - b._value);

    public static Lanes128 Exp(Lanes128 value) => new(Vector128.Exp(value._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 WidenBFloat16(ushort* bits) =>
        new(Vector128.ShiftLeft(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(long*)bits).AsUInt16()), 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 WidenFloat8(byte* codes, float rebias, int nanMask, int nan)
    {
        var wide = Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(int*)codes).AsSByte()));
        var isNaN = Vector128.Equals(wide & Vector128.Create(nanMask), Vector128.Create(nan)).AsSingle();
        var signed = (Vector128.ShiftLeft(wide, 20) & Vector128.Create(unchecked((int)0x87F00000))).AsSingle();
        return new((signed * Vector128.Create(rebias)) | isNaN);
    }
}
