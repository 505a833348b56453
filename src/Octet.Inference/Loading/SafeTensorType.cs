namespace Octet.Inference.Loading;

/// <summary>The element type of a tensor in a .safetensors file.</summary>
public enum SafeTensorType
{
    /// <summary>One byte, 0 or 1 (<c>BOOL</c>).</summary>
    Boolean,

    /// <summary>Unsigned 8-bit integer (<c>U8</c>).</summary>
    UInt8,

    /// <summary>Signed 8-bit integer (<c>I8</c>).</summary>
    Int8,

    /// <summary>OCP FP8 with 4 exponent and 3 mantissa bits (<c>F8_E4M3</c>).</summary>
    Float8E4M3,

    /// <summary>OCP FP8 with 5 exponent and 2 mantissa bits (<c>F8_E5M2</c>).</summary>
    Float8E5M2,

    /// <summary>A power of two in 8 bits, used as a scale (<c>F8_E8M0</c>).</summary>
    Float8E8M0,

    /// <summary>Unsigned 16-bit integer (<c>U16</c>).</summary>
    UInt16,

    /// <summary>Signed 16-bit integer (<c>I16</c>).</summary>
    Int16,

    /// <summary>IEEE 754 half precision (<c>F16</c>).</summary>
    Float16,

    /// <summary>The upper half of an IEEE 754 single (<c>BF16</c>).</summary>
    BFloat16,

    /// <summary>Unsigned 32-bit integer (<c>U32</c>).</summary>
    UInt32,

    /// <summary>Signed 32-bit integer (<c>I32</c>).</summary>
    Int32,

    /// <summary>IEEE 754 single precision (<c>F32</c>).</summary>
    Float32,

    /// <summary>Unsigned 64-bit integer (<c>U64</c>).</summary>
    UInt64,

    /// <summary>Signed 64-bit integer (<c>I64</c>).</summary>
    Int64,

    /// <summary>IEEE 754 double precision (<c>F64</c>).</summary>
    Float64,
}

/// <summary>The sizes and file names of <see cref="SafeTensorType"/>.</summary>
public static class SafeTensorTypes
{
    private static readonly string[] Names =
        ["BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64"];

    /// <summary>The size of one element in bytes: 1, 2, 4 or 8.</summary>
    public static int SizeInBytes(this SafeTensorType type) => type switch
    {
        < SafeTensorType.UInt16 => 1,
        < SafeTensorType.UInt32 => 2,
        < SafeTensorType.UInt64 => 4,
        _ => 8,
    };

    /// <summary>The name the file format uses, for instance <c>F8_E4M3</c>.</summary>
    public static string FormatName(this SafeTensorType type) => Names[(int)type];

    internal static bool TryParse(string name, out SafeTensorType type)
    {
        int index = Array.IndexOf(Names, name);
        type = (SafeTensorType)Math.Max(index, 0);
        return index >= 0;
    }
}
