namespace Octet.Tests.Contracts;

/// <summary>The largest sizes one call takes: launchers take all that the contract takes, and beyond it every device refuses.</summary>
public sealed class SizeLimitTests
{
    private const long Rows = 4_194_303, Elements = 1L << 33;

    // Calls at the limit of their first number, by what is large. Addresses alone: nothing is read where a call is planned or refused.
    private static readonly Dictionary<string, (long Limit, Action<Device, long> Call)> s_calls = new()
    {
        ["quantize rows"] = (Rows, (d, n) => Ops.Quantize(d.Stream, new() { X = Of(d, DType.BFloat16, n, 129), Output = Quantized(d, n, 129) })),
        ["quantize columns"] = (int.MaxValue, (d, n) => Ops.Quantize(d.Stream, new() { X = Of(d, DType.BFloat16, 4, n), Output = Quantized(d, 4, n) })),
        ["quantize elements"] = (Elements / 65536, (d, n) => Ops.Quantize(d.Stream, new() { X = Of(d, DType.Float32, n, 65536), Output = Quantized(d, n, 65536) })),
        ["quantize_weight columns"] = ((1L << 30) - 128, (d, n) => Ops.QuantizeWeight(d.Stream, new() { X = Of(d, DType.BFloat16, 32, n), Output = Weight(d, 32, n) })),
        ["quantize_weight rows"] = (1L << 26, (d, n) => Ops.QuantizeWeight(d.Stream, new() { X = Of(d, DType.BFloat16, n, 512), Output = Weight(d, n, 512) })),
        ["quantize_weight elements"] = (1L << 15, (d, n) => Ops.QuantizeWeight(d.Stream, new() { X = Of(d, DType.BFloat16, 1 << 20, n), Output = Weight(d, 1 << 20, n) })),
        ["embedding tokens"] = (Rows, (d, n) => Ops.Embedding(d.Stream, new() { Table = Of(d, DType.BFloat16, 8, 64), Ids = Of(d, DType.Int32, n), Output = Of(d, DType.BFloat16, n, 64) })),
        ["norm tokens"] = (Rows, (d, n) => Ops.Norm(d.Stream, new() { X = Of(d, DType.BFloat16, n, 64), Weight = Of(d, DType.BFloat16, 64), Eps = 0, Output = Of(d, DType.BFloat16, n, 64) })),
        ["activation rows"] = (Rows, (d, n) => Ops.Activation(d.Stream, new() { Gate = Of(d, DType.BFloat16, n, 2048), Up = Of(d, DType.BFloat16, n, 2048), Output = Of(d, DType.BFloat16, n, 2048) })),
        ["gemm rows"] = (Rows, (d, n) => Gemm(d, n, 2048, 128)),
        ["gemm rows of odd columns"] = (Rows, (d, n) => Gemm(d, n, 2047, 127)),
        ["gemm columns"] = (1L << 26, (d, n) => Gemm(d, 1, n, 512)),
        ["gemm columns of many rows"] = (Elements / 8192, (d, n) => Gemm(d, 8192, n, 128)),
        ["gemm k"] = ((1L << 30) - 128, (d, n) => Gemm(d, 17, 32, n)),
        ["moe_route tokens"] = (Rows, (d, n) => Ops.MoeRoute(d.Stream, Route(d, n, 512))),
        ["moe_sort tokens"] = (Rows, (d, n) => Ops.MoeSort(d.Stream, new() { Ids = Of(d, DType.Int32, n, 16), ExpertOffsets = Of(d, DType.Int32, 513), SlotPairs = Of(d, DType.Int32, 16 * n), PairSlots = Of(d, DType.Int32, 16 * n), Experts = 512 })),
        ["moe_gate_up tokens"] = (Rows, (d, n) => Ops.MoeGateUp(d.Stream, GateUp(d, n, 16, 4, 128))),
        ["moe_gate_up tokens of odd columns"] = (Rows, (d, n) => Ops.MoeGateUp(d.Stream, GateUp(d, n, 16, 512, 127))),
        ["moe_gate_up outputs"] = (1L << 19, (d, n) => Ops.MoeGateUp(d.Stream, GateUp(d, 1024, 16, 512, n))),
        ["moe_down tokens"] = (Rows, (d, n) => Ops.MoeDown(d.Stream, Down(d, n, 16, 512, 128))),
        ["moe_down outputs"] = (1L << 19, (d, n) => Ops.MoeDown(d.Stream, Down(d, 256, 16, 512, n))),
        ["moe_combine tokens"] = (Rows, (d, n) => Ops.MoeCombine(d.Stream, Combine(d, n, 16, 2048))),
        ["moe_combine hidden"] = (int.MaxValue, (d, n) => Ops.MoeCombine(d.Stream, Combine(d, 4, 1, n))),
        ["moe_combine elements"] = (Elements / 4097, (d, n) => Ops.MoeCombine(d.Stream, Combine(d, n, 8, 4097))),
        ["rope tokens"] = (Rows, (d, n) => Ops.Rope(d.Stream, new() { Q = Heads(d, n, 16), K = Heads(d, n, 1), V = Heads(d, n, 1), CosSin = Of(d, DType.Float32, 8, 128), Positions = Of(d, DType.Int32, n), Slots = Of(d, DType.Int64, n), QOutput = Heads(d, n, 16), Cache = Cache(d, 1, 8) })),
        ["kv_write tokens"] = (Rows, (d, n) => Ops.KvWrite(d.Stream, new() { K = Heads(d, n, 1), V = Heads(d, n, 1), Slots = Of(d, DType.Int64, n), Cache = Cache(d, 1, 8) })),
        ["kv_copy heads"] = (1024, (d, n) => Ops.KvCopy(d.Stream, new() { Pairs = Of(d, DType.Int64, Rows, 2), Cache = Cache(d, n, 8) })),
        ["kv_copy pairs"] = (Rows, (d, n) => Ops.KvCopy(d.Stream, new() { Pairs = Of(d, DType.Int64, n, 2), Cache = Cache(d, 1, int.MaxValue) })),
        ["attention_prefill tokens"] = (Rows, (d, n) => Ops.AttentionPrefill(d.Stream, Prefill(d, n, 1, 4096))),
        ["attention_prefill sequences"] = (65535, (d, n) => Ops.AttentionPrefill(d.Stream, Prefill(d, n, n, 4096))),
        ["attention_prefill context"] = (int.MaxValue - 4096, (d, n) => Ops.AttentionPrefill(d.Stream, Prefill(d, 1, 1, n))),
        ["attention_decode sequences"] = (65535, (d, n) => Ops.AttentionDecode(d.Stream, Decode(d, n, 4096))),
        ["attention_decode context"] = (int.MaxValue - 4096, (d, n) => Ops.AttentionDecode(d.Stream, Decode(d, 1, n))),
        ["sampling rows"] = (Rows, (d, n) => Ops.Sampling(d.Stream, new() { Logits = Of(d, DType.Float32, n, 2048), Temperatures = Of(d, DType.Float32, n), TopK = Of(d, DType.Int32, n), TopP = Of(d, DType.Float32, n), Seeds = Of(d, DType.Int64, n), Counters = Of(d, DType.Int64, n), Ids = Of(d, DType.Int32, n) })),
        ["repack codes"] = (1L << 35, (d, n) => Ops.Repack(d.Stream, new() { Values = Of(d, DType.Float8E4M3, n), Scales = Of(d, DType.Float32, 8), OutputValues = Of(d, DType.Float8E4M3Fnuz, n), OutputScales = Of(d, DType.Float32, 8) })),
        ["repack scales"] = (int.MaxValue, (d, n) => Ops.Repack(d.Stream, new() { Values = Of(d, DType.Float8E4M3, 8), Scales = Of(d, DType.Float32, n), OutputValues = Of(d, DType.Float8E4M3Fnuz, 8), OutputScales = Of(d, DType.Float32, n) })),
        ["a stride"] = (1L << 34, (d, n) => Ops.Norm(d.Stream, new() { X = TensorView.Borrow(d, 1 << 20, DType.BFloat16, [4, 64], [n, 1]), Weight = Of(d, DType.BFloat16, 64), Eps = 0, Output = Of(d, DType.BFloat16, 4, 64) })),
        ["partial sums"] = (1 << 16, (d, n) => Ops.Norm(d.Stream, new() { X = Of(d, DType.Float32, n, 4, 64), Weight = Of(d, DType.BFloat16, 64), Eps = 0, Output = Of(d, DType.BFloat16, 4, 64) })),
    };

