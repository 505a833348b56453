namespace Octet.Cases;

/// <summary>Every op on the shapes of Qwen3-235B-A22B on one device, at the token counts that matter.</summary>
internal static class WorkloadList
{
    private const int Hidden = 4096;
    private const int Intermediate = 1536;
    private const int Experts = 128;
    private const int TopK = 8;
    private const int QHeads = 64;
    private const int KvHeads = 4;
    private const int HeadDim = 128;
    private const int BlockSize = 64;
    private const int Vocabulary = 151_936;

    private static readonly int[] Tokens = [1, 8, 64, 512];

    /// <summary>All of them, op by op.</summary>
    public static IReadOnlyList<Workload> All { get; } =
    [
        .. Tokens.Select(m => Gemm("QKV", m, (QHeads + 2 * KvHeads) * HeadDim, Hidden)),
        .. Tokens.Select(m => Gemm("O", m, Hidden, QHeads * HeadDim, isTree: true)),
        .. Tokens.Select(m => Gemm("router", m, Experts, Hidden, bf16: true)),
        Gemm("LM head, an eighth of it", 1, Vocabulary / 8, Hidden, bf16: true),
        Gemm("LM head, an eighth of it", 8, Vocabulary / 8, Hidden, bf16: true),
        .. Tokens.Select(m => Moe(gateUp: true, m)),
        .. Tokens.Select(m => Moe(gateUp: false, m)),
        Decode(1, 1024), Decode(1, 16_384), Decode(8, 4096),
        Prefill(64, 64), Prefill(512, 512), Prefill(512, 4096),
        .. new[] { 1, 64 }.SelectMany(Small),
    ];

    /// <summary>C = A B^T of FP8 blocks to BF16, also as the tree that ranks would share, or of BF16 to f32.</summary>
    public static Workload Gemm(string name, int m, int n, int k, bool bf16 = false, bool isTree = false)
    {
        var bytes = ((double)m * k + (double)n * k) * (bf16 ? 2 : 1) + (double)m * n * (bf16 ? 4 : 2);
        return new Workload("gemm", $"{name} m{m} n{n} k{k}{(bf16 ? " bf16" : "")}", 2.0 * m * n * k, bytes, context =>
        {
            var all = Enumerable.Range(0, context.Copies(bytes)).Select(_ =>
            {
                var a = bf16 ? default : context.Quantized(m, k);
                var args = new GemmArgs
                {
                    A = bf16 ? context.BFloat16s(m, k) : a.Values,
                    AScales = a.Scales,
                    B = bf16 ? new Weight { Values = context.BFloat16s(n, k) } : context.Weight(n, k),
                    Leaves = isTree ? SumTree.LeavesOfProduct(k) : 0,
                    Output = context.Create(bf16 ? DType.Float32 : DType.BFloat16, m, n),
                };
                return args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
            }).ToArray();
            return i => Ops.Gemm(context.Stream, all[i % all.Length]);
        });
    }

    /// <summary>One stage of the experts of a whole layer: all 128, each token routed to 8 at random; a few such routings in turn.</summary>
    public static Workload Moe(bool gateUp, int tokens, int experts = Experts)
    {
        const int Routings = 8;
        var (n, k) = gateUp ? (Intermediate, Hidden) : (Hidden, Intermediate);
        var random = new Random(tokens);
        var routings = Enumerable.Range(0, Routings).Select(_ => Route(random, tokens, experts)).ToArray();
        var matrices = gateUp ? 2 : 1;
        var touched = routings.Average(ids => ids.Distinct().Count());
        return new Workload(
            gateUp ? "moe_gate_up" : "moe_down", $"{tokens} tokens, {TopK} of {experts} experts, n{n} k{k}", 2.0 * tokens * TopK * n * k * matrices,
            touched * matrices * n * k + (double)tokens * TopK * (n + k), context =>
            {
                var first = context.Weight(n, k, experts);
                var second = gateUp ? context.Weight(n, k, experts) : first;
                var slots = tokens * TopK;
                var all = routings.Select(ids => Launch(context, ids, gateUp, tokens, experts, first, second)).ToArray();
                return i => all[i % all.Length]();
            });
    }

