namespace Octet;

/// <summary>Element type of a tensor; the values are those of <c>octet_dtype</c>.</summary>
public enum DType
{
    /// <summary>IEEE single precision.</summary>
    Float32 = 0,

    /// <summary>bfloat16: the upper half of a single.</summary>
    BFloat16 = 1,

    /// <summary>FP8 E4M3, OCP encoding: bias 7, max 448. Checkpoints, NVIDIA, gfx950.</summary>
    Float8E4M3 = 2,

    /// <summary>FP8 E4M3, FNUZ encoding: bias 8, max 240, the same code is half the OCP value. gfx942.</summary>
    Float8E4M3Fnuz = 3,

    /// <summary>32-bit integer.</summary>
    Int32 = 4,

    /// <summary>64-bit integer.</summary>
    Int64 = 5,

    /// <summary>Raw bytes: workspaces.</summary>
    Byte = 6,
}

/// <summary>Sizes and .NET types of <see cref="DType"/>.</summary>
public static class DTypes
{
    /// <summary>Bytes of one element.</summary>
    public static int SizeInBytes(this DType type) => type switch
    {
        DType.Float32 or DType.Int32 => 4,
        DType.BFloat16 => 2,
        DType.Int64 => 8,
        DType.Float8E4M3 or DType.Float8E4M3Fnuz or DType.Byte => 1,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "unknown element type"),
    };

    /// <summary>Whether the type is one of the two FP8 encodings.</summary>
    public static bool IsFloat8(this DType type) => type is DType.Float8E4M3 or DType.Float8E4M3Fnuz;

    /// <summary>The element type that holds <typeparamref name="T"/>.</summary>
    /// <exception cref="ArgumentException">No tensor holds that .NET type.</exception>
    public static DType Of<T>() where T : unmanaged =>
        typeof(T) == typeof(float) ? DType.Float32 :
        typeof(T) == typeof(BFloat16) ? DType.BFloat16 :
        typeof(T) == typeof(Float8E4M3) ? DType.Float8E4M3 :
        typeof(T) == typeof(Float8E4M3Fnuz) ? DType.Float8E4M3Fnuz :
        typeof(T) == typeof(int) ? DType.Int32 :
        typeof(T) == typeof(long) ? DType.Int64 :
        typeof(T) == typeof(byte) ? DType.Byte :
        throw new ArgumentException($"no tensor holds elements of the .NET type {typeof(T)}");
}
