namespace Octet.Cli.Inspect;

/// <summary>The ops around the KV cache, with FP8 pages of 64 tokens and heads of 128.</summary>
internal static class AttentionSteps
{
    private const int HeadDim = 128, Page = 64, SmallestTile = 16;

    /// <summary>One query of each sequence over contexts of one length.</summary>
    public static Step Decode(long sequences, int queryHeads, int kvHeads, long context) => new(
        "attention_decode",
        plan =>
        {
            var pages = (context + Page - 1) / Page;
            var args = new AttentionDecodeArgs
            {
                Q = plan.New(DType.BFloat16, sequences, queryHeads, HeadDim),
                Cache = Cache(plan, sequences * pages, kvHeads),
                BlockTable = plan.New(DType.Int32, sequences, pages),
                ContextLengths = plan.New(DType.Int32, sequences),
                MaxContext = context,
                Scale = 0.0884f,
                Output = plan.New(DType.BFloat16, sequences, queryHeads, HeadDim),
            };
            var workspace = Ops.AttentionDecodeWorkspace(plan.Device, args);
            Ops.AttentionDecode(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        4.0 * sequences * queryHeads * context * HeadDim,
        2.0 * sequences * kvHeads * context * HeadDim + 4.0 * sequences * queryHeads * HeadDim,
        _ => 2.0 * sequences * kvHeads * Step.RoundUp(queryHeads / kvHeads, SmallestTile) * Step.RoundUp(context, Page) * HeadDim);

    /// <summary>A chunk of queries at the end of one sequence.</summary>
    public static Step Prefill(long queries, long context, int queryHeads, int kvHeads)
    {
        var seen = queries * (context - queries) + queries * (queries + 1) / 2.0;
        return new(
            "attention_prefill",
            plan =>
            {
                var pages = (context + Page - 1) / Page;
                var args = new AttentionPrefillArgs
                {
                    Q = plan.New(DType.BFloat16, queries, queryHeads, HeadDim),
                    Cache = Cache(plan, pages, kvHeads),
                    BlockTable = plan.New(DType.Int32, 1, pages),
                    QueryStarts = plan.New(DType.Int32, 2),
                    ContextLengths = plan.New(DType.Int32, 1),
                    MaxQueries = queries,
                    MaxContext = context,
                    Scale = 0.0884f,
                    Output = plan.New(DType.BFloat16, queries, queryHeads, HeadDim),
                };
                var workspace = Ops.AttentionPrefillWorkspace(plan.Device, args);
                Ops.AttentionPrefill(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
                return workspace;
            },
            4.0 * queryHeads * HeadDim * seen,
            2.0 * kvHeads * context * HeadDim + 4.0 * queries * queryHeads * HeadDim,
            // The tile on the diagonal is half empty.
            _ => 2.0 * queryHeads * HeadDim * (seen + queries * Page / 2.0));
    }

    /// <summary>QK-norm, rotary embedding and the write into the cache.</summary>
    public static Step Rope(long tokens, int queryHeads, int kvHeads) => new(
        "rope",
        plan =>
        {
            var qkv = plan.New(DType.BFloat16, tokens, (queryHeads + 2 * kvHeads) * HeadDim);
            Tensor Heads(int first, int count) => qkv.Slice(1, first * HeadDim, count * HeadDim).SplitLast(count, HeadDim);
            Ops.Rope(plan.Stream, new()
            {
                Q = Heads(0, queryHeads),
                K = Heads(queryHeads, kvHeads),
                V = Heads(queryHeads + kvHeads, kvHeads),
                QNorm = plan.New(DType.BFloat16, HeadDim),
                KNorm = plan.New(DType.BFloat16, HeadDim),
                Eps = 1e-6f,
                CosSin = plan.New(DType.Float32, 4096, HeadDim),
                Positions = plan.New(DType.Int32, tokens),
                Slots = plan.New(DType.Int64, tokens),
                QOutput = plan.New(DType.BFloat16, tokens, queryHeads, HeadDim),
                Cache = Cache(plan, tokens / Page + 1, kvHeads),
            });
            return 0;
        },
        0, tokens * HeadDim * (4.0 * queryHeads + 6.0 * kvHeads));

    private static KvCache Cache(PlanSession plan, long blocks, int kvHeads) => new()
    {
        K = plan.New(plan.Float8, blocks, kvHeads, Page, HeadDim),
        V = plan.New(plan.Float8, blocks, kvHeads, HeadDim, Page),
        KScales = plan.New(DType.Float32, 1),
        VScales = plan.New(DType.Float32, 1),
    };
}