    public static TheoryData<string> All => [.. s_calls.Keys];

    [Theory]
    [MemberData(nameof(All))]
    public void Launchers_take_the_largest_size_and_all_devices_refuse_one_more_in_the_same_words(string what)
    {
        var (limit, call) = s_calls[what];
        foreach (var name in (string[])["plan:gfx942", "plan:gfx950"])
        {
            using var device = Device.Open(name);
            call(device, limit);
        }

        var refusals = new List<string>();
        foreach (var name in (string[])["cpu", "plan:gfx950", "sim:gfx950"])
        {
            using var device = Device.Open(name);
            refusals.Add(Assert.Throws<ArgumentException>(() => call(device, limit + 1)).Message.Replace(device.Name, "DEVICE", StringComparison.Ordinal));
        }

        Assert.All(refusals, text => Assert.Equal(refusals[0], text));
    }

    private static TensorView Of(Device device, DType type, params long[] shape) => TensorView.Borrow(device, 1 << 20, type, shape);

    private static QuantizedTensor Quantized(Device device, long rows, long columns) =>
        new(Of(device, device.Float8, rows, columns), Of(device, DType.Float32, rows, (columns + 127) / 128));

    private static Weight Weight(Device device, params long[] shape) => new()
    {
        Values = Of(device, device.Float8, shape),
        Scales = Of(device, DType.Float32, [.. shape[..^2], (shape[^2] + 127) / 128, (shape[^1] + 127) / 128]),
    };

