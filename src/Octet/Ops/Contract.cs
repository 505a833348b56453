using System.Runtime.CompilerServices;

namespace Octet;

/// <summary>
/// The ops: one method each, the contract of all backends. Each checks shapes, types, strides and devices of its arguments,
/// then enqueues the work. Rows may have any stride, elements within a row are contiguous, and tensors begin at a multiple
/// of 16 bytes (of an element where <see cref="Backends.DeviceProperties.SharesHostMemory"/>).
/// </summary>
public static partial class Ops
{
}

/// <summary>The checks of the ops: each throws ArgumentException with the op, the argument's name and the values.</summary>
internal readonly ref struct Contract
{
    private readonly string _op;
    private readonly DeviceStream _stream;

    public Contract(string op, DeviceStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        stream.ThrowIfDisposed();
        _op = op;
        _stream = stream;
    }

    /// <summary>The FP8 encoding of the stream's device.</summary>
    public DType Float8 => _stream.Device.Float8;

    public void Require(bool condition, [InterpolatedStringHandlerArgument("condition")] ref FailureText text)
    {
        if (!condition)
        {
            throw new ArgumentException($"{_op}: {text.ToStringAndClear()}");
        }
    }

    public void Require(bool condition, string text)
    {
        if (!condition)
        {
            throw new ArgumentException($"{_op}: {text}");
        }
    }

    /// <summary>[rows, columns] of one of two types, columns contiguous.</summary>
    public void Matrix(string name, Tensor? tensor, DType type, DType? otherType = null)
    {
        OnDevice(name, tensor, type, otherType);
        Require(
            tensor!.Rank == 2 && (tensor.Strides[1] == 1 || tensor.Shape[1] <= 1) && tensor.Strides[0] >= 0,
            $"{name} {tensor} must have two dimensions, the second contiguous");
    }

    public void Matrix(string name, Tensor? tensor, long rows, long columns, DType type, DType? otherType = null)
    {
        Matrix(name, tensor, type, otherType);
        Require(tensor!.Shape[0] == rows && tensor.Shape[1] == columns, $"{name} {tensor} must be [{rows}, {columns}]");
    }

    /// <summary>[rows, columns], or [segments, rows, columns] f32: partial sums to be added in order; columns contiguous.</summary>
    public void Summands(string name, Tensor? tensor, DType type)
    {
        if (tensor?.Rank != 3)
        {
            Matrix(name, tensor, type);
            return;
        }

        OnDevice(name, tensor, DType.Float32, null);
        Require(
            tensor.Shape[0] is >= 1 and <= 1 << 16 && (tensor.Strides[2] == 1 || tensor.Shape[2] <= 1)
            && tensor.Strides[0] >= 0 && tensor.Strides[1] >= 0,
            $"{name} {tensor} must be 1..65,536 partial sums, columns contiguous");
    }

    /// <summary>[length], contiguous.</summary>
    public void Vector(string name, Tensor? tensor, DType type, long length)
    {
        Contiguous(name, tensor, type);
        Require(tensor!.ElementCount == length, $"{name} {tensor} must have {length} elements");
    }

    public void Contiguous(string name, Tensor? tensor, DType type)
    {
        OnDevice(name, tensor, type, null);
        Require(tensor!.IsContiguous, $"{name} {tensor} must be contiguous");
    }

    /// <summary>FP8 of the device, [rows, columns], with scales [rows, ceil(columns/128)].</summary>
    public void Quantized(string name, in QuantizedTensor quantized, long rows, long columns)
    {
        Matrix(name, quantized.Values, rows, columns, Float8);
        Matrix("scales", quantized.Scales, rows, Blocks(columns), DType.Float32);
    }

    public void Weight(string name, Weight? weight, long n, long k, long experts)
    {
        Require(weight is not null, $"{name} is null");
        var values = weight!.Values;
        OnDevice(name, values, DType.BFloat16, Float8);
        Require(
            values.Rank is 2 or 3 && (values.Strides[^1] == 1 || weight.K <= 1) && weight.Layout == WeightLayout.RowMajor,
            $"{name} {values} must be a matrix or a stack of them, k contiguous");
        Require(
            weight.N == n && weight.K == k && weight.Experts == experts,
            $"{name} {values}: must be {experts} x [{n}, {k}]");
        if (weight.ExpertAddresses is not null)
        {
            Require(
                _stream.Device.Properties.SharesHostMemory,
                $"{name} {values}: {_stream.Device.Name} takes experts as one stack, not by their addresses");
            Vector("expert_addresses", weight.ExpertAddresses, DType.Int64, experts);
        }

        if (!values.DType.IsFloat8())
        {
            Require(weight.Scales is null, $"{name} {values} is not FP8 and must not have scales");
            return;
        }

        Require(
            weight.ScaleRowOffset is >= 0 and < Octet.Float8.Block && weight.ScaleColumnOffset is >= 0 and < Octet.Float8.Block,
            $"{name}: scale offsets {weight.ScaleRowOffset}, {weight.ScaleColumnOffset} must be 0..127");
        OnDevice("scales", weight.Scales, DType.Float32, null);
        var scales = weight.Scales!;
        var (rows, columns) = (Blocks(weight.ScaleRowOffset + n), Blocks(weight.ScaleColumnOffset + k));
        Require(
            scales.Rank == values.Rank && scales.Shape[^2] == rows && scales.Shape[^1] == columns
            && (scales.Strides[^1] == 1 || columns <= 1) && (scales.Rank == 2 || scales.Shape[0] == experts),
            $"{name}: scales {scales} of {values} must be [{rows}, {columns}] for each expert");
    }

    /// <summary>[tokens, heads, head_dim] BF16, the heads of a token contiguous.</summary>
    public void Heads(string name, Tensor? tensor, long headDim)
    {
        OnDevice(name, tensor, DType.BFloat16, null);
        Require(
            tensor!.Rank == 3 && tensor.Shape[2] == headDim && tensor.Strides[2] == 1
            && (tensor.Strides[1] == headDim || tensor.Shape[1] <= 1),
            $"{name} {tensor} must be [tokens, heads, {headDim}], the heads of a token contiguous");
    }

    public void Heads(string name, Tensor? tensor, long tokens, long heads, long headDim)
    {
        Heads(name, tensor, headDim);
        Require(
            tensor!.Shape[0] == tokens && tensor.Shape[1] == heads, $"{name} {tensor} must be [{tokens}, {heads}, {headDim}]");
    }

    public void Cache(KvCache? cache)
    {
        Require(cache is not null, "cache is null");
        Contiguous("cache k", cache!.K, cache.K.DType == DType.BFloat16 ? DType.BFloat16 : Float8);
        Contiguous("cache v", cache.V, cache.K.DType);
        Require(
            cache.K.Rank == 4 && cache.V.Rank == 4 && cache.BlockSize is 16 or 32 or 64 or 128 && cache.HeadDim is 64 or 128,
            $"cache k {cache.K} must be [blocks, kv_heads, 16|32|64|128, 64|128]");
        Require(
            cache.V.Shape[0] == cache.Blocks && cache.V.Shape[1] == cache.KvHeads && cache.V.Shape[2] == cache.HeadDim
            && cache.V.Shape[3] == cache.BlockSize,
            $"cache v {cache.V} must be k's {cache.K} with the last two dimensions exchanged");
        if (cache.K.DType == DType.BFloat16)
        {
            Require(cache.KScales is null && cache.VScales is null, "a BF16 cache has no scales");
            return;
        }

        Contiguous("cache k scales", cache.KScales, DType.Float32);
        Contiguous("cache v scales", cache.VScales, DType.Float32);
        var count = cache.KScales!.ElementCount;
        Require(
            (count == 1 || count == cache.KvHeads) && cache.VScales!.ElementCount == count,
            $"cache scales {cache.KScales}, {cache.VScales} must both have 1 or {cache.KvHeads} elements");
    }

    public void Slots(long tokens, int topK, long experts, Tensor expertOffsets, int layerExperts)
    {
        Require(
            topK is >= 1 and <= 16 && experts is >= 1 and <= 512 && tokens <= int.MaxValue / topK,
            $"tokens {tokens}, top_k {topK}, local experts {experts}: top_k 1..16, experts 1..512, pairs below 2^31");
        Require(
            layerExperts == 0 || (layerExperts >= experts && layerExperts <= 512),
            $"layer_experts = {layerExperts} must be 0 or {experts}..512");
        Vector("expert_offsets", expertOffsets, DType.Int32, experts + 1);
    }

    public void Attention(
        Tensor q, KvCache cache, Tensor blockTable, Tensor contextLengths, Tensor? sinks, long maxContext,
        float scale, int window)
    {
        Cache(cache);
        Heads("q", q, cache.HeadDim);
        Require(
            q.Shape[1] >= 1 && q.Shape[1] % cache.KvHeads == 0 && q.Shape[1] / cache.KvHeads <= 16,
            $"q {q}: heads must be 1 to 16 times the {cache.KvHeads} kv heads");
        Matrix("block_table", blockTable, DType.Int32);
        Vector("context_lengths", contextLengths, DType.Int32, blockTable.Shape[0]);
        Require(
            maxContext >= 0 && maxContext <= blockTable.Shape[1] * cache.BlockSize,
            $"max_context = {maxContext} must fit block_table {blockTable} with blocks of {cache.BlockSize}");
        Require(float.IsFinite(scale) && window >= 0, $"scale = {scale} must be finite, window = {window} not negative");
        if (sinks is not null)
        {
            Vector("sinks", sinks, DType.Float32, q.Shape[1]);
        }
    }

    public void Workspace(Tensor? workspace, long needed)
    {
        if (needed == 0)
        {
            return;
        }

        Contiguous("workspace", workspace, DType.Byte);
        Require(workspace!.SizeInBytes >= needed, $"workspace {workspace} must have {needed} bytes");
    }

    private static long Blocks(long elements) => (elements + Octet.Float8.Block - 1) / Octet.Float8.Block;

    private void OnDevice(string name, Tensor? tensor, DType type, DType? otherType)
    {
        Require(tensor is not null, $"{name} is null");
        Require(tensor!.Device == _stream.Device, $"{name} {tensor} is not on the stream's device {_stream.Device.Name}");
        Require(
            tensor.DType == type || tensor.DType == otherType,
            $"{name} {tensor} must be {type}{(otherType is null ? "" : $" or {otherType}")}");
        var alignment = _stream.Device.Properties.SharesHostMemory ? tensor.DType.SizeInBytes() : 16;
        Require(tensor.Address % alignment == 0, $"{name} {tensor} begins at {tensor.Address:x}, must be aligned to {alignment} bytes");
    }

    /// <summary>Formats only where the condition fails: a passing check costs no allocation.</summary>
    [InterpolatedStringHandler]
    public ref struct FailureText
    {
        private DefaultInterpolatedStringHandler _text;

        public FailureText(int literalLength, int formattedCount, bool condition, out bool enabled)
        {
            enabled = !condition;
            _text = enabled ? new(literalLength, formattedCount) : default;
        }

        public void AppendLiteral(string text) => _text.AppendLiteral(text);

        public void AppendFormatted<T>(T value) => _text.AppendFormatted(value);

        public void AppendFormatted<T>(T value, string? format) => _text.AppendFormatted(value, format);

        public string ToStringAndClear() => _text.ToStringAndClear();
    }
}
