namespace Octet.Cli.Inspect;

/// <summary>One op of a shape: how it is called, and the arithmetic of what it has to do.</summary>
/// <param name="Op">Its name in the C ABI.</param>
/// <param name="Run">Calls it; gives the bytes of its workspace.</param>
/// <param name="Flops">Useful ones, without padding.</param>
/// <param name="HbmBytes">Read and written at least: each byte once, experts nobody chose not at all.</param>
/// <param name="Macs">Multiply-adds a kernel makes of it, the padding of its tiles included; null: no matrix work.</param>
/// <param name="WorkingBlocks">Blocks of a launch that have work; null: all.</param>
/// <param name="Loads">Bytes the waves of a launch load in their hot loops by the widest loads; null: it follows from Macs or HbmBytes.</param>
internal sealed record Step(
    string Op, Func<OpSession, long> Run, double Flops, double HbmBytes, Func<KernelCost, double>? Macs = null,
    Func<KernelCost, PlannedLaunch, long, double>? WorkingBlocks = null, Func<PlannedLaunch, double>? Loads = null)
{
    private const int ScaleBlock = 128, SmallestTile = 16, TopK = 8, Experts = 128;

    /// <summary>output[m, n] = a[m, k] b[n, k]^T.</summary>
    public static Step Gemm(long m, long n, long k, bool bfloat16 = false) => new(
        "gemm",
        plan =>
        {
            var a = bfloat16 ? new QuantizedTensor(plan.New(DType.BFloat16, m, k), null!) : plan.Quantized(m, k);
            var args = new GemmArgs
            {
                A = a.Values,
                AScales = a.Scales,
                B = bfloat16 ? new Weight { Values = plan.New(DType.BFloat16, n, k) } : plan.Weight(n, k),
                Output = plan.New(bfloat16 ? DType.Float32 : DType.BFloat16, m, n),
            };
            var workspace = Ops.GemmWorkspace(plan.Device, args);
            Ops.Gemm(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        2.0 * m * n * k,
        bfloat16 ? 2.0 * (m + n) * k + 4.0 * m * n : (1 + 4.0 / ScaleBlock) * m * k + (double)n * k + 2.0 * m * n,
        kernel => (double)RoundUp(m, TileOf(kernel).M) * RoundUp(n, TileOf(kernel).N) * RoundUp(k, ScaleBlock));

    /// <summary>silu(x gate^T) * (x up^T) of every slot, quantised.</summary>
    public static Step MoeGateUp(long tokens, int local, long hidden, long intermediate) => new(
        "moe_gate_up",
        plan =>
        {
            var args = new MoeGateUpArgs
            {
                X = plan.Quantized(tokens, hidden),
                Gate = plan.Weight(intermediate, hidden, local),
                Up = plan.Weight(intermediate, hidden, local),
                ExpertOffsets = plan.Numbers(e => e * tokens * TopK / local, local + 1),
                SlotPairs = plan.Numbers(s => s, tokens * TopK),
                TopK = TopK,
                Output = plan.Quantized(tokens * TopK, intermediate),
            };
            var workspace = Ops.MoeGateUpWorkspace(plan.Device, args);
            Ops.MoeGateUp(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        4.0 * LocalPairs(tokens, local) * intermediate * hidden,
        CostModel.DistinctExperts(Experts, local, TopK, tokens) * 2 * intermediate * hidden + (double)tokens * hidden + LocalPairs(tokens, local) * intermediate,
        kernel => 2.0 * PaddedSlots(kernel, tokens, local) * intermediate * hidden,
        (kernel, launch, workspace) => GroupedBlocks(kernel, launch, workspace, tokens, local, intermediate, 2));

    /// <summary>x down^T of every slot.</summary>
    public static Step MoeDown(long tokens, int local, long hidden, long intermediate) => new(
        "moe_down",
        plan =>
        {
            var args = new MoeDownArgs
            {
                X = plan.Quantized(tokens * TopK, intermediate),
                Down = plan.Weight(hidden, intermediate, local),
                ExpertOffsets = plan.Numbers(e => e * tokens * TopK / local, local + 1),
                TopK = TopK,
                Output = plan.New(DType.BFloat16, tokens * TopK, hidden),
            };
            var workspace = Ops.MoeDownWorkspace(plan.Device, args);
            Ops.MoeDown(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        2.0 * LocalPairs(tokens, local) * intermediate * hidden,
        CostModel.DistinctExperts(Experts, local, TopK, tokens) * intermediate * hidden + LocalPairs(tokens, local) * (intermediate + 2.0 * hidden),
        kernel => PaddedSlots(kernel, tokens, local) * intermediate * hidden,
        (kernel, launch, workspace) => GroupedBlocks(kernel, launch, workspace, tokens, local, hidden, 1));

    /// <summary>Routing, and with it the sorting of the pairs by expert.</summary>
    public static Step MoeRoute(long tokens, int local) => new(
        "moe_route",
        plan =>
        {
            Ops.MoeRoute(plan.Stream, new()
            {
                Logits = plan.New(DType.Float32, tokens, Experts),
                Ids = plan.New(DType.Int32, tokens, TopK),
                Weights = plan.New(DType.Float32, tokens, TopK),
                Renormalize = true,
                ExpertOffsets = plan.New(DType.Int32, local + 1),
                SlotPairs = plan.New(DType.Int32, tokens * TopK),
                PairSlots = plan.New(DType.Int32, tokens * TopK),
            });
            return 0;
        },
        0, 4.0 * tokens * (Experts + 4 * TopK));

    /// <summary>The sorting alone.</summary>
    public static Step MoeSort(long tokens, int local) => new(
        "moe_sort",
        plan =>
        {
            var args = new MoeSortArgs
            {
                Ids = plan.Numbers(p => 37 * p % Experts, tokens, TopK),
                ExpertOffsets = plan.New(DType.Int32, local + 1),
                SlotPairs = plan.New(DType.Int32, tokens * TopK),
                PairSlots = plan.New(DType.Int32, tokens * TopK),
                Experts = Experts,
            };
            var workspace = Ops.MoeSortWorkspace(plan.Device, args);
            Ops.MoeSort(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        0, 12.0 * tokens * TopK);

    /// <summary>The weighted sum of a token's slots.</summary>
    public static Step MoeCombine(long tokens, int local, long hidden) => new(
        "moe_combine",
        plan =>
        {
            Ops.MoeCombine(plan.Stream, new()
            {
                Y = plan.New(DType.BFloat16, tokens * TopK, hidden),
                PairSlots = plan.Numbers(s => s, tokens * TopK),
                Weights = plan.New(DType.Float32, tokens, TopK),
                Output = plan.New(DType.BFloat16, tokens, hidden),
            });
            return 0;
        },
        2.0 * LocalPairs(tokens, local) * hidden, 2.0 * (LocalPairs(tokens, local) + tokens) * hidden);

    /// <summary>Residual add, RMSNorm and quantisation; before the router also the BF16 output. Of plain rows, or of the weighted sums of slots.</summary>
    public static Step Norm(long tokens, long hidden, bool output, int slotsOf = 0) => new(
        "norm",
        plan =>
        {
            Ops.Norm(plan.Stream, new()
            {
                X = plan.New(DType.BFloat16, slotsOf > 0 ? tokens * TopK : tokens, hidden),
                PairSlots = slotsOf > 0 ? plan.Numbers(s => s, tokens * TopK) : null,
                PairWeights = slotsOf > 0 ? plan.New(DType.Float32, tokens, TopK) : null,
                Residual = plan.New(DType.BFloat16, tokens, hidden),
                Weight = plan.New(DType.BFloat16, hidden),
                Eps = 1e-6f,
                Output = output ? plan.New(DType.BFloat16, tokens, hidden) : null,
                Quantized = plan.Quantized(tokens, hidden),
            });
            return 0;
        },
        0, ((output ? 7.0 : 5.0) * tokens + 2 * (slotsOf > 0 ? LocalPairs(tokens, slotsOf) : tokens)) * hidden);

    /// <summary>Rows to FP8 blocks.</summary>
    public static Step Quantize(long rows, long columns) => new(
        "quantize",
        plan =>
        {
            Ops.Quantize(plan.Stream, new() { X = plan.New(DType.BFloat16, rows, columns), Output = plan.Quantized(rows, columns) });
            return 0;
        },
        0, 3.0 * rows * columns);

    public static long RoundUp(long value, long tile) => (value + tile - 1) / tile * tile;

    private static (int M, int N) TileOf(KernelCost kernel) =>
        (kernel.Tile.M == 0 ? SmallestTile : kernel.Tile.M, kernel.Tile.N == 0 ? SmallestTile : kernel.Tile.N);

    private static double LocalPairs(long tokens, int local) => (double)tokens * TopK * local / Experts;

    private static double PaddedSlots(KernelCost kernel, long tokens, int local) =>
        CostModel.ExpertTiles(Experts, local, TopK, tokens, TileOf(kernel).M) * TileOf(kernel).M;

    // Tiles that hold slots x tiles of the width x segments of a split k, whose partial sums the workspace holds.
    private static double GroupedBlocks(KernelCost kernel, PlannedLaunch launch, long workspace, long tokens, int local, long n, int matrices)
    {
        var m = TileOf(kernel).M;
        // A name's n counts the rows of all matrices of the tile.
        var width = kernel.Tile.N != 0 ? kernel.Tile.N / matrices
            : Math.Max(SmallestTile, kernel.Mix.Macs * (launch.Threads / 64) / ((long)m * ScaleBlock * matrices));
        var segments = Math.Max(1, Math.Round(workspace / (4.0 * tokens * TopK * n * matrices)));
        var tiles = CostModel.ExpertTiles(Experts, local, TopK, tokens, m);
        return Math.Max(1, Math.Min(launch.Blocks, tiles * Math.Ceiling((double)n / width) * segments));
    }
}
