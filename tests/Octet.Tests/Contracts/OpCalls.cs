using System.Reflection;

namespace Octet.Tests.Contracts;

/// <summary>One right call of every op on a device, small and all zeros; buffers reach past each tensor, so that a longer one is still memory.</summary>
internal sealed class OpCalls(Device device) : IDisposable
{
    private const int SlackBytes = 1 << 20;
    private const int Tokens = 2, Hidden = 256, Intermediate = 128, Experts = 4, TopK = 2, HeadDim = 64, Heads = 4, KvHeads = 2, Pairs = Tokens * TopK;

    private readonly List<Tensor> _buffers = [];

    /// <summary>Every op of one device with its name in the C ABI and the type of its arguments.</summary>
    public static IReadOnlyList<(string Op, MethodInfo Call, MethodInfo? Workspace)> Methods { get; } =
    [
        .. typeof(Ops).GetMethods(BindingFlags.Public | BindingFlags.Static)
            .Where(m => m.GetParameters() is [{ } stream, _] && stream.ParameterType == typeof(DeviceStream))
            .Where(m => m.Name is not (nameof(Ops.GroupSync) or nameof(Ops.Gather)))
            .Select(m => (Snake(m.Name), m, typeof(Ops).GetMethod($"{m.Name}Workspace"))),
    ];

    /// <summary>"MoeGateUp" as "moe_gate_up".</summary>
    public static string Snake(string name) =>
        string.Concat(name.Select((c, i) => char.IsUpper(c) && i > 0 ? $"_{char.ToLowerInvariant(c)}" : $"{char.ToLowerInvariant(c)}"));

    /// <summary>Arguments of an op that every device takes.</summary>
    public object ArgumentsOf(string op) => op switch
    {
        "quantize" => new QuantizeArgs { X = BFloat16(Tokens, Hidden), Output = Quantized(Tokens, Hidden) },
        "quantize_weight" => new QuantizeWeightArgs { X = BFloat16(Intermediate, Hidden), Output = Float8Weight(Intermediate, Hidden) },
        "repack" => new RepackArgs
        {
            Values = Zeros(DType.Float8E4M3, Hidden),
            Scales = Zeros(DType.Float32, 2),
            OutputValues = Zeros(DType.Float8E4M3Fnuz, Hidden),
            OutputScales = Zeros(DType.Float32, 2),
        },
        "embedding" => new EmbeddingArgs { Table = BFloat16(8, Hidden), Ids = Int32(Tokens), Output = BFloat16(Tokens, Hidden) },
        "norm" => new NormArgs
        {
            X = BFloat16(Pairs, Hidden),
            PairSlots = Int32(Pairs),
            PairWeights = Float32(Tokens, TopK),
            PairExperts = Int32(Tokens, TopK),
            LeafExperts = 2,
            Leaves = 2,
            Residual = BFloat16(Tokens, Hidden),
            Weight = BFloat16(Hidden),
            Eps = 1e-6f,
            Output = BFloat16(Tokens, Hidden),
            Quantized = Quantized(Tokens, Hidden),
        },
        "gemm" => new GemmArgs
        {
            A = Zeros(device.Float8, Tokens, Hidden),
            AScales = Float32(Tokens, Hidden / 128),
            B = Float8Weight(Intermediate, Hidden),
            Bias = BFloat16(Intermediate),
            Leaves = 2,
            Output = BFloat16(Tokens, Intermediate),
            Workspace = Scratch(),
        },
        "activation" => new ActivationArgs
        {
            Gate = BFloat16(Tokens, Hidden),
            Up = BFloat16(Tokens, Hidden),
            Output = Zeros(device.Float8, Tokens, Hidden),
            Scales = Float32(Tokens, Hidden / 128),
        },
        "moe_route" => new MoeRouteArgs
        {
            Logits = Float32(Tokens, Experts),
            Ids = Int32(Tokens, TopK),
            Weights = Float32(Tokens, TopK),
            Renormalize = true,
            ExpertOffsets = Int32(Experts + 1),
            SlotPairs = Int32(Pairs),
            PairSlots = Int32(Pairs),
            Workspace = Scratch(),
        },
        "moe_sort" => new MoeSortArgs
        {
            Ids = Int32(Tokens, TopK),
            ExpertOffsets = Int32(Experts + 1),
            SlotPairs = Int32(Pairs),
            PairSlots = Int32(Pairs),
            Experts = Experts,
            Workspace = Scratch(),
        },
        "moe_gate_up" => new MoeGateUpArgs
        {
            X = Quantized(Tokens, Hidden),
            Gate = Float8Weight(Experts, Intermediate, Hidden),
            Up = Float8Weight(Experts, Intermediate, Hidden),
            ExpertOffsets = Int32(Experts + 1),
            SlotPairs = Int32(Pairs),
            TopK = TopK,
            Output = Quantized(Pairs, Intermediate),
            Workspace = Scratch(),
        },
        "moe_down" => new MoeDownArgs
        {
            X = Quantized(Pairs, Intermediate),
            Down = Float8Weight(Experts, Hidden, Intermediate),
            ExpertOffsets = Int32(Experts + 1),
            TopK = TopK,
            Output = BFloat16(Pairs, Hidden),
            Workspace = Scratch(),
        },
        "moe_combine" => new MoeCombineArgs
        {
            Y = BFloat16(Pairs, Hidden), PairSlots = Int32(Pairs), Weights = Float32(Tokens, TopK), PairExperts = Int32(Pairs), LeafExperts = 2, Leaves = 2,
            Output = BFloat16(Tokens, Hidden),
        },
        "rope" => new RopeArgs
        {
            Q = BFloat16(Tokens, Heads, HeadDim),
            K = BFloat16(Tokens, KvHeads, HeadDim),
            V = BFloat16(Tokens, KvHeads, HeadDim),
            QNorm = BFloat16(HeadDim),
            KNorm = BFloat16(HeadDim),
            CosSin = Float32(16, HeadDim),
            Positions = Int32(Tokens),
            Slots = Nowhere(Tokens),
            QOutput = BFloat16(Tokens, Heads, HeadDim),
            Cache = Cache(),
        },
        "kv_write" => new KvWriteArgs
        {
            K = BFloat16(Tokens, KvHeads, HeadDim), V = BFloat16(Tokens, KvHeads, HeadDim), Slots = Nowhere(Tokens), Cache = Cache(),
        },
        "kv_copy" => new KvCopyArgs { Pairs = Nowhere(1, 2), Cache = Cache() },
        "attention_prefill" => new AttentionPrefillArgs
        {
            Q = BFloat16(Tokens, Heads, HeadDim),
            Cache = Cache(),
            BlockTable = Int32(1, 2),
            QueryStarts = Int32(2),
            ContextLengths = Int32(1),
            MaxQueries = Tokens,
            MaxContext = 32,
            Scale = 1,
            Sinks = Float32(Heads),
            Output = BFloat16(Tokens, Heads, HeadDim),
            Workspace = Scratch(),
        },
        "attention_decode" => new AttentionDecodeArgs
        {
            Q = BFloat16(Tokens, Heads, HeadDim),
            Cache = Cache(),
            BlockTable = Int32(Tokens, 2),
            ContextLengths = Int32(Tokens),
            MaxContext = 32,
            Scale = 1,
            Sinks = Float32(Heads),
            Output = BFloat16(Tokens, Heads, HeadDim),
            Quantized = Quantized(Tokens, Heads * HeadDim),
            Workspace = Scratch(),
        },
        "sampling" => new SamplingArgs
        {
            Logits = Float32(Tokens, 32),
            Temperatures = Float32(Tokens),
            TopK = Int32(Tokens),
            TopP = Float32(Tokens),
            Seeds = Zeros(DType.Int64, Tokens),
            Counters = Zeros(DType.Int64, Tokens),
            MinP = Float32(Tokens),
            Ids = Int32(Tokens),
            Adjustments = new LogitAdjustments { Starts = Int32(Tokens + 1), Tokens = Int32(3), Penalties = Float32(3), Biases = Float32(3) },
            Masks = new TokenMasks { Rows = Filled(0xFF, DType.Int32, [Tokens]), Words = Int32(2, 1) },
            Logprobs = new LogprobOutputs { Counts = Int32(Tokens), Drawn = Float32(Tokens), Ids = Int32(Tokens, 4), Values = Float32(Tokens, 4) },
            Workspace = Scratch(),
        },
        _ => throw new NotSupportedException($"no call of {op} is written here"),
    };

