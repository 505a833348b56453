namespace Octet.Cli.Inspect;

/// <summary>The ops around the KV cache, with pages of 64 tokens; FP8 and heads of 128 unless said otherwise.</summary>
internal static class AttentionSteps
{
    private const int HeadDim = 128, Page = 64;

    /// <summary>One query of each sequence over contexts of one length; the output quantised.</summary>
    public static Step Decode(long sequences, int queryHeads, int kvHeads, long context, int headDim = HeadDim, bool bfloat16 = false)
    {
        var sizes = new AttentionSizes(queryHeads, kvHeads, headDim, bfloat16);
        return new(
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
                var first = FirstLaunch(plan, () => Ops.AttentionDecode(plan.Stream, args));
                return first is { } launch ? sizes.PartBytes(launch, sequences, context, context) : 0;
            },
            OpWork.AttentionDecode(sizes, sequences, context, context));
    }

    /// <summary>A chunk of queries at the end of one sequence.</summary>
    public static Step Prefill(long queries, long context, int queryHeads, int kvHeads, int headDim = HeadDim, bool bfloat16 = false)
    {
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
            OpWork.AttentionPrefill(new(queryHeads, kvHeads, headDim, bfloat16), 1, queries, context));
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
        OpWork.Rope(tokens, queryHeads, kvHeads, HeadDim));

    // An op's first launch: it tells what is left for the second, which may be less than the workspace holds. Only a planned device
    // tells, and tells once: so the op is called again.
    private static PlannedLaunch? FirstLaunch(OpSession plan, Action run)
    {
        run();
        if (!plan.IsPlanned)
        {
            return null;
        }

        var first = plan.TakeLaunches()[0];
        run();
        return first;
    }

    private static KvCache Cache(OpSession plan, long blocks, int kvHeads, int headDim, bool bfloat16) => new()
    {
        K = plan.New(bfloat16 ? DType.BFloat16 : plan.Float8, blocks, kvHeads, Page, headDim),
        V = plan.New(bfloat16 ? DType.BFloat16 : plan.Float8, blocks, kvHeads, headDim, Page),
        KScales = bfloat16 ? default : plan.New(DType.Float32, 1),
        VScales = bfloat16 ? default : plan.New(DType.Float32, 1),
    };
}
