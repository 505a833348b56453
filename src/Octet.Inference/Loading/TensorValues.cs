using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>Which values the tensors of a checkpoint may hold, and how they are read.</summary>
/// <remarks>
/// A weight is finite and at most 2^16 in magnitude, about what F16 holds. No trained weight comes near; with larger ones the product of
/// gate, up and down can pass 2^64, whose square is infinite in f32: the norm behind it then gives zeros, which look like a result. A scale
/// is from 0 to 2^16/448, so that no code times its scale is a larger weight (a FNUZ code is half as large, its scale doubled); 0 only over
/// a block of zeros.
/// </remarks>
internal static class TensorValues
{
    /// <summary>2^16.</summary>
    public const float LargestWeight = 65536f;

    /// <summary>2^16 over the largest FP8 code.</summary>
    public const float LargestScale = LargestWeight / 448;

    private const string Limit = "a weight must be a finite number of at most 65536 in magnitude; compare the file's checksum with its publisher's";

    /// <summary>The first element that no weight may be, or -1. Types other than FP8 E4M3, BF16, F16 and F32 have none.</summary>
    public static int IndexOfUnusable(SafeTensorType type, ReadOnlySpan<byte> elements) => type switch
    {
        SafeTensorType.Float8E4M3 => elements.IndexOfAny((byte)0x7F, (byte)0xFF),
        SafeTensorType.BFloat16 => IndexOfLarger(MemoryMarshal.Cast<byte, short>(elements), (short)((BFloat16)LargestWeight).Bits),
        SafeTensorType.Float16 => IndexOfLarger(MemoryMarshal.Cast<byte, short>(elements), BitConverter.HalfToInt16Bits(Half.MaxValue)),
        SafeTensorType.Float32 => IndexOfLarger(MemoryMarshal.Cast<byte, int>(elements), BitConverter.SingleToInt32Bits(LargestWeight)),
        _ => -1,
    };

    /// <summary>Refuses elements of <paramref name="tensor"/> that no weight may be.</summary>
    /// <param name="tensor">Where they are from.</param>
    /// <param name="first">The position of the first of them in the tensor.</param>
    /// <param name="elements">Their bytes.</param>
    /// <exception cref="ModelFormatException">One is not finite or too large; the message has its position and value.</exception>
    public static void CheckWeights(SafeTensor tensor, long first, ReadOnlySpan<byte> elements)
    {
        if (IndexOfUnusable(tensor.Type, elements) is not (var bad and >= 0))
        {
            return;
        }

        var size = tensor.Type.SizeInBytes();
        var value = tensor.Type == SafeTensorType.Float8E4M3
            ? $"the FP8 NaN 0x{elements[bad]:x2}"
            : ToSingles(tensor, elements.Slice(bad * size, size))[0].ToString(CultureInfo.InvariantCulture);
        throw new ModelFormatException($"{tensor.File}: tensor {tensor} holds {value} at position {first + bad}; {Limit}");
    }

    /// <summary>Refuses a scale out of its range: by default one that is negative, not finite or so large that a weight would be.</summary>
    /// <exception cref="ModelFormatException">The message has position and value.</exception>
    public static void CheckScale(SafeTensor tensor, long position, float scale, float least = 0, float most = LargestScale)
    {
        if (!(scale >= least && scale <= most))
        {
            throw new ModelFormatException(string.Create(
                CultureInfo.InvariantCulture,
                $"{tensor.File}: tensor {tensor} holds {scale} at position {position}; a scale must be from {least:g3} to {most:g3}, so that no value overflows; compare the file's checksum with its publisher's"));
        }
    }

    /// <summary>Elements of <paramref name="tensor"/>, given as its bytes.</summary>
    /// <exception cref="ModelFormatException">The tensor is not F32, BF16, F16 or F8_E8M0.</exception>
    public static float[] ToSingles(SafeTensor tensor, ReadOnlySpan<byte> elements)
    {
        var singles = new float[elements.Length / tensor.Type.SizeInBytes()];
        switch (tensor.Type)
        {
            case SafeTensorType.Float32:
                elements.CopyTo(MemoryMarshal.AsBytes(singles.AsSpan()));
                break;
            case SafeTensorType.BFloat16:
                Convert<BFloat16>(elements, singles, x => (float)x);
                break;
            case SafeTensorType.Float16:
                Convert<Half>(elements, singles, x => (float)x);
                break;
            case SafeTensorType.Float8E8M0:
                Convert<byte>(elements, singles, x => x == 0xFF ? float.NaN : MathF.ScaleB(1, x - 127));
                break;
            default:
                throw new ModelFormatException($"{tensor.File}: tensor {tensor} must be F32, BF16 or F16");
        }

        return singles;
    }

    private static void Convert<T>(ReadOnlySpan<byte> elements, float[] singles, Func<T, float> convert) where T : unmanaged
    {
        var source = MemoryMarshal.Cast<byte, T>(elements);
        for (var i = 0; i < singles.Length; i++)
        {
            singles[i] = convert(source[i]);
        }
    }

    // Floats without their sign are ordered as their bits are, with infinity and NaN last: one comparison finds all of them.
    private static int IndexOfLarger<T>(ReadOnlySpan<T> bits, T limit) where T : unmanaged, IBinaryInteger<T>, IMinMaxValue<T>
    {
        var (mask, limits) = (new Vector<T>(T.MaxValue), new Vector<T>(limit));
        var i = 0;
        for (; i <= bits.Length - Vector<T>.Count; i += Vector<T>.Count)
        {
            if (Vector.GreaterThanAny(new Vector<T>(bits[i..]) & mask, limits))
            {
                break;
            }
        }

        for (; i < bits.Length; i++)
        {
            if ((bits[i] & T.MaxValue) > limit)
            {
                return i;
            }
        }

        return -1;
    }
}