    /// <summary>Gate and up of so many experts with one token each, of twice 32 that take turns.</summary>
    public static Workload Touching(int experts, int n, int k) => new(
        "moe_gate_up", $"1 token in each of {experts} experts, n{n} k{k}", 4.0 * experts * n * k, 2.0 * experts * n * k, context =>
        {
            const int Stack = 64;
            var (first, second) = (context.Weight(n, k, Stack), context.Weight(n, k, Stack));
            var all = Enumerable.Range(0, Stack / experts)
                .Select(i => Launch(context, [.. Enumerable.Range(i * experts, experts)], gateUp: true, experts, Stack, first, second, topK: 1)).ToArray();
            return i => all[i % all.Length]();
        });

    /// <summary>Attention of one new token in each of some sequences.</summary>
    public static Workload Decode(int sequences, int length)
    {
        var bytes = 2.0 * sequences * length * KvHeads * HeadDim;
        return new Workload("attention_decode", $"{sequences} x context {length}", 4.0 * sequences * length * QHeads * HeadDim, bytes, context =>
        {
            var copies = context.Copies(bytes);
            var (cache, tables) = Cache(context, copies, sequences, length);
            var q = context.BFloat16s(sequences, QHeads, HeadDim);
            var args = new AttentionDecodeArgs
            {
                Q = q,
                Cache = cache,
                BlockTable = tables[0],
                ContextLengths = context.From<int>([.. Enumerable.Repeat(length, sequences)], sequences),
                MaxContext = length,
                Scale = 0.088f,
                Output = context.Create(DType.BFloat16, sequences, QHeads, HeadDim),
            };
            args = args with { Workspace = context.Workspace(Ops.AttentionDecodeWorkspace(context.Device, args)) };
            return i => Ops.AttentionDecode(context.Stream, args with { BlockTable = tables[i % tables.Length] });
        });
    }

    /// <summary>Attention of a chunk of a prompt, its own tokens included in the context.</summary>
    public static Workload Prefill(int queries, int length)
    {
        var seen = (double)queries * length - 0.5 * queries * (queries - 1);
        var bytes = 2.0 * length * KvHeads * HeadDim + 4.0 * queries * QHeads * HeadDim;
        return new Workload("attention_prefill", $"{queries} of context {length}", 4.0 * seen * QHeads * HeadDim, bytes, context =>
        {
            var (cache, tables) = Cache(context, context.Copies(bytes), 1, length);
            var args = new AttentionPrefillArgs
            {
                Q = context.BFloat16s(queries, QHeads, HeadDim),
                Cache = cache,
                BlockTable = tables[0],
                QueryStarts = context.From<int>([0, queries], 2),
                ContextLengths = context.From<int>([length], 1),
                MaxQueries = queries,
                MaxContext = length,
                Scale = 0.088f,
                Output = context.Create(DType.BFloat16, queries, QHeads, HeadDim),
            };
            args = args with { Workspace = context.Workspace(Ops.AttentionPrefillWorkspace(context.Device, args)) };
            return i => Ops.AttentionPrefill(context.Stream, args with { BlockTable = tables[i % tables.Length] });
        });
    }

    /// <summary>Expert numbers of every token, distinct within a token.</summary>
    public static int[] Route(Random random, int tokens, int experts)
    {
        var order = Enumerable.Range(0, experts).ToArray();
        return [.. Enumerable.Range(0, tokens).SelectMany(_ =>
        {
            random.Shuffle(order);
            return order[..TopK];
        })];
    }

