namespace Octet.Cli.Inspect;

/// <summary>One op of a shape: how it is called, and what it has to do.</summary>
/// <param name="Op">Its name in the C ABI.</param>
/// <param name="Run">Calls it; gives the bytes of its workspace.</param>
/// <param name="Work">The arithmetic.</param>
internal sealed record Step(string Op, Func<OpSession, long> Run, OpWork Work)
{
    private const int TopK = 8, Experts = 128;

    /// <summary>
    /// output[m, n] = a[m, k] b[n, k]^T. fullK: of the matrix of which b has columns, whose sum is a tree; 0: a plain sum. fullN: rows of
    /// the matrix of which b has some; 0: b has all.
    /// </summary>
    public static Step Gemm(long m, long n, long k, bool bfloat16 = false, long fullK = 0, long fullN = 0) => new(
        "gemm",
        plan =>
        {
            var args = NewGemm(plan, m, n, k, bfloat16, fullK) with { FullN = fullN };
            var workspace = Ops.GemmWorkspace(plan.Device, args);
            Ops.Gemm(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        OpWork.Gemm(m, n, k, bfloat16));

    /// <summary>A product and the norm behind it, which adds up the product's partial sums where it is split.</summary>
    public static Step GemmAndNorm(long m, long n, long k, long fullK, bool output)
    {
        var segments = 0L; // planning tells
        return new(
            "gemm",
            plan =>
            {
                var sums = GemmForNext(plan, NewGemm(plan, m, n, k, bfloat16: false, fullK), out segments);
                var norm = Norm(m, n, output).Work;
                Norm(plan, m, n, output, sums, leaves: LeavesHeld(k, fullK));
                return sums.SizeInBytes + (long)norm.HbmBytes - 2 * m * n;
            },
            OpWork.Gemm(m, n, k, bfloat16: false) with { Turns = l => LoopTurns.Norm(l.Kernel, n, segments) });
    }

    /// <summary>The router and the routing behind it, which adds up the partial sums of the logits and sorts.</summary>
    public static Step RouterAndRoute(long m, long k, int local)
    {
        var segments = 0L; // planning tells
        return new(
            "gemm",
            plan =>
            {
                var sums = GemmForNext(plan, NewGemm(plan, m, Experts, k, bfloat16: true), out segments);
                Route(plan, m, local, sums);
                return sums.SizeInBytes;
            },
            OpWork.Gemm(m, Experts, k, bfloat16: true) with { Turns = l => LoopTurns.Route(l.Kernel, m, segments) });
    }

    /// <summary>silu(x gate^T) * (x up^T) of every slot, quantised.</summary>
    public static Step MoeGateUp(long tokens, int local, long hidden, long intermediate, int all = Experts) => new(
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
                LayerExperts = all,
                Output = plan.Quantized(tokens * TopK, intermediate),
            };
            var workspace = Ops.MoeGateUpWorkspace(plan.Device, args);
            Ops.MoeGateUp(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        OpWork.MoeGateUp(tokens, new(all, local, TopK), hidden, intermediate));

    /// <summary>x down^T of every slot.</summary>
    public static Step MoeDown(long tokens, int local, long hidden, long intermediate, int all = Experts) => new(
        "moe_down",
        plan =>
        {
            var args = new MoeDownArgs
            {
                X = plan.Quantized(tokens * TopK, intermediate),
                Down = plan.Weight(hidden, intermediate, local),
                ExpertOffsets = plan.Numbers(e => e * tokens * TopK / local, local + 1),
                TopK = TopK,
                LayerExperts = all,
                Output = plan.New(DType.BFloat16, tokens * TopK, hidden),
            };
            var workspace = Ops.MoeDownWorkspace(plan.Device, args);
            Ops.MoeDown(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
            return workspace;
        },
        OpWork.MoeDown(tokens, new(all, local, TopK), hidden, intermediate));

    /// <summary>Routing, and with it the sorting of the pairs by expert. scored: by sigmoid and a bias that chooses.</summary>
    public static Step MoeRoute(long tokens, int local, int experts = Experts, bool scored = false) => new(
        "moe_route",
        plan => Route(plan, tokens, local, plan.New(DType.Float32, tokens, experts), scored),
        OpWork.MoeRoute(tokens, experts, TopK));

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
        OpWork.MoeSort(tokens, TopK));

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
                PairExperts = plan.Numbers(p => 37 * p % Experts, tokens, TopK),
                LeafExperts = Experts / SumTree.LeavesOfExperts(Experts),
                Leaves = LeavesHeld(local),
                Output = plan.New(DType.BFloat16, tokens, hidden),
            });
            return 0;
        },
        OpWork.MoeCombine(tokens, new(Experts, local, TopK), hidden));

    /// <summary>Residual add, RMSNorm and quantisation; before the router also the BF16 output. Of plain rows, or of the weighted sums of slots.</summary>
    public static Step Norm(long tokens, long hidden, bool output, int slotsOf = 0) => new(
        "norm",
        plan => Norm(plan, tokens, hidden, output, plan.New(DType.BFloat16, slotsOf > 0 ? tokens * TopK : tokens, hidden), slotsOf),
        OpWork.Norm(
            tokens, hidden, 2 * (slotsOf > 0 ? new ExpertChoices(Experts, slotsOf, TopK).Pairs(tokens) : tokens),
            residual: true, output, quantized: true));

    /// <summary>Rows to FP8 blocks.</summary>
    public static Step Quantize(long rows, long columns) => new(
        "quantize",
        plan =>
        {
            Ops.Quantize(plan.Stream, new() { X = plan.New(DType.BFloat16, rows, columns), Output = plan.Quantized(rows, columns) });
            return 0;
        },
        OpWork.Quantize(rows, columns));

    private static GemmArgs NewGemm(OpSession plan, long m, long n, long k, bool bfloat16, long fullK = 0)
    {
        var a = bfloat16 ? new QuantizedTensor(plan.New(DType.BFloat16, m, k), default) : plan.Quantized(m, k);
        return new()
        {
            A = a.Values,
            AScales = a.Scales,
            B = bfloat16 ? new Weight { Values = plan.New(DType.BFloat16, n, k) } : plan.Weight(n, k),
            FullK = fullK,
            Leaves = fullK == 0 ? 0 : LeavesHeld(k, fullK),
            Output = plan.New(bfloat16 ? DType.Float32 : DType.BFloat16, m, n),
        };
    }

    // Leaves of a product's or of the experts' tree that a rank has.
    private static int LeavesHeld(long k, long fullK) => (int)(SumTree.LeavesOfProduct(fullK) * k / fullK);

    private static int LeavesHeld(int local) => Math.Max(SumTree.LeavesOfExperts(Experts) * local / Experts, 1);

    // Partial sums where the product is split, else the product.
    private static TensorView GemmForNext(OpSession plan, GemmArgs args, out long segments)
    {
        segments = Ops.GemmSegments(plan.Device, args);
        var sums = segments == 0 ? args.Output : plan.New(DType.Float32, segments, args.Output.Shape[0], args.Output.Shape[1]);
        args = args with { Output = sums };
        Ops.Gemm(plan.Stream, args with { Workspace = plan.Workspace(Ops.GemmWorkspace(plan.Device, args)) });
        return sums;
    }

    private static long Route(OpSession plan, long tokens, int local, TensorView logits, bool scored = false)
    {
        var args = new MoeRouteArgs
        {
            Logits = logits,
            Ids = plan.New(DType.Int32, tokens, TopK),
            Weights = plan.New(DType.Float32, tokens, TopK),
            Renormalize = true,
            Scoring = scored ? MoeScoring.Sigmoid : MoeScoring.Softmax,
            ScoreBias = scored ? plan.New(DType.Float32, logits.Shape[^1]) : default,
            ExpertOffsets = plan.New(DType.Int32, local + 1),
            SlotPairs = plan.New(DType.Int32, tokens * TopK),
            PairSlots = plan.New(DType.Int32, tokens * TopK),
        };
        var workspace = Ops.MoeRouteWorkspace(plan.Device, args);
        Ops.MoeRoute(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
        return workspace;
    }

    private static long Norm(OpSession plan, long tokens, long hidden, bool output, TensorView x, int slotsOf = 0, int leaves = 0)
    {
        Ops.Norm(plan.Stream, new()
        {
            X = x,
            XLeaves = x.Rank == 3 ? leaves : 0,
            PairSlots = slotsOf > 0 ? plan.Numbers(s => s, tokens * TopK) : default,
            PairWeights = slotsOf > 0 ? plan.New(DType.Float32, tokens, TopK) : default,
            PairExperts = slotsOf > 0 ? plan.Numbers(p => 37 * p % Experts, tokens, TopK) : default,
            LeafExperts = Experts / SumTree.LeavesOfExperts(Experts),
            Leaves = slotsOf > 0 ? LeavesHeld(slotsOf) : 0,
            Residual = plan.New(DType.BFloat16, tokens, hidden),
            Weight = plan.New(DType.BFloat16, hidden),
            Eps = 1e-6f,
            Output = output ? plan.New(DType.BFloat16, tokens, hidden) : default,
            Quantized = plan.Quantized(tokens, hidden),
        });
        return 0;
    }
}
