namespace Octet.Inference.Grammars;

/// <summary>A set of bytes: 256 bits.</summary>
internal readonly record struct ByteSet(ulong A, ulong B, ulong C, ulong D)
{
    /// <summary>One byte.</summary>
    public static ByteSet Of(byte value) => Range(value, value);

    /// <summary>The characters of an ASCII text.</summary>
    public static ByteSet Of(ReadOnlySpan<byte> values)
    {
        ByteSet all = default;
        foreach (var value in values)
        {
            all |= Of(value);
        }

        return all;
    }

    /// <summary>From the first to the last byte, both in it.</summary>
    public static ByteSet Range(int first, int last)
    {
        static ulong Word(int first, int last) =>
            first > 63 || last < 0 ? 0 : ulong.MaxValue >> (63 - Math.Min(last, 63) + Math.Max(first, 0)) << Math.Max(first, 0);
        return new(Word(first, last), Word(first - 64, last - 64), Word(first - 128, last - 128), Word(first - 192, last - 192));
    }

    /// <summary>Whether a byte is in it.</summary>
    public bool Contains(byte value) => ((value < 128 ? value < 64 ? A : B : value < 192 ? C : D) >> value & 1) != 0;

    public static ByteSet operator |(ByteSet x, ByteSet y) => new(x.A | y.A, x.B | y.B, x.C | y.C, x.D | y.D);

    /// <summary>The bytes that are in x and not in y.</summary>
    public static ByteSet operator -(ByteSet x, ByteSet y) => new(x.A & ~y.A, x.B & ~y.B, x.C & ~y.C, x.D & ~y.D);
}