    // What surrounds the products: moved bytes count.
    private static IEnumerable<Workload> Small(int tokens)
    {
        double elements = (double)tokens * Hidden;
        yield return Rotated("norm", $"{tokens} x {Hidden}, residual, quantised", 7 * elements, context =>
        {
            var args = new NormArgs
            {
                X = context.BFloat16s(tokens, Hidden), Residual = context.BFloat16s(tokens, Hidden), Weight = context.BFloat16s(Hidden), Eps = 1e-6f,
                Quantized = context.Quantized(tokens, Hidden),
            };
            return () => Ops.Norm(context.Stream, args);
        });
        yield return Rotated("quantize", $"{tokens} x {QHeads * HeadDim}", 3 * elements * QHeads * HeadDim / Hidden, context =>
        {
            var args = new QuantizeArgs { X = context.BFloat16s(tokens, QHeads * HeadDim), Output = context.Quantized(tokens, QHeads * HeadDim) };
            return () => Ops.Quantize(context.Stream, args);
        });
        yield return Rotated("activation", $"{tokens * TopK} x {Intermediate}, quantised", 5.0 * tokens * TopK * Intermediate, context =>
        {
            var output = context.Quantized(tokens * TopK, Intermediate);
            var args = new ActivationArgs
            {
                Gate = context.BFloat16s(tokens * TopK, Intermediate), Up = context.BFloat16s(tokens * TopK, Intermediate), Output = output.Values,
                Scales = output.Scales,
            };
            return () => Ops.Activation(context.Stream, args);
        });
        yield return Rotated("embedding", $"{tokens} of {Vocabulary / 8} x {Hidden}", 4 * elements, context =>
        {
            var args = new EmbeddingArgs
            {
                Table = context.BFloat16s(Vocabulary / 8, Hidden), Output = context.Create(DType.BFloat16, tokens, Hidden),
                Ids = context.From<int>([.. Enumerable.Range(0, tokens).Select(_ => context.Random.Next(Vocabulary / 8))], tokens),
            };
            return () => Ops.Embedding(context.Stream, args);
        }, copies: 1);
        yield return Rotated("moe_route", $"{tokens} x {Experts}, top {TopK}", 4.0 * tokens * Experts, context =>
        {
            var args = new MoeRouteArgs
            {
                Logits = context.Scales(tokens, Experts), Ids = context.Create(DType.Int32, tokens, TopK),
                Weights = context.Create(DType.Float32, tokens, TopK), Renormalize = true,
            };
            args = args with { Workspace = context.Workspace(Ops.MoeRouteWorkspace(context.Device, args)) };
            return () => Ops.MoeRoute(context.Stream, args);
        });
        yield return Rotated("moe_combine", $"{tokens} x {TopK} x {Hidden}", 2 * elements * (TopK + 1), context =>
        {
            var args = new MoeCombineArgs
            {
                Y = context.BFloat16s(tokens * TopK, Hidden), PairSlots = context.From<int>([.. Enumerable.Range(0, tokens * TopK)], tokens * TopK),
                Weights = context.Scales(tokens, TopK), PairExperts = context.From<int>(Route(context.Random, tokens, Experts), tokens, TopK),
                LeafExperts = Experts / SumTree.LeavesOfExperts(Experts), Leaves = SumTree.LeavesOfExperts(Experts),
                Output = context.Create(DType.BFloat16, tokens, Hidden),
            };
            return () => Ops.MoeCombine(context.Stream, args);
        });
        yield return Rotated("rope", $"{tokens} x ({QHeads} + {KvHeads} + {KvHeads}) heads", tokens * HeadDim * (4.0 * QHeads + 6 * KvHeads), context =>
        {
            var (cache, _) = Cache(context, 1, 1, Math.Max(tokens, BlockSize));
            var args = new RopeArgs
            {
                Q = context.BFloat16s(tokens, QHeads, HeadDim), K = context.BFloat16s(tokens, KvHeads, HeadDim),
                V = context.BFloat16s(tokens, KvHeads, HeadDim), QNorm = context.BFloat16s(HeadDim), KNorm = context.BFloat16s(HeadDim), Eps = 1e-6f,
                CosSin = context.Scales(tokens, HeadDim), Positions = context.From<int>([.. Enumerable.Range(0, tokens)], tokens),
                Slots = context.From<long>([.. Enumerable.Range(0, tokens).Select(i => (long)i)], tokens),
                QOutput = context.Create(DType.BFloat16, tokens, QHeads, HeadDim), Cache = cache,
            };
            return () => Ops.Rope(context.Stream, args);
        });
        yield return Rotated("sampling", $"{Math.Min(tokens, 8)} x {Vocabulary}, top-k 20, top-p 0.8", 4.0 * Math.Min(tokens, 8) * Vocabulary, context =>
        {
            var rows = Math.Min(tokens, 8);
            var args = new SamplingArgs
            {
                Logits = context.Scales(rows, Vocabulary), Temperatures = context.From<float>([.. Enumerable.Repeat(0.7f, rows)], rows),
                TopK = context.From<int>([.. Enumerable.Repeat(20, rows)], rows), TopP = context.From<float>([.. Enumerable.Repeat(0.8f, rows)], rows),
                Seeds = context.From<long>(new long[rows], rows), Counters = context.From<long>(new long[rows], rows),
                Ids = context.Create(DType.Int32, rows),
            };
            args = args with { Workspace = context.Workspace(Ops.SamplingWorkspace(context.Device, args)) };
            return () => Ops.Sampling(context.Stream, args);
        }, copies: 2);
    }