    public void Dispose() => _buffers.ForEach(b => b.Dispose());

    private TensorView Zeros(DType type, params long[] shape) => Filled(0, type, shape);

    // Slots or blocks outside the cache: two tokens in one slot would be a race.
    private TensorView Nowhere(params long[] shape) => Filled(0xFF, DType.Int64, shape);

    private TensorView Scratch() => Zeros(DType.Byte, 1 << 20);

    private TensorView Filled(byte value, DType type, long[] shape)
    {
        var bytes = shape.Aggregate((long)type.SizeInBytes(), (size, length) => size * length);
        var buffer = Tensor.Create(device, DType.Byte, bytes + SlackBytes);
        _buffers.Add(buffer);
        device.Stream.Fill(buffer, value);
        return TensorView.Borrow(device, buffer.Address, type, shape);
    }

    private TensorView BFloat16(params long[] shape) => Zeros(DType.BFloat16, shape);

    private TensorView Float32(params long[] shape) => Zeros(DType.Float32, shape);

    private TensorView Int32(params long[] shape) => Zeros(DType.Int32, shape);

    private QuantizedTensor Quantized(long rows, long columns) => new(Zeros(device.Float8, rows, columns), Float32(rows, (columns + 127) / 128));

    private Weight Float8Weight(params long[] shape) =>
        new() { Values = Zeros(device.Float8, shape), Scales = Float32([.. shape[..^2], (shape[^2] + 127) / 128, (shape[^1] + 127) / 128]) };

    private KvCache Cache() => new()
    {
        K = Zeros(device.Float8, 2, KvHeads, 16, HeadDim),
        V = Zeros(device.Float8, 2, KvHeads, HeadDim, 16),
        KScales = Float32(1),
        VScales = Float32(1),
    };
}
