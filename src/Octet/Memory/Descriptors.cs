namespace Octet;

/// <summary>FP8 rows with one scale per row and 128 columns: value = code * scale.</summary>
/// <param name="Values">[rows, columns] FP8.</param>
/// <param name="Scales">[rows, ceil(columns/128)] f32.</param>
public record struct QuantizedTensor(TensorView Values, TensorView Scales)
{
    /// <summary>[rows, columns] FP8.</summary>
    public TensorView Values = Values;

    /// <summary>[rows, ceil(columns/128)] f32.</summary>
    public TensorView Scales = Scales;

    /// <summary><paramref name="count"/> rows from <paramref name="first"/>; the memory is shared.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer.</exception>
    public readonly QuantizedTensor Rows(long first, long count) => new(Values.Slice(0, first, count), Scales.Slice(0, first, count));
}

/// <summary>How a weight's elements are ordered; the values are those of <c>octet_layout</c>.</summary>
public enum WeightLayout
{
    /// <summary>[n, k], k contiguous.</summary>
    RowMajor = 0,
}

/// <summary>
/// A weight matrix [n, k], or a stack of experts [experts, n, k]: BF16 without scales, or FP8 with one f32 scale for each
/// 128 x 128 block. The offsets (0..127) say where in its first scale block a tensor-parallel shard begins.
/// </summary>
public sealed record Weight
{
    /// <summary>[n, k] or [experts, n, k], BF16 or FP8; the last dimension contiguous.</summary>
    public required TensorView Values { get; init; }

    /// <summary>[(experts,) ceil((ScaleRowOffset + n)/128), ceil((ScaleColumnOffset + k)/128)] f32; left out for BF16.</summary>
    public TensorView Scales { get; init; }

    /// <summary>Row 0 lies this many rows into its first scale block.</summary>
    public int ScaleRowOffset { get; init; }

    /// <summary>Column 0 lies this many columns into its first scale block.</summary>
    public int ScaleColumnOffset { get; init; }

    /// <summary>Order of the elements.</summary>
    public WeightLayout Layout { get; init; }

    /// <summary>
    /// [experts] Int64: the address of each expert's matrix, where they do not lie in one stack, as in a mapped checkpoint (any alignment);
    /// Values then stands for the first, with the shape of all. Left out: a stack. Only devices with
    /// <see cref="Octet.Backends.DeviceProperties.SharesHostMemory"/> take it.
    /// </summary>
    public TensorView ExpertAddresses { get; init; }

    /// <summary>Experts in the stack; 1 for a plain matrix.</summary>
    public long Experts => Values.Rank == 3 ? Values.Shape[0] : 1;

    /// <summary>Output features.</summary>
    public long N => Values.Shape[^2];

    /// <summary>Input features.</summary>
    public long K => Values.Shape[^1];
}

/// <summary>
/// The paged KV cache of one layer. slot = block * BlockSize + offset in the block. K pages are [block, head, token, dim], V
/// pages [block, head, dim, token], so that the reduced dimension of each product is contiguous. Fill both once when they are
/// allocated: V is read in runs of 16 bytes that may reach past a context; what lies there changes no result.
/// </summary>
public sealed record KvCache
{
    /// <summary>[blocks, kv heads, block size, head dim], BF16 or the device's FP8.</summary>
    public required TensorView K { get; init; }

    /// <summary>[blocks, kv heads, head dim, block size], the type of K.</summary>
    public required TensorView V { get; init; }

    /// <summary>[1] or [kv heads] f32: value = code * scale; left out for BF16.</summary>
    public TensorView KScales { get; init; }

    /// <summary>[1] or [kv heads] f32; left out for BF16.</summary>
    public TensorView VScales { get; init; }

    /// <summary>Number of blocks.</summary>
    public long Blocks => K.Shape[0];

    /// <summary>KV heads.</summary>
    public int KvHeads => (int)K.Shape[1];

    /// <summary>Tokens of a block: 16, 32, 64 or 128.</summary>
    public int BlockSize => (int)K.Shape[2];

    /// <summary>Elements of a head: 64 or 128.</summary>
    public int HeadDim => (int)K.Shape[3];
}
