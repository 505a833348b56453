namespace Octet.Cli.Inspect;

/// <summary>
/// The arithmetic of what an op has to do: pure functions of its sizes. Experts are chosen at random, top_k of a layer's for each token.
/// </summary>
/// <param name="Flops">Useful ones, without padding.</param>
/// <param name="HbmBytes">Read and written at least: each byte once, experts nobody chose not at all.</param>
/// <param name="Macs">Multiply-adds a kernel makes of it, the padding of its tiles included; null: no matrix work.</param>
/// <param name="WorkingBlocks">
/// Blocks of a launch that have work, told of the kernel, the launch and the workspace's bytes; null: all.
/// </param>
/// <param name="Loads">Bytes the waves of a launch load in their hot loops by the widest loads; null: it follows from the rest.</param>
/// <param name="Turns">
/// Of every loop of a launch's kernel, where all that it runs is laid out (<see cref="WholeRun"/>); null: its hot loop tells its time.
/// </param>
internal sealed record OpWork(
    double Flops, double HbmBytes, Func<KernelCost, double>? Macs = null,
    Func<KernelCost, PlannedLaunch, long, double>? WorkingBlocks = null, Func<PlannedLaunch, double>? Loads = null,
    Func<PlannedLaunch, IReadOnlyList<int>?>? Turns = null)
{
    private const int ScaleBlock = 128, SmallestTile = 16, KvStep = 64;

    /// <summary>Bytes that are read and written, and nothing else.</summary>
    public static OpWork Moving(double bytes) => new(0, bytes);

    /// <summary>output[m, n] = a[m, k] b[n, k]^T. segments: f32 partial sums, left to the next op; 0: the product is written.</summary>
    public static OpWork Gemm(long m, long n, long k, bool bfloat16, long segments = 0)
    {
        var operands = bfloat16 ? 2.0 * (m + n) * k : (1 + 4.0 / ScaleBlock) * m * k + (double)n * k;
        var output = segments > 0 ? 4.0 * segments * m * n : (bfloat16 ? 4.0 : 2.0) * m * n;
        return new(
            2.0 * m * n * k, operands + output,
            kernel => (double)RoundUp(m, TileOf(kernel).M) * RoundUp(n, TileOf(kernel).N) * RoundUp(k, ScaleBlock));
    }

    /// <summary>silu(x gate^T) * (x up^T) of every slot, quantised.</summary>
    /// <param name="tokens">Of the step.</param>
    /// <param name="choices">The layer's experts and a token's, and how many are here.</param>
    /// <param name="hidden">Columns of x.</param>
    /// <param name="width">Of an expert.</param>
    public static OpWork MoeGateUp(long tokens, ExpertChoices choices, long hidden, long width) => new(
        4.0 * choices.Pairs(tokens) * width * hidden,
        choices.Distinct(tokens) * 2 * width * hidden + (double)tokens * hidden + choices.Pairs(tokens) * width,
        kernel => 2.0 * choices.PaddedSlots(tokens, TileOf(kernel).M) * width * hidden,
        (kernel, launch, workspace) => GroupedBlocks(kernel, launch, workspace, tokens, choices, width, 2),
        Turns: l => LoopTurns.GateUp(l.Kernel));

    /// <summary>x down^T of every slot; sizes as of <see cref="MoeGateUp"/>.</summary>
    public static OpWork MoeDown(long tokens, ExpertChoices choices, long hidden, long width) => new(
        2.0 * choices.Pairs(tokens) * width * hidden,
        choices.Distinct(tokens) * width * hidden + choices.Pairs(tokens) * (width + 2.0 * hidden),
        kernel => choices.PaddedSlots(tokens, TileOf(kernel).M) * width * hidden,
        (kernel, launch, workspace) => GroupedBlocks(kernel, launch, workspace, tokens, choices, hidden, 1));

    /// <summary>Routing, and with it the sorting of the pairs by expert. segments: partial sums of the logits; 0: they are whole.</summary>
    public static OpWork MoeRoute(long tokens, long experts, int topK, long segments = 0) => new(
        0, 4.0 * tokens * (Math.Max(segments, 1) * experts + 4 * topK), Turns: l => LoopTurns.Route(l.Kernel, tokens, segments));

    /// <summary>The sorting alone.</summary>
    public static OpWork MoeSort(long tokens, int topK) => Moving(12.0 * tokens * topK);

    /// <summary>The weighted sum of a token's slots.</summary>
    public static OpWork MoeCombine(long tokens, ExpertChoices choices, long hidden) => new(
        2.0 * choices.Pairs(tokens) * hidden, 2.0 * (choices.Pairs(tokens) + tokens) * hidden, Turns: l => LoopTurns.Combine(l.Kernel));

    /// <summary>Residual add, RMSNorm and what is written of it.</summary>
    /// <param name="tokens">Rows.</param>
    /// <param name="hidden">Columns.</param>
    /// <param name="summand">Bytes of x that are read for a column of all rows.</param>
    /// <param name="residual">Whether the residual stream is read and written.</param>
    /// <param name="plain">Whether BF16 rows are written.</param>
    /// <param name="quantized">Whether FP8 rows are written.</param>
    /// <param name="segments">Partial sums that x is; 0: none.</param>
    public static OpWork Norm(
        long tokens, long hidden, double summand, bool residual, bool plain, bool quantized, long segments = 0) => new(
        0, (((residual ? 4.0 : 0) + (plain ? 2.0 : 0) + (quantized ? 1.0 : 0)) * tokens + summand) * hidden,
        Turns: l => LoopTurns.Norm(l.Kernel, hidden, segments));

    /// <summary>Rows to FP8 blocks.</summary>
    public static OpWork Quantize(long rows, long columns) => Moving(3.0 * rows * columns);

    /// <summary>QK-norm, rotary embedding and the write into the cache.</summary>
    public static OpWork Rope(long tokens, int queryHeads, int kvHeads, int headDim) => new(
        0, tokens * headDim * (4.0 * queryHeads + 6.0 * kvHeads), Turns: l => LoopTurns.Rope(l.Kernel, queryHeads * headDim));

    /// <summary>Queries of each sequence over contexts of one length; the output quantised.</summary>
    /// <param name="sizes">Heads and what the cache holds.</param>
    /// <param name="sequences">Sequences.</param>
    /// <param name="context">Tokens that each sees.</param>
    /// <param name="maxContext">What the launch was made for, at least as many.</param>
    public static OpWork AttentionDecode(AttentionSizes sizes, long sequences, long context, long maxContext) => new(
        4.0 * sequences * sizes.QueryHeads * context * sizes.HeadDim,
        sizes.KvBytes(sequences, context) + 3.0 * sequences * sizes.QueryHeads * sizes.HeadDim,
        _ => 2.0 * sequences * sizes.KvHeads * sizes.PaddedColumns * RoundUp(context, KvStep) * sizes.HeadDim,
        (_, launch, _) => launch.Blocks * sizes.PartShare(launch, sequences, context, maxContext),
        _ => sizes.KvBytes(sequences, RoundUp(context, KvStep)));

    /// <summary>Chunks of queries, each at the end of its sequence.</summary>
    public static OpWork AttentionPrefill(AttentionSizes sizes, long sequences, long queries, long context)
    {
        var seen = queries * (context - queries) + queries * (queries + 1) / 2.0;
        return new(
            4.0 * sequences * sizes.QueryHeads * sizes.HeadDim * seen,
            sizes.KvBytes(sequences, context) + 4.0 * sequences * queries * sizes.QueryHeads * sizes.HeadDim,
            // The tile on the diagonal is half empty. Each block reads the keys and values its queries see.
            _ => 2.0 * sequences * sizes.QueryHeads * sizes.HeadDim * (seen + queries * KvStep / 2.0),
            Loads: launch => launch.Blocks * (seen / queries + KvStep / 2.0) * sizes.HeadDim * sizes.BytesPerPair);
    }

    public static long RoundUp(long value, long tile) => (value + tile - 1) / tile * tile;

    private static (int M, int N) TileOf(KernelCost kernel) =>
        (kernel.Tile.M == 0 ? SmallestTile : kernel.Tile.M, kernel.Tile.N == 0 ? SmallestTile : kernel.Tile.N);

    // Tiles that hold slots x tiles of the width x segments of a split k, whose partial sums the workspace holds.
    private static double GroupedBlocks(
        KernelCost kernel, PlannedLaunch launch, long workspace, long tokens, ExpertChoices choices, long n, int matrices)
    {
        var m = TileOf(kernel).M;
        // A name's n counts the rows of all matrices of the tile.
        var width = kernel.Tile.N != 0 ? kernel.Tile.N / matrices
            : Math.Max(SmallestTile, kernel.Mix.Macs * (launch.Threads / 64) / ((long)m * ScaleBlock * matrices));
        var segments = Math.Max(1, Math.Round(workspace / (4.0 * tokens * choices.TopK * n * matrices)));
        return Math.Max(1, Math.Min(launch.Blocks, choices.Tiles(tokens, m) * Math.Ceiling((double)n / width) * segments));
    }
}

