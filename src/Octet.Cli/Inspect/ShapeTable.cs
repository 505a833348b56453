namespace Octet.Cli.Inspect;

/// <summary>A named shape: one op, or several that follow each other.</summary>
/// <param name="Op">The op's name; "moe_layer" and "decode_layer" for sequences.</param>
/// <param name="Name">What it is in the model, and its sizes.</param>
/// <param name="Steps">In order.</param>
internal sealed record Shape(string Op, string Name, IReadOnlyList<Step> Steps);

/// <summary>The shapes of Qwen3-235B under each split of the model, the ones others have published times for, and ops that MiniMax-M2 has otherwise.</summary>
internal static class ShapeTable
{
    private const int Hidden = 4096, Intermediate = 1536, HeadDim = 128, QueryHeads = 64, KvHeads = 4, Experts = 128, Vocabulary = 151_936;
    private const int DecodeContext = 4096, FullQkv = (QueryHeads + 2 * KvHeads) * HeadDim;
    private static readonly long[] Tokens = [1, 16, 64, 256, 1024, 4096, 16384];

    /// <summary>
    /// Small versions of the shapes, for the simulator: as many tokens, fewer columns. Where a kernel has a long loop, a second one
    /// with more of its turns: the difference of the two is the loop's.
    /// </summary>
    public static readonly (Step Short, Step? Long)[] Small =
    [
        .. new long[] { 1, 16, 32, 64, 128, 512 }.Select(m => (Step.Gemm(m, 512, 1024), (Step?)Step.Gemm(m, 512, 2048))),
        (Step.Gemm(2048, 2048, 256), Step.Gemm(2048, 2048, 384)),
        (Step.Gemm(16, Experts, 1024, bfloat16: true), Step.Gemm(16, Experts, 2048, bfloat16: true)),
        (Step.Gemm(64, Experts, 1024, bfloat16: true), Step.Gemm(64, Experts, 2048, bfloat16: true)),
        .. new long[] { 1, 16, 64, 256 }.SelectMany(t => new[]
        {
            (Step.MoeGateUp(t, 8, 512, 256, all: 8), (Step?)Step.MoeGateUp(t, 8, 768, 256, all: 8)),
            (Step.MoeDown(t, 8, 256, 512, all: 8), Step.MoeDown(t, 8, 256, 768, all: 8)),
        }),
        (AttentionSteps.Decode(2, 16, 1, 1024), AttentionSteps.Decode(2, 16, 1, 2048)),
        (AttentionSteps.Prefill(128, 256, 8, 1), AttentionSteps.Prefill(128, 512, 8, 1)),
        (Step.MoeRoute(16, Experts), null), (Step.MoeRoute(128, Experts), null), (Step.MoeRoute(16, 256, 256, scored: true), null), (Step.MoeRoute(64, 256, 256, scored: true), null), (Step.MoeSort(64, Experts), null), (Step.MoeCombine(16, Experts, Hidden), null),
        (AttentionSteps.Rope(16, 8, 1), null), (AttentionSteps.Rope(16, 48, 8, rotaryDim: 64, together: true), null), (Step.Quantize(16, Hidden), null), (Step.Norm(16, Hidden, output: true), null),
        (Step.Norm(16, Hidden, output: false, Experts), null),
    ];

    /// <summary>Tensor-parallel ranks, and how the experts are shared among them.</summary>
    private sealed record Split(string Name, int Ranks, int LocalExperts, int Width)
    {
        public int Queries => QueryHeads / Ranks;

        // Fewer heads than ranks: each is held twice.
        public int Keys => Math.Max(1, KvHeads / Ranks);

        public int Qkv => (Queries + 2 * Keys) * HeadDim;
    }

    private static readonly Split[] Splits =
    [
        new("TP1", 1, Experts, Intermediate), new("TP2", 2, Experts, Intermediate / 2), new("TP4", 4, Experts, Intermediate / 4),
        new("TP4/EP4", 4, Experts / 4, Intermediate), new("TP8", 8, Experts, Intermediate / 8), new("TP8/EP8", 8, Experts / 8, Intermediate),
    ];

    public static List<Shape> All()
    {
        var shapes = new List<Shape>();
        foreach (var m in Tokens)
        {
            shapes.AddRange(Dense(m));
            shapes.AddRange(Splits.SelectMany(s => Moe(m, s)));
        }

        shapes.AddRange(Tokens.Where(t => t <= 256).SelectMany(batch => Splits.DistinctBy(s => s.Ranks).Select(s => Decode(batch, s, DecodeContext))));
        shapes.Add(new("attention_decode", "64q/4kv batch 64 context 32768", [AttentionSteps.Decode(64, 64, 4, 32768)]));
        shapes.Add(new("attention_decode", "8q/1kv batch 1 context 131072", [AttentionSteps.Decode(1, 8, 1, 131_072)]));
        shapes.Add(new("attention_decode", "8q/1kv batch 16 context 131072", [AttentionSteps.Decode(16, 8, 1, 131_072)]));
        foreach (var queries in Tokens.Where(t => t >= 256))
        {
            shapes.Add(new("attention_prefill", $"64q/4kv queries {queries}", [AttentionSteps.Prefill(queries, queries, 64, 4)]));
            shapes.Add(new("attention_prefill", $"8q/1kv queries {queries}", [AttentionSteps.Prefill(queries, queries, 8, 1)]));
        }

        shapes.Add(new("attention_prefill", "64q/4kv queries 4096 of context 32768", [AttentionSteps.Prefill(4096, 32768, 64, 4)]));
        shapes.AddRange(new long[] { 2048, 4096, 8192 }.Select(m => new Shape("gemm", $"square m={m} n={m} k={m}", [Step.Gemm(m, m, m)])));
        shapes.AddRange(new long[] { 32, 128, 512, 2048 }.SelectMany(m => Splits.DistinctBy(s => s.Ranks).SelectMany(s => Projections(m, s))));
        shapes.AddRange(Tokens.Where(t => t <= 256).SelectMany(batch => Splits.Select(s => Layer(batch, s))));
        return shapes;
    }

