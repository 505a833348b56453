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

    /// <summary>sum += a * b, rounded once. NOTE: written in place, for else the compiler moves some of a loop's sums from register to register.</summary>
    static abstract void AddProduct(ref TSelf sum, TSelf a, TSelf b);

    /// <summary>The same for what is used once, straight from memory. NOTE: a + offset is added up in here, or the compiler does it beforehand.</summary>
    static abstract void AddProduct(ref TSelf sum, float* a, int offset, TSelf b);

    /// <summary>total[i] = from[i] + sum[i]; sixteen lanes are two of eight, added one after the other.</summary>
    static abstract void AddTo(float* total, float* from, TSelf sum);

    static abstract TSelf Multiply(TSelf a, TSelf b);

    static abstract TSelf Add(TSelf a, TSelf b);

    static abstract TSelf Subtract(TSelf a, TSelf b);

    /// <summary>e to a power of at most 0: 2^n * P(r), r = value - n ln 2; within 2 units in the last place (Cephes' polynomial).</summary>
    static abstract TSelf Exp(TSelf value);

    /// <summary>NaN if one of both is.</summary>
    static abstract TSelf Max(TSelf a, TSelf b);

    /// <summary>The value where low &lt;= position &lt; high, else the other.</summary>
    static abstract TSelf KeepBetween(TSelf value, TSelf low, TSelf high, TSelf position, TSelf other);

    /// <summary>The value where it is not equal to what is to be replaced, else the replacement.</summary>
    static abstract TSelf Replace(TSelf value, TSelf replaced, TSelf replacement);

    /// <summary>Count BF16 values, exactly.</summary>
    static abstract TSelf WidenBFloat16(ushort* bits);

    /// <summary>Count FP8 codes exactly, NaN as any number.</summary>
    /// <param name="codes">The codes.</param>
    /// <param name="rebias">2^120 (OCP) or 2^119 (FNUZ): from a code's bits at the top of a single to its value, subnormals included.</param>
    static abstract TSelf WidenFloat8(byte* codes, float rebias);

    /// <summary>Whether the processor has 32 registers of this width, so that a tile may be larger.</summary>
    static abstract bool HasManyRegisters { get; }

    /// <summary>
    /// 4 * Count FP8 codes as singles that are 2^120 (OCP) or 2^119 (FNUZ) times too small, NaN as any number: lane i of the j-th has code 4i + j.
    /// </summary>
    /// <param name="codes">The codes.</param>
    /// <param name="mask">As in <see cref="Mark"/>.</param>
    /// <param name="flip">As in <see cref="Mark"/>.</param>
    /// <param name="mark">As in <see cref="Mark"/>.</param>
    /// <param name="w0">Codes 4i.</param>
    /// <param name="w1">Codes 4i + 1.</param>
    /// <param name="w2">Codes 4i + 2.</param>
    /// <param name="w3">Codes 4i + 3.</param>
    static abstract void WidenRaw(byte* codes, byte mask, byte flip, ref TSelf mark, out TSelf w0, out TSelf w1, out TSelf w2, out TSelf w3);

    /// <summary>2 * Count BF16 values, exactly: lane i of the j-th has value 2i + j.</summary>
    static abstract void WidenPairs(byte* values, out TSelf w0, out TSelf w1);

    /// <summary>mark becomes the larger, byte by byte, of itself and of ((code and mask) xor flip), of 4 * Count codes.</summary>
    static abstract void Mark(byte* codes, byte mask, byte flip, ref TSelf mark);

    /// <summary>Whether one of the bytes is this.</summary>
    static abstract bool HasByte(TSelf mark, byte value);
}
