using ILGPU;

namespace Octet.Ilgpu;

/// <summary>How the elements of an array are written and read in kernels, which compute in f32.</summary>
/// <typeparam name="T">The element as it lies in memory.</typeparam>
internal interface IElement<T> where T : unmanaged
{
    /// <summary>Exact widening.</summary>
    static abstract float Widen(T code);

    /// <summary>value / scale to nearest even: infinities and NaN of FP8 become the NaN code, the rest saturates; other types have no scale.</summary>
    static abstract T Narrow(float value, float scale);
}

/// <summary>Singles.</summary>
internal readonly struct SingleElement : IElement<float>
{
    public static float Widen(float code) => code;

    public static float Narrow(float value, float scale) => value;
}

/// <summary>bfloat16 as 16 bits.</summary>
internal readonly struct BFloat16Element : IElement<ushort>
{
    public static float Widen(ushort code) => Interop.IntAsFloat((uint)code << 16);

    public static ushort Narrow(float value, float scale)
    {
        var bits = Interop.FloatAsInt(value);
        return Bits.IsNaN(value)
            ? (ushort)((bits >> 16) | 0x40)
            : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
}

/// <summary>FP8 E4M3 in the OCP encoding as 8 bits.</summary>
internal readonly struct Float8Element : IElement<byte>
{
    /// <summary>The largest magnitude quantisation produces.</summary>
    public const float Limit = 448f;

    private const byte NaNCode = 0x7F;
    private const float SmallestNormal = 0.015625f;
    private const float SubnormalStep = 0.001953125f;

    public static float Widen(byte code)
    {
        var magnitude = (uint)code & 0x7F;

        // Singles hold every value as a normal number: GPUs that flush subnormal ones see none.
        // NOTE: from a signed number, as C# turns an unsigned one into a double first, which many GPUs lack.
        var value = magnitude < 8
            ? (int)magnitude * SubnormalStep
            : Interop.IntAsFloat((magnitude << 20) + (120u << 23));
        value = magnitude == NaNCode ? Interop.IntAsFloat(0x7FC00000u) : value;
        return (code & 0x80) != 0 ? -value : value;
    }

    public static byte Narrow(float value, float scale)
    {
        if (!Bits.IsFinite(value))
        {
            return NaNCode;
        }

        var quotient = value / scale;
        var magnitude = Bits.Magnitude(quotient);
        magnitude = magnitude < Limit ? magnitude : Limit;
        uint code;
        if (magnitude < SmallestNormal)
        {
            // Adding 2^23 subnormal steps rounds to nearest even in the last bits of the sum.
            const float anchor = SubnormalStep * 8388608f;
            code = Interop.FloatAsInt(magnitude + anchor) - Interop.FloatAsInt(anchor);
        }
        else
        {
            var bits = Interop.FloatAsInt(magnitude);
            code = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120u << 3);
        }

        return (byte)(code | ((Interop.FloatAsInt(quotient) >> 24) & 0x80));
    }

    /// <summary>The scale of a block: amax / 448, 1 where that is 0.</summary>
    public static float Scale(float amax)
    {
        var scale = amax / Limit;
        return scale == 0f ? 1f : scale;
    }
}

/// <summary>Questions to a single by its bits: the same on every accelerator, whatever its compiler takes for granted.</summary>
internal static class Bits
{
    public static bool IsNaN(float value) => (Interop.FloatAsInt(value) & 0x7FFFFFFFu) > 0x7F800000u;

    public static bool IsFinite(float value) => (Interop.FloatAsInt(value) & 0x7F800000u) != 0x7F800000u;

    public static float Magnitude(float value) => Interop.IntAsFloat(Interop.FloatAsInt(value) & 0x7FFFFFFFu);

    public static float PositiveInfinity => Interop.IntAsFloat(0x7F800000u);

    public static float NaN => Interop.IntAsFloat(0x7FC00000u);

    public static float NegativeInfinity => Interop.IntAsFloat(0xFF800000u);
}
