namespace Octet;

/// <summary>The operands that several ops share: FP8 rows, weights, heads, the KV cache, an MoE layer's slots.</summary>
internal readonly ref partial struct Contract
{
    private const int MaxHeads = 1024;
    private const int MaxExperts = 512;
    private const long MaxSequences = 65_535;

    // Positions are numbered in 32 bits, with room for a group of splits behind the last.
    private const long MaxContext = int.MaxValue - 4096;

    // A weight's features: products of this many tiles fit one launch. Grouped ones have a tile more for each expert.
    private const long MaxOutputs = 1L << 26;
    private const long MaxExpertOutputs = 1L << 19;
    public const long MaxInputs = (1L << 30) - Octet.Float8.Block;
    private const long MaxExpertStride = 1L << 50;

    /// <summary>FP8 of the device, [rows, columns], with scales [rows, ceil(columns/128)].</summary>
    public void Quantized(string name, in QuantizedTensor quantized, long rows, long columns)
    {
        Matrix(name, quantized.Values, rows, columns, Float8);
        Matrix(new Argument(name, " scales"), quantized.Scales, rows, Blocks(columns), DType.Float32);
    }

    /// <summary>A matrix or a stack of them, well-formed in itself.</summary>
    public void Weight(string name, Weight? weight)
    {
        Require(weight is not null, $"{name} is null");
        Values(name, weight!);
        if (!weight!.ExpertAddresses.IsNull)
        {
            Require(
                _device.Properties.SharesHostMemory,
                $"{name} {weight.Values}: {_device.Name} takes experts as one stack, not by their addresses");
            Vector(new Argument(name, " expert_addresses"), weight.ExpertAddresses, DType.Int64, weight.Experts);
        }

        if (!weight.Values.DType.IsFloat8())
        {
            Require(weight.Scales.IsNull, $"{name} {weight.Values} is not FP8 and must not have scales");
            return;
        }

        Require(
            weight.ScaleRowOffset is >= 0 and < Octet.Float8.Block && weight.ScaleColumnOffset is >= 0 and < Octet.Float8.Block,
            $"{name}: scale offsets {weight.ScaleRowOffset}, {weight.ScaleColumnOffset} must be 0..127");
        Scales(new Argument(name, " scales"), weight);
    }

    /// <summary>A weight that is well-formed in itself, of this shape.</summary>
    public void WeightShape(string name, Weight weight, long n, long k, long experts) => Require(
        weight.N == n && weight.K == k && weight.Experts == experts, $"{name} {weight.Values}: must be {experts} x [{n}, {k}]");

    /// <summary>FP8 experts in the encoding the device multiplies.</summary>
    public void Experts(string name, Weight? weight)
    {
        Weight(name, weight);
        Require(weight!.Values.DType == Float8, $"{name} {weight.Values} must be {Float8}");
        Require(
            weight.Experts is >= 1 and <= MaxExperts && weight.N <= MaxExpertOutputs,
            $"{name} {weight.Values}: experts 1..{MaxExperts}, each of at most {MaxExpertOutputs} outputs");
    }

    /// <summary>[tokens, heads, head_dim] BF16, the heads of a token contiguous.</summary>
    public void Heads(string name, in TensorView tensor, long headDim)
    {
        OnDevice(name, tensor, DType.BFloat16);
        Require(
            tensor.Rank == 3 && tensor.Shape[2] == headDim && tensor.Strides[2] == 1
            && (tensor.Strides[1] == headDim || tensor.Shape[1] <= 1),
            $"{name} {tensor} must be [tokens, heads, {headDim}], the heads of a token contiguous");
        Require(tensor.Shape[1] <= MaxHeads, $"{name} {tensor}: at most {MaxHeads} heads");
        Stride(name, tensor, tensor.Strides[0], tensor.Shape[1] * headDim);
        Tokens(name, tensor.Shape[0], tensor.Shape[1] * headDim);
    }

    public void Heads(string name, in TensorView tensor, long tokens, long heads, long headDim)
    {
        Heads(name, tensor, headDim);
        Require(
            tensor.Shape[0] == tokens && tensor.Shape[1] == heads, $"{name} {tensor} must be [{tokens}, {heads}, {headDim}]");
    }

    public void Cache(KvCache? cache)
    {
        Require(cache is not null, "cache is null");
        OnDevice("cache k", cache!.K, DType.BFloat16, Float8);
        Contiguous("cache k", cache.K, cache.K.DType);
        Contiguous("cache v", cache.V, cache.K.DType);
        Require(
            cache.K.Rank == 4 && cache.K.Shape[1] is >= 1 and <= MaxHeads && cache.K.Shape[2] is 16 or 32 or 64 or 128
            && cache.K.Shape[3] is 64 or 128 && cache.K.Shape[0] <= int.MaxValue,
            $"cache k {cache.K} must be [blocks, kv_heads (1..{MaxHeads}), 16|32|64|128, 64|128], with fewer than 2^31 blocks");
        Require(
            cache.V.Rank == 4 && cache.V.Shape[0] == cache.Blocks && cache.V.Shape[1] == cache.KvHeads
            && cache.V.Shape[2] == cache.HeadDim && cache.V.Shape[3] == cache.BlockSize,
            $"cache v {cache.V} must be k's {cache.K} with the last two dimensions exchanged");
        if (cache.K.DType == DType.BFloat16)
        {
            Require(cache.KScales.IsNull && cache.VScales.IsNull, "a BF16 cache has no scales");
            return;
        }

        Contiguous("cache k scales", cache.KScales, DType.Float32);
        Contiguous("cache v scales", cache.VScales, DType.Float32);
        var count = cache.KScales.ElementCount;
        Require(
            (count == 1 || count == cache.KvHeads) && cache.VScales.ElementCount == count,
            $"cache scales {cache.KScales}, {cache.VScales} must both have 1 or {cache.KvHeads} elements");
    }

    /// <summary>What says where the slots of each expert lie: rows of tokens * top_k.</summary>
    public void Slots(long tokens, int topK, long experts, in TensorView expertOffsets, int layerExperts)
    {
        Require(topK is >= 1 and <= 16, $"top_k = {topK} must be 1..16");
        Tokens("tokens", tokens, 1);
        Require(
            layerExperts == 0 || (layerExperts >= experts && layerExperts <= MaxExperts),
            $"layer_experts = {layerExperts} must be 0 or {experts}..{MaxExperts}");
        Vector("expert_offsets", expertOffsets, DType.Int32, experts + 1);
    }

    public void Attention(
        in TensorView q, KvCache? cache, in TensorView blockTable, in TensorView contextLengths, in TensorView sinks, long maxContext,
        float scale, int window)
    {
        Cache(cache);
        Heads("q", q, cache!.HeadDim);
        Require(
            q.Shape[1] >= 1 && q.Shape[1] % cache.KvHeads == 0 && q.Shape[1] / cache.KvHeads <= 16,
            $"q {q}: heads must be 1 to 16 times the {cache.KvHeads} kv heads");
        Matrix("block_table", blockTable, DType.Int32);
        Require(blockTable.Shape[0] <= MaxSequences, $"block_table {blockTable}: at most {MaxSequences} sequences");
        Vector("context_lengths", contextLengths, DType.Int32, blockTable.Shape[0]);
        Require(
            maxContext >= 0 && maxContext <= MaxContext && maxContext <= blockTable.Shape[1] * cache.BlockSize,
            $"max_context = {maxContext} must fit block_table {blockTable} with blocks of {cache.BlockSize}, and be at most {MaxContext}");
        Require(float.IsFinite(scale) && window >= 0, $"scale = {scale} must be finite, window = {window} not negative");
        if (!sinks.IsNull)
        {
            Vector("sinks", sinks, DType.Float32, q.Shape[1]);
        }
    }

    /// <summary>One of the ranks of a group.</summary>
    public void Rank(int rank, int ranks)
    {
        Require(ranks is >= 1 and <= GroupSignals.MaxRanks, $"{ranks} ranks, must be 1..{GroupSignals.MaxRanks}");
        Require(rank >= 0 && rank < ranks, $"rank = {rank} must be 0..{ranks - 1}");
    }

    /// <summary>A tensor of one rank of a group: this device's own on this device, a peer's wherever it is.</summary>
    public void OnRank(string name, in TensorView tensor, int rank, int own, DType type)
    {
        Require(!tensor.IsNull, $"{name}[{rank}] is null");
        Require(rank != own || tensor.Device == _device, $"{name}[{rank}] {tensor} is not on the stream's device {_device.Name}");
        Require(tensor.DType == type, $"{name}[{rank}] {tensor} must be {type}");
        Require(tensor.Address % Alignment == 0, $"{name}[{rank}] {tensor} begins at {tensor.Address:x}, must be aligned to {Alignment} bytes");
    }

    /// <summary>What one rank of a group holds of a sum, like the first: BF16 of its shape, its rows as far apart. It may be a peer's.</summary>
    public void Node(in TensorView node, int rank, in TensorView first)
    {
        OnRank("nodes", node, rank, own: -1, DType.BFloat16);
        Require(
            node.Rank == 2 && node.Shape.SequenceEqual(first.Shape) && node.Strides.SequenceEqual(first.Strides) && (node.Strides[1] == 1 || node.Shape[1] <= 1),
            $"nodes[{rank}] {node} must have two dimensions, the second contiguous, of the shape and strides of the first, {first}");
        Stride("nodes", node, node.Strides[0], node.Shape[1]);
    }

    /// <summary>The leaves of a sum over experts, with the expert of each pair.</summary>
    public void ExpertLeaves(in TensorView pairExperts, int firstExpert, int leafExperts, int leaves, long pairs)
    {
        Require(leaves == 0 || SumTree.IsLeafCount(leaves), $"leaves = {leaves} must be 0, 1, 2, 4 or 8");
        if (!pairExperts.IsNull)
        {
            Vector("pair_experts", pairExperts, DType.Int32, pairs);
        }

        Require(leaves <= 1 || !pairExperts.IsNull, $"leaves = {leaves} need pair_experts");
        Require(
            leaves <= 1 || (firstExpert is >= 0 and < MaxExperts && leafExperts is >= 1 and <= MaxExperts),
            $"first_expert = {firstExpert} must be 0..{MaxExperts - 1}, leaf_experts = {leafExperts} 1..{MaxExperts}");
    }

    /// <summary>Blocks of 128 that so many elements fill.</summary>
    public static long Blocks(long elements) => (elements + Octet.Float8.Block - 1) / Octet.Float8.Block;

    private void Values(in Argument name, Weight weight)
    {
        var values = weight.Values;
        OnDevice(name, values, DType.BFloat16, Float8, isAddressed: !weight.ExpertAddresses.IsNull);
        Require(
            values.Rank is 2 or 3 && (values.Strides[^1] == 1 || weight.K <= 1) && weight.Layout == WeightLayout.RowMajor,
            $"{name} {values} must be a matrix or a stack of them, k contiguous");
        Stride(name, values, values.Strides[^2], weight.K);
        Require(
            weight.N <= MaxOutputs && weight.K <= MaxInputs && weight.N <= MaxWeightElements / Math.Max(weight.K, 1),
            $"{name} {values}: a matrix has at most {MaxOutputs} rows, {MaxInputs} columns and {MaxWeightElements} elements");
        Require(
            values.Rank == 2 || values.Strides[0] <= MaxExpertStride,
            $"{name} {values}: matrices lie {values.Strides[0]} elements apart, must be 0..{MaxExpertStride}");
    }

    private void Scales(in Argument name, Weight weight)
    {
        OnDevice(name, weight.Scales, DType.Float32);
        var (scales, values) = (weight.Scales, weight.Values);
        var (rows, columns) = (Blocks(weight.ScaleRowOffset + weight.N), Blocks(weight.ScaleColumnOffset + weight.K));
        Require(
            scales.Rank == values.Rank && scales.Shape[^2] == rows && scales.Shape[^1] == columns
            && (scales.Strides[^1] == 1 || columns <= 1) && (scales.Rank == 2 || scales.Shape[0] == weight.Experts),
            $"{name} {scales} of {values} must be [{rows}, {columns}] for each matrix, columns contiguous");
        Stride(name, scales, scales.Strides[^2], columns);
        Require(
            scales.Rank == 2 || scales.Strides[0] <= MaxExpertStride,
            $"{name} {scales}: matrices lie {scales.Strides[0]} elements apart, must be 0..{MaxExpertStride}");
    }

    /// <summary>What an argument is called in a message: "b", or a part of it, "b scales". Joined only where a check fails.</summary>
    public readonly record struct Argument(string Name, string Part = "")
    {
        public static implicit operator Argument(string name) => new(name);

        public override string ToString() => Name + Part;
    }
}