/// <summary>Each token chooses so many of a layer's experts at random; a rank has some of them.</summary>
/// <param name="All">The layer's.</param>
/// <param name="Local">The rank's.</param>
/// <param name="TopK">A token's.</param>
internal readonly record struct ExpertChoices(int All, int Local, int TopK)
{
    /// <summary>Pairs of a token and an expert of the rank.</summary>
    public double Pairs(long tokens) => (double)tokens * TopK * Local / All;

    /// <summary>Experts of the rank that get a token.</summary>
    public double Distinct(long tokens) => CostModel.DistinctExperts(All, Local, TopK, tokens);

    /// <summary>Tiles of so many slots that the experts fill.</summary>
    public double Tiles(long tokens, int rows) => CostModel.ExpertTiles(All, Local, TopK, tokens, rows);

    /// <summary>Slots of these tiles.</summary>
    public double PaddedSlots(long tokens, int rows) => Tiles(tokens, rows) * rows;
}

/// <summary>What attention works on.</summary>
/// <param name="QueryHeads">Of the rank.</param>
/// <param name="KvHeads">Of the rank.</param>
/// <param name="HeadDim">Values of a head.</param>
/// <param name="BFloat16">Whether the cache holds BF16; else FP8.</param>
internal readonly record struct AttentionSizes(int QueryHeads, int KvHeads, int HeadDim, bool BFloat16)
{
    private const int Columns = 16, SplitTokens = 512;

    /// <summary>Query heads of a KV head, in whole tiles.</summary>
    public long PaddedColumns => OpWork.RoundUp(QueryHeads / KvHeads, Columns);

    /// <summary>Bytes of one value of K and one of V.</summary>
    public double BytesPerPair => BFloat16 ? 4 : 2;

    /// <summary>Bytes of K and V of sequences of one length.</summary>
    public double KvBytes(long sequences, long context) => BytesPerPair * sequences * KvHeads * context * HeadDim;

    /// <summary>Parts that a launch of decode cuts the context's bound into.</summary>
    public long Parts(PlannedLaunch launch, long sequences) => launch.Blocks / (sequences * KvHeads * PaddedColumns / Columns);

    /// <summary>Of these, the share that lies in the context: a part is whole splits of 512 tokens.</summary>
    public double PartShare(PlannedLaunch launch, long sequences, long context, long maxContext)
    {
        var parts = Math.Max(1, Parts(launch, sequences));
        var tokens = OpWork.RoundUp((maxContext + parts - 1) / parts, SplitTokens);
        return Math.Min(1.0, (double)((context + tokens - 1) / tokens) / parts);
    }

    /// <summary>
    /// Bytes that the blocks of a launch of decode leave to the one that combines: O, the largest score and the sum of each row and part.
    /// </summary>
    public long PartBytes(PlannedLaunch launch, long sequences, long context, long maxContext)
    {
        var parts = Parts(launch, sequences) * PartShare(launch, sequences, context, maxContext);
        return (long)Math.Round(sequences * QueryHeads * parts) * (HeadDim + 2) * sizeof(float);
    }
}
