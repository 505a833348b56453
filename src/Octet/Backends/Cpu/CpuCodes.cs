using System.Runtime.CompilerServices;

namespace Octet.Backends;

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

    /// <summary>2^i: what the rows of A carry, so that times the raw values of the other side nothing overflows or underflows.</summary>
    static abstract float Prescale { get; }

    /// <summary>What is then left to multiply a sum by.</summary>
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
