using System.Runtime.InteropServices;

namespace Octet.Cases;

/// <summary>
/// A paged KV cache for cases, with a host copy. Every slot nobody filled holds NaN, so whatever reads beyond a context shows it.
/// </summary>
internal sealed class CachePages
{
    private readonly CaseContext _context;
    private readonly DType _type;
    private readonly byte[] _k;
    private readonly byte[] _v;
    private readonly float[] _kScales;
    private readonly float[] _vScales;

    /// <param name="context">Of the case.</param>
    /// <param name="blocks">Blocks that exist; their numbers begin at <paramref name="firstBlock"/>.</param>
    /// <param name="kvHeads">KV heads.</param>
    /// <param name="blockSize">Tokens of a block.</param>
    /// <param name="headDim">Elements of a head.</param>
    /// <param name="fp8">FP8 with scales, or BF16.</param>
    /// <param name="scalePerHead">One scale for each KV head, or one for all.</param>
    /// <param name="firstBlock">Blocks the cache claims before the first that exists: large addresses without the memory.</param>
    public CachePages(
        CaseContext context, int blocks, int kvHeads, int blockSize, int headDim, bool fp8, bool scalePerHead = false, int firstBlock = 0)
    {
        _context = context;
        _type = fp8 ? context.Float8 : DType.BFloat16;
        (Blocks, KvHeads, BlockSize, HeadDim, FirstBlock) = (blocks, kvHeads, blockSize, headDim, firstBlock);
        var elements = (long)blocks * kvHeads * blockSize * headDim;
        (_k, _v) = (new byte[elements * _type.SizeInBytes()], new byte[elements * _type.SizeInBytes()]);
        var nan = fp8 ? Float8.NaNCode(_type) : (byte)0xFF;
        _k.AsSpan().Fill(nan);
        _v.AsSpan().Fill(nan);

        // Not powers of two, unlike from head to head; FNUZ ones twice the OCP ones, so that the bytes agree.
        var unit = Octet.Float8.Limit(DType.Float8E4M3) / Octet.Float8.Limit(context.Float8);
        var scales = !fp8 ? 0 : scalePerHead ? kvHeads : 1;
        _kScales = [.. Enumerable.Range(0, scales).Select(head => unit * (0.011f + 0.003f * head))];
        _vScales = [.. Enumerable.Range(0, scales).Select(head => unit * (0.017f + 0.002f * head))];
    }

    public int Blocks { get; }

    public int KvHeads { get; }

    public int BlockSize { get; }

    public int HeadDim { get; }

    public int FirstBlock { get; }

    /// <summary>The bytes of K on the host.</summary>
    public ReadOnlySpan<byte> K => _k;

    /// <summary>The bytes of V on the host.</summary>
    public ReadOnlySpan<byte> V => _v;

    /// <summary>Element of K in [blocks, kv_heads, block_size, head_dim], the block counted from <see cref="FirstBlock"/>.</summary>
    public long KElement(long block, int head, int token, int dim) => ((block * KvHeads + head) * BlockSize + token) * HeadDim + dim;

    /// <summary>Element of V in [blocks, kv_heads, head_dim, block_size].</summary>
    public long VElement(long block, int head, int token, int dim) => ((block * KvHeads + head) * HeadDim + dim) * BlockSize + token;

    /// <summary>The value attention reads from K.</summary>
    public double KValue(long block, int head, int token, int dim) => Value(_k, KElement(block, head, token, dim), _kScales, head);

    /// <summary>The value attention reads from V.</summary>
    public double VValue(long block, int head, int token, int dim) => Value(_v, VElement(block, head, token, dim), _vScales, head);

    /// <summary>All of K in the order of its elements.</summary>
    public double[] KValues() => [.. Enumerable.Range(0, _k.Length / _type.SizeInBytes())
        .Select(i => Value(_k, i, _kScales, i / (BlockSize * HeadDim) % KvHeads))];

    /// <summary>Rounds a value into the host copy of K.</summary>
    public void SetK(long block, int head, int token, int dim, float value) => Set(_k, KElement(block, head, token, dim), _kScales, head, value);

    /// <summary>Rounds a value into the host copy of V.</summary>
    public void SetV(long block, int head, int token, int dim, float value) => Set(_v, VElement(block, head, token, dim), _vScales, head, value);

    /// <summary>Normal K and V in the first tokens of a block.</summary>
    public void Fill(long block, int tokens)
    {
        for (var head = 0; head < KvHeads; head++)
        {
            var values = _context.Normal(2L * tokens * HeadDim);
            for (var i = 0; i < tokens * HeadDim; i++)
            {
                SetK(block, head, i / HeadDim, i % HeadDim, values[2 * i]);
                SetV(block, head, i / HeadDim, i % HeadDim, values[2 * i + 1]);
            }
        }
    }

    /// <summary>The cache on the device as it stands on the host.</summary>
    /// <param name="written">Whether the op writes into it.</param>
    public (KvCache Cache, TensorView K, TensorView V) Upload(bool written)
    {
        var k = Upload(_k, written, Blocks, KvHeads, BlockSize, HeadDim);
        var v = Upload(_v, written, Blocks, KvHeads, HeadDim, BlockSize);
        var cache = new KvCache
        {
            K = Claim(k),
            V = Claim(v),
            KScales = _kScales.Length == 0 ? default : _context.Input(_kScales, _kScales.Length),
            VScales = _vScales.Length == 0 ? default : _context.Input(_vScales, _vScales.Length),
        };
        return (cache, k, v);
    }

    private TensorView Upload(byte[] bytes, bool written, params ReadOnlySpan<long> shape)
    {
        if (_type != DType.BFloat16)
        {
            return written ? _context.CodesInOut(bytes, shape) : _context.Codes(bytes, shape);
        }

        var values = MemoryMarshal.Cast<byte, BFloat16>(bytes).ToArray();
        return written ? _context.InOut(values, shape) : _context.Input(values, shape);
    }

    private TensorView Claim(TensorView tensor)
    {
        var before = (nint)FirstBlock * (nint)(tensor.Strides[0] * _type.SizeInBytes());
        return TensorView.Borrow(
            tensor.Device, tensor.Address - before, _type, [FirstBlock + Blocks, tensor.Shape[1], tensor.Shape[2], tensor.Shape[3]]);
    }

    private double Value(byte[] bytes, long element, float[] scales, int head) => scales.Length == 0
        ? BFloat16.FromBits(BitConverter.ToUInt16(bytes, (int)(2 * element)))
        : (double)Octet.Float8.Widen(bytes[element], _type) * scales[scales.Length == 1 ? 0 : head];

    private void Set(byte[] bytes, long element, float[] scales, int head, float value)
    {
        if (scales.Length == 0)
        {
            BitConverter.TryWriteBytes(bytes.AsSpan((int)(2 * element)), ((BFloat16)value).Bits);
            return;
        }

        var quotient = value / scales[scales.Length == 1 ? 0 : head];
        bytes[element] = float.IsFinite(value) ? Octet.Float8.Narrow(quotient, _type, Octet.Float8.Limit(_type)) : Octet.Float8.NaNCode(_type);
    }
}
