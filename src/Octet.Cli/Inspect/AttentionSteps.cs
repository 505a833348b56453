using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>The ops around the KV cache, with pages of 64 tokens; FP8 and heads of 128 unless said otherwise.</summary>
internal static class AttentionSteps
{
    private const int HeadDim = 128, Page = 64, SmallestTile = 16;

    /// <summary>One query of each sequence over contexts of one length; the output quantised.</summary>
    public static Step Decode(long sequences, int queryHeads, int kvHeads, long context, int headDim = HeadDim, bool bfloat16 = false) => new(
        "attention_decode",
        plan =>
        {
            var pages = (context + Page - 1) / Page;
            var args = new AttentionDecodeArgs
            {
                Q = plan.New(DType.BFloat16, sequences, queryHeads, headDim),
                Cache = Cache(plan, sequences * pages, kvHeads, headDim, bfloat16),
                BlockTable = plan.Numbers(b => b, sequences, pages),
                ContextLengths = plan.Numbers(_ => context, sequences),
                MaxContext = context,
                Scale = 0.0884f,
                Quantized = plan.Quantized(sequences, queryHeads * headDim),
            };
            args = args with { Workspace = plan.Workspace(Ops.AttentionDecodeWorkspace(plan.Device, args)) };
            var parts = Blocks(plan, () => Ops.AttentionDecode(plan.Stream, args)) / (sequences * kvHeads);
            return sequences * queryHeads * parts * (headDim + 2) * sizeof(float);
        },
        4.0 * sequences * queryHeads * context * headDim,
        (bfloat16 ? 4.0 : 2.0) * sequences * kvHeads * context * headDim + 3.0 * sequences * queryHeads * headDim,
        _ => 2.0 * sequences * kvHeads * Step.RoundUp(queryHeads / kvHeads, SmallestTile) * Step.RoundUp(context, Page) * headDim,
        Loads: _ => (bfloat16 ? 4.0 : 2.0) * sequences * kvHeads * Step.RoundUp(context, Page) * headDim);

    /// <summary>A chunk of queries at the end of one sequence.</summary>
    public static Step Prefill(long queries, long context, int queryHeads, int kvHeads, int headDim = HeadDim, bool bfloat16 = false)
    {
        var seen = queries * (context - queries) + queries * (queries + 1) / 2.0;
        return new(
            "attention_prefill",
            plan =>
            {
                var pages = (context + Page - 1) / Page;
                var args = new AttentionPrefillArgs
                {
                    Q = plan.New(DType.BFloat16, queries, queryHeads, headDim),
                    Cache = Cache(plan, pages, kvHeads, headDim, bfloat16),
                    BlockTable = plan.Numbers(b => b, 1, pages),
                    QueryStarts = plan.Numbers(i => i * queries, 2),
                    ContextLengths = plan.Numbers(_ => context, 1),
                    MaxQueries = queries,
                    MaxContext = context,
                    Scale = 0.0884f,
                    Output = plan.New(DType.BFloat16, queries, queryHeads, headDim),
                };
                var workspace = Ops.AttentionPrefillWorkspace(plan.Device, args);
                Ops.AttentionPrefill(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
                return workspace;
            },
            4.0 * queryHeads * headDim * seen,
            (bfloat16 ? 4.0 : 2.0) * kvHeads * context * headDim + 4.0 * queries * queryHeads * headDim,
            // The tile on the diagonal is half empty. Each block reads the keys and values its queries see.
            _ => 2.0 * queryHeads * headDim * (seen + queries * Page / 2.0),
            Loads: launch => launch.Blocks * (seen / queries + Page / 2.0) * headDim * (bfloat16 ? 4 : 2));
    }

    /// <summary>QK-norm, rotary embedding and the write into the cache. together: the norm is over all heads of a token.</summary>
    public static Step Rope(long tokens, int queryHeads, int kvHeads, int rotaryDim = HeadDim, bool together = false) => new(
        "rope",
        plan =>
        {
            var qkv = plan.New(DType.BFloat16, tokens, (queryHeads + 2 * kvHeads) * HeadDim);
            TensorView Heads(int first, int count) => qkv.Slice(1, first * HeadDim, count * HeadDim).SplitLast(count, HeadDim);
            Ops.Rope(plan.Stream, new()
            {
                Q = Heads(0, queryHeads),
                K = Heads(queryHeads, kvHeads),
                V = Heads(queryHeads + kvHeads, kvHeads),
                QNorm = plan.New(DType.BFloat16, together ? queryHeads * HeadDim : HeadDim),
                KNorm = plan.New(DType.BFloat16, together ? kvHeads * HeadDim : HeadDim),
                Eps = 1e-6f,
                CosSin = plan.New(DType.Float32, 4096, rotaryDim),
                Positions = plan.Numbers(t => t % 4096, tokens),
                Slots = plan.Ascending(tokens),
                QOutput = plan.New(DType.BFloat16, tokens, queryHeads, HeadDim),
                Cache = Cache(plan, tokens / Page + 1, kvHeads, HeadDim, bfloat16: false),
            });
            return 0;
        },
        0, tokens * HeadDim * (4.0 * queryHeads + 6.0 * kvHeads), Turns: l => LoopTurns.Rope(l.Kernel, queryHeads * HeadDim));

    // Blocks of an op's first launch: they tell what it leaves for the second, which may be less than the workspace holds. Only a
    // planned device tells, and tells once: so the op is called again.
    private static long Blocks(OpSession plan, Action run)
    {
        run();
        if (!plan.Device.Name.StartsWith("plan:", StringComparison.Ordinal))
        {
            return 0;
        }

        var blocks = ((NativeBackend)plan.Device.Backend).TakePlannedLaunches()[0].Blocks;
        run();
        return blocks;
    }

    private static KvCache Cache(OpSession plan, long blocks, int kvHeads, int headDim, bool bfloat16) => new()
    {
        K = plan.New(bfloat16 ? DType.BFloat16 : plan.Float8, blocks, kvHeads, Page, headDim),
        V = plan.New(bfloat16 ? DType.BFloat16 : plan.Float8, blocks, kvHeads, headDim, Page),
        KScales = bfloat16 ? default : plan.New(DType.Float32, 1),
        VScales = bfloat16 ? default : plan.New(DType.Float32, 1),
    };
}