    private static IEnumerable<Shape> Dense(long m)
    {
        foreach (var split in Splits.DistinctBy(s => s.Ranks))
        {
            foreach (var projection in Projections(m, split))
            {
                yield return projection;
            }

            if (m <= 256)
            {
                yield return Gemm($"lm head {split.Name}", m, Vocabulary / split.Ranks, Hidden, bfloat16: true, fullN: Vocabulary);
            }

            yield return new("rope", $"{split.Queries}q/{split.Keys}kv tokens {m}", [AttentionSteps.Rope(m, split.Queries, split.Keys)]);
            yield return new("quantize", $"attention {split.Name} m={m} columns={split.Queries * HeadDim}", [Step.Quantize(m, split.Queries * HeadDim)]);
        }

        yield return Gemm("router", m, Experts, Hidden, bfloat16: true);
        yield return new("norm", $"quantized m={m} hidden={Hidden}", [Step.Norm(m, Hidden, output: false)]);
        yield return new("norm", $"quantized and bf16 m={m} hidden={Hidden}", [Step.Norm(m, Hidden, output: true)]);
        yield return new("norm", $"combining slots m={m} hidden={Hidden}", [Step.Norm(m, Hidden, output: false, Experts)]);
        yield return new("rope", $"MiniMax-M2 48q/8kv tokens {m}", [AttentionSteps.Rope(m, 48, 8, rotaryDim: 64, together: true)]);
        yield return new("moe_route", $"tokens {m}", [Step.MoeRoute(m, Experts)]);
        yield return new("moe_route", $"MiniMax-M2 256 experts tokens {m}", [Step.MoeRoute(m, 256, 256, scored: true)]);
        yield return new("moe_sort", $"tokens {m}", [Step.MoeSort(m, Experts)]);
        yield return new("moe_combine", $"tokens {m}", [Step.MoeCombine(m, Experts, Hidden)]);
    }

    private static IEnumerable<Shape> Projections(long m, Split split) =>
    [
        Gemm($"qkv {split.Name}", m, split.Qkv, Hidden, fullN: FullQkv),
        Gemm($"o {split.Name}", m, Hidden, split.Queries * HeadDim, fullK: QueryHeads * HeadDim),
    ];

    private static Shape Gemm(string name, long m, long n, long k, bool bfloat16 = false, long fullK = 0, long fullN = 0) =>
        new("gemm", $"{name} m={m} n={n} k={k}", [Step.Gemm(m, n, k, bfloat16, fullK, fullN)]);

    private static IEnumerable<Shape> Moe(long tokens, Split split)
    {
        var name = $"{split.Name} T={tokens} experts={split.LocalExperts} width={split.Width}";
        yield return new("moe_gate_up", name, [Step.MoeGateUp(tokens, split.LocalExperts, Hidden, split.Width)]);
        yield return new("moe_down", name, [Step.MoeDown(tokens, split.LocalExperts, Hidden, split.Width)]);
        yield return new("moe_layer", name, MoeSteps(tokens, split));
    }

    private static Shape Decode(long batch, Split split, long context) => new(
        "attention_decode", $"{split.Queries}q/{split.Keys}kv batch {batch} context {context}",
        [AttentionSteps.Decode(batch, split.Queries, split.Keys, context)]);

    // What the router's output starts: sorting, both grouped products, the weighted sum.
    private static Step[] MoeSteps(long tokens, Split split) =>
    [
        Step.MoeRoute(tokens, split.LocalExperts), Step.MoeGateUp(tokens, split.LocalExperts, Hidden, split.Width),
        Step.MoeDown(tokens, split.LocalExperts, Hidden, split.Width), Step.MoeCombine(tokens, split.LocalExperts, Hidden),
    ];

    // The ops of one layer in a decode step, as the engine calls them: the first norm takes up the experts' outputs of the layer before.
    // What GPUs send each other is not in it; the partial sums of a split product are then added before they are sent.
    private static Shape Layer(long batch, Split split) => new(
        "decode_layer", $"{split.Name} batch {batch} context {DecodeContext}",
        [
            Step.Norm(batch, Hidden, output: false, split.LocalExperts), Step.Gemm(batch, split.Qkv, Hidden, fullN: FullQkv),
            AttentionSteps.Rope(batch, split.Queries, split.Keys),
            AttentionSteps.Decode(batch, split.Queries, split.Keys, DecodeContext), Step.GemmAndNorm(batch, Hidden, split.Queries * HeadDim, QueryHeads * HeadDim, output: true),
            Step.RouterAndRoute(batch, Hidden, split.LocalExperts), .. MoeSteps(batch, split).Skip(1).SkipLast(1),
        ]);
}