    private static Workload Rotated(string op, string name, double bytes, Func<WorkloadContext, Action> prepare, int copies = 0) =>
        new(op, name, 0, bytes, context =>
        {
            var all = Enumerable.Range(0, copies > 0 ? copies : context.Copies(bytes)).Select(_ => prepare(context)).ToArray();
            return i => all[i % all.Length]();
        });

    private static Action Launch(
        WorkloadContext context, int[] ids, bool gateUp, int tokens, int experts, Weight first, Weight second, int topK = TopK)
    {
        var sorted = ExpertSlots.Of(ids, 0, experts);
        var offsets = context.From<int>(sorted.Offsets, experts + 1);
        if (!gateUp)
        {
            var down = new MoeDownArgs
            {
                X = context.Quantized(ids.Length, Intermediate), Down = first, ExpertOffsets = offsets, TopK = topK,
                Output = context.Create(DType.BFloat16, ids.Length, Hidden),
            };
            down = down with { Workspace = context.Workspace(Ops.MoeDownWorkspace(context.Device, down)) };
            return () => Ops.MoeDown(context.Stream, down);
        }

        var args = new MoeGateUpArgs
        {
            X = context.Quantized(tokens, Hidden), Gate = first, Up = second, ExpertOffsets = offsets, TopK = topK,
            SlotPairs = context.From<int>(sorted.SlotPairs, ids.Length), Output = context.Quantized(ids.Length, Intermediate),
        };
        args = args with { Workspace = context.Workspace(Ops.MoeGateUpWorkspace(context.Device, args)) };
        return () => Ops.MoeGateUp(context.Stream, args);
    }

    // One cache with room for all copies; a copy is a block table, its blocks scattered.
    private static (KvCache Cache, TensorView[] Tables) Cache(WorkloadContext context, int copies, int sequences, int length)
    {
        var blocks = (length + BlockSize - 1) / BlockSize;
        var total = copies * sequences * blocks;
        var numbers = Enumerable.Range(0, total).ToArray();
        context.Random.Shuffle(numbers);
        var scale = context.From<float>([1f], 1);
        var cache = new KvCache
        {
            K = context.Codes(total, KvHeads, BlockSize, HeadDim), V = context.Codes(total, KvHeads, HeadDim, BlockSize), KScales = scale, VScales = scale,
        };
        return (cache, [.. numbers.Chunk(sequences * blocks).Select(table => context.From<int>(table, sequences, blocks))]);
    }
}