    private static TensorView Heads(Device device, long tokens, long heads) => Of(device, DType.BFloat16, tokens, heads, 128);

    private static KvCache Cache(Device device, long heads, long blocks) => new()
    {
        K = Of(device, DType.BFloat16, blocks, heads, 128, 128), V = Of(device, DType.BFloat16, blocks, heads, 128, 128),
    };

    private static void Gemm(Device device, long m, long n, long k)
    {
        var a = Quantized(device, m, k);
        Ops.Gemm(device.Stream, new()
        {
            A = a.Values, AScales = a.Scales, B = Weight(device, n, k), Output = Of(device, DType.BFloat16, m, n), Workspace = Scratch(device),
        });
    }

    private static MoeRouteArgs Route(Device device, long tokens, long experts) => new()
    {
        Logits = Of(device, DType.Float32, tokens, experts),
        Ids = Of(device, DType.Int32, tokens, 16),
        Weights = Of(device, DType.Float32, tokens, 16),
        Renormalize = true,
        ExpertOffsets = Of(device, DType.Int32, experts + 1),
        SlotPairs = Of(device, DType.Int32, tokens * 16),
        PairSlots = Of(device, DType.Int32, tokens * 16),
    };

    private static MoeGateUpArgs GateUp(Device device, long tokens, int topK, long experts, long intermediate) => new()
    {
        X = Quantized(device, tokens, 128),
        Gate = Weight(device, experts, intermediate, 128),
        Up = Weight(device, experts, intermediate, 128),
        ExpertOffsets = Of(device, DType.Int32, experts + 1),
        SlotPairs = Of(device, DType.Int32, tokens * topK),
        TopK = topK,
        Output = Quantized(device, tokens * topK, intermediate),
        Workspace = Scratch(device),
    };

    private static MoeDownArgs Down(Device device, long tokens, int topK, long experts, long hidden) => new()
    {
        X = Quantized(device, tokens * topK, 128),
        Down = Weight(device, experts, hidden, 128),
        ExpertOffsets = Of(device, DType.Int32, experts + 1),
        TopK = topK,
        Output = Of(device, DType.BFloat16, tokens * topK, hidden),
    };

    private static MoeCombineArgs Combine(Device device, long tokens, long topK, long hidden) => new()
    {
        Y = Of(device, DType.BFloat16, tokens * topK, hidden),
        PairSlots = Of(device, DType.Int32, tokens * topK),
        Weights = Of(device, DType.Float32, tokens, topK),
        Output = Of(device, DType.BFloat16, tokens, hidden),
    };

    private static AttentionPrefillArgs Prefill(Device device, long tokens, long sequences, long context) => new()
    {
        Q = Heads(device, tokens, 16),
        Cache = Cache(device, 1, 8),
        BlockTable = Of(device, DType.Int32, sequences, (context / 128) + 1),
        QueryStarts = Of(device, DType.Int32, sequences + 1),
        ContextLengths = Of(device, DType.Int32, sequences),
        MaxQueries = tokens,
        MaxContext = context,
        Scale = 1,
        Output = Heads(device, tokens, 16),
    };

    private static AttentionDecodeArgs Decode(Device device, long sequences, long context) => new()
    {
        Q = Heads(device, sequences, 16),
        Cache = Cache(device, 1, 8),
        BlockTable = Of(device, DType.Int32, sequences, (context / 128) + 1),
        ContextLengths = Of(device, DType.Int32, sequences),
        MaxContext = context,
        Scale = 1,
        Output = Heads(device, sequences, 16),
        Workspace = Scratch(device),
    };

    private static TensorView Scratch(Device device) => Of(device, DType.Byte, 1L << 46);
}
