namespace Octet;

/// <summary>What the two FP8 E4M3 encodings share: widening and narrowing by bits, and the rules of quantisation.</summary>
public static class Float8
{
    /// <summary>Rows and columns of a scale block.</summary>
    public const int Block = 128;

    /// <summary>The largest magnitude quantisation produces: 448 (OCP) or 224 (FNUZ), so that the codes of both agree.</summary>
    public static float Limit(DType encoding) => encoding == DType.Float8E4M3Fnuz ? 224f : 448f;

    /// <summary>The code of NaN: 0x7F (OCP; 0xFF is one too) or 0x80 (FNUZ).</summary>
    public static byte NaNCode(DType encoding) => encoding == DType.Float8E4M3Fnuz ? (byte)0x80 : (byte)0x7F;

    /// <summary>Whether a code is NaN.</summary>
    public static bool IsNaN(byte code, DType encoding) =>
        encoding == DType.Float8E4M3Fnuz ? code == 0x80 : (code & 0x7F) == 0x7F;

    /// <summary>Exact widening of a code.</summary>
    public static float Widen(byte code, DType encoding)
    {
        if (IsNaN(code, encoding))
        {
            return float.NaN;
        }

        // The seven magnitude bits at the top of a single's exponent and mantissa; multiplying by the difference of the
        // biases is exact and makes subnormals right.
        var magnitude = BitConverter.UInt32BitsToSingle((uint)(code & 0x7F) << 20);
        var value = magnitude * (encoding == DType.Float8E4M3Fnuz ? 6.6461399789245794e35f : 1.3292279957849159e36f);
        return (code & 0x80) != 0 ? -value : value;
    }

    /// <summary>Narrowing to nearest even, saturated at <paramref name="limit"/>; NaN gives the NaN code.</summary>
    /// <param name="value">Any single; infinities saturate.</param>
    /// <param name="encoding">One of the two FP8 encodings.</param>
    /// <param name="limit">A representable value, at most the largest finite one.</param>
    public static byte Narrow(float value, DType encoding, float limit)
    {
        if (float.IsNaN(value))
        {
            return NaNCode(encoding);
        }

        var fnuz = encoding == DType.Float8E4M3Fnuz;
        var smallestNormal = fnuz ? 0.0078125f : 0.015625f;
        var magnitude = MathF.Min(MathF.Abs(value), limit);
        uint code;
        if (magnitude < smallestNormal)
        {
            // Adding 2^23 units of the subnormal step rounds to nearest even in the last mantissa bits.
            var anchor = smallestNormal * 1048576f;
            code = BitConverter.SingleToUInt32Bits(magnitude + anchor) - BitConverter.SingleToUInt32Bits(anchor);
        }
        else
        {
            var bits = BitConverter.SingleToUInt32Bits(magnitude);
            bits += 0x7FFFF + ((bits >> 20) & 1);
            code = (bits >> 20) - (uint)((fnuz ? 119 : 120) << 3);
        }

        if (fnuz && code == 0)
        {
            return 0; // FNUZ has no -0: its code is the NaN
        }

        return (byte)(code | (BitConverter.SingleToUInt32Bits(value) >> 24 & 0x80));
    }

    /// <summary>The scale of a block: amax / limit, 1 where that is 0.</summary>
    /// <param name="amax">The largest finite magnitude of the block.</param>
    /// <param name="encoding">One of the two FP8 encodings.</param>
    public static float Scale(float amax, DType encoding)
    {
        var scale = amax / Limit(encoding);
        return scale == 0f ? 1f : scale;
    }
}
