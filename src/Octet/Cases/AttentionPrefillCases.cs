namespace Octet.Cases;

/// <summary>attention_prefill: every row within the rounding of P and of the output; rows of no sequence untouched.</summary>
internal static class AttentionPrefillCases
{
    private static readonly AttentionShape Small = new(4, 2);
    private static readonly AttentionShape Single = new(1, 1) { HeadDim = 64 };

    private static readonly int[] Chunks = [1, 7, 64];

    public static IEnumerable<Case> All =>
    [
        Prefill("regular 4q 2kv, whole and chunk", Small, [(50, 50), (20, 90)]),
        Prefill("regular head_dim 64, block 32, scale per head", Small with { HeadDim = 64, BlockSize = 32, ScalePerHead = true }, [(70, 70), (33, 200)]),
        Prefill("regular bf16, block 64", Small with { Fp8 = false, BlockSize = 64 }, [(65, 65), (3, 100)]),
        Prefill("regular bf16, head_dim 64, block 128", Small with { Fp8 = false, HeadDim = 64, BlockSize = 128 }, [(40, 140)]),
        Prefill("regular window 40", Small with { Window = 40, BlockSize = 32 }, [(100, 100), (10, 150)], sample: 3),
        Prefill("regular sinks", Small with { Sinks = true }, [(30, 30), (2, 60)]),
        Prefill("regular sinks and window 7", Small with { Sinks = true, Window = 7 }, [(40, 75)]),
        Prefill("tail 1, 17, 127 and 129 tokens", Single, [(1, 1), (17, 17), (127, 127), (129, 129)], sample: 3),
        Prefill("tail 1 query over 1, 17, 127, 129", Single, [(1, 1), (1, 17), (1, 127), (1, 129)]),
        Prefill("tail group 3", new(3, 1) { HeadDim = 64 }, [(45, 60)]),
        Prefill("tail group 16", new(16, 1), [(9, 40)]),
        Prefill("tail 17q 17kv", new(17, 17) { HeadDim = 64 }, [(5, 33)], sample: 3),
        Prefill("tail rows 3 apart", Small, [(20, 30)], padding: 3),
        Prefill("tail rows 8 apart", Small, [(20, 30)], padding: 8),
        Prefill("corner no tokens", Small, [(0, 0)]),
        Prefill("corner no sequences", Small, []),
        Prefill("corner sequences without queries", Small, [(0, 30), (7, 7), (0, 0), (5, 40)]),
        Prefill("corner rows of no sequence", Small, [(7, 20)], surplus: 9),
        Prefill("corner more queries than context", Small, [(9, 4), (3, 0)]),
        Prefill("corner blocks outside the cache", Small, [(40, 90)], edit: p =>
        {
            p.SetBlock(0, 0, -1);
            p.SetBlock(0, 3, int.MaxValue);
            p.SetBlock(0, 4, p.Shape.FirstBlock + p.Pages.Blocks);
        }),
        Prefill("corner no block inside the cache", Small, [(16, 16)], edit: p => p.SetBlock(0, 0, int.MinValue)),
        Prefill("corner NaN in K of a token", Small, [(40, 40)], edit: p => p.Pages.SetK(p.Block(0, 1), 0, 5, 77, float.NaN)),
        Prefill("corner NaN in V of a token", Small, [(40, 40)], edit: p => p.Pages.SetV(p.Block(0, 1), 1, 5, 77, float.NaN)),
        Prefill("corner NaN in V behind the window", Small with { Window = 9 }, [(60, 60)], edit: p =>
            p.Pages.SetV(p.Block(0, 2), 0, 0, 3, float.NaN)),
        Prefill("corner infinity in V, bf16", Small with { Fp8 = false }, [(40, 40)], edit: p =>
            p.Pages.SetV(p.Block(0, 1), 1, 5, 77, float.PositiveInfinity)),
        Prefill("corner scores of thousands", Small, [(60, 100)], deviation: 300),
        Prefill("corner 70,000 blocks before the first", Single with { FirstBlock = 70_000 }, [(40, 50)]),
        Prefill("corner addresses beyond 2 GiB, bf16", Single with { FirstBlock = 1 << 28, Fp8 = false }, [(20, 41)]),
        Prefill("corner 3 queries over 8,192", Single with { BlockSize = 128 }, [(3, 8192)]),
        Prefill("corner 3 queries over 262,144", Single with { BlockSize = 128 }, [(3, 262_144)]) with { Tier = CaseTier.Full },
        Prefill("corner 32,768 tokens, window 64", Single with { BlockSize = 128, Window = 64 }, [(32_768, 32_768)], sample: 97)
            with { Tier = CaseTier.Full },
        Prefill("model 64q 4kv, 5 of 40", new(64, 4) { BlockSize = 64 }, [(5, 40)], sample: 7),
        Prefill("model TP8 8q 1kv, 40 of 170", new(8, 1) { BlockSize = 64 }, [(40, 170)], sample: 7),
        Prefill("model TP8 8q 1kv, 4,096 tokens", new(8, 1) { BlockSize = 64 }, [(4096, 4096)], sample: 1021) with { Tier = CaseTier.Full },
        .. Chunks.Select(chunk => SameBits($"corner same bits in chunks of {chunk}", Small with { BlockSize = 32 }, 70, chunk)),
    ];

    private static Case Prefill(
        string name, AttentionShape shape, (int Queries, int Context)[] sequences, int padding = 0, int surplus = 0, double deviation = 1,
        int sample = 1, Action<AttentionProblem>? edit = null) => new("attention_prefill", name, context =>
    {
        var contexts = Array.ConvertAll(sequences, s => s.Context);
        var problem = new AttentionProblem(context, shape, contexts);
        edit?.Invoke(problem);
        var rows = sequences
            .SelectMany((s, number) => Enumerable.Range(0, s.Queries).Select(i => (number, (long)s.Context - s.Queries + i)))
            .Concat(Enumerable.Repeat((-1, 0L), surplus)).ToArray();
        var starts = new int[sequences.Length + 1];
        for (var i = 0; i < sequences.Length; i++)
        {
            starts[i + 1] = starts[i] + sequences[i].Queries;
        }

        var q = Array.ConvertAll(problem.Queries(rows.Length), x => (BFloat16)(float)(x * deviation));
        var width = shape.QHeads * shape.HeadDim;
        var output = context.InOut(new BFloat16[rows.Length * (width + padding)], rows.Length, width + padding);
        var args = new AttentionPrefillArgs
        {
            Q = KvCases.Heads(context, q, rows.Length, shape.QHeads, shape.HeadDim, padding),
            Cache = problem.Pages.Upload(written: false).Cache,
            BlockTable = problem.BlockTable(),
            QueryStarts = context.Input(starts, starts.Length),
            ContextLengths = context.Input(contexts, contexts.Length),
            MaxQueries = sequences.Select(s => s.Queries).DefaultIfEmpty().Max(),
            MaxContext = problem.MaxContext,
            Scale = problem.Scale,
            Window = shape.Window,
            Sinks = problem.Sinks is { } sinks ? context.Input(sinks, sinks.Length) : default,
            Output = TensorView.Borrow(
                output.Device, output.Address, output.DType, [rows.Length, shape.QHeads, shape.HeadDim], [width + padding, shape.HeadDim, 1]),
        };
        args = args with { Workspace = context.Workspace(Ops.AttentionPrefillWorkspace(context.Device, args)) };
        return new CaseBody(
            () => Ops.AttentionPrefill(context.Stream, args),
            () => problem.Compare(rows, q, KvCases.Dense(context, output, width), sample));
    })
    {
        Flops = sequences.Sum(s => 4.0 * s.Queries * (s.Context - (s.Queries - 1) / 2.0) * shape.QHeads * shape.HeadDim),
        Bytes = sequences.Sum(s =>
            4.0 * s.Queries * shape.QHeads * shape.HeadDim + 2.0 * s.Context * shape.KvHeads * shape.HeadDim * (shape.Fp8 ? 1 : 2)),
    };

    // One sequence in one launch, and in chunks over a growing context: the same bits.
    private static Case SameBits(string name, AttentionShape shape, int tokens, int chunk) => new("attention_prefill", name, context =>
    {
        var problem = new AttentionProblem(context, shape, [tokens]);
        var (whole, inChunks) = (Output(context, shape, tokens), Output(context, shape, tokens));
        var all = new AttentionPrefillArgs
        {
            Q = context.Input(problem.Queries(tokens), tokens, shape.QHeads, shape.HeadDim),
            Cache = problem.Pages.Upload(written: false).Cache,
            BlockTable = problem.BlockTable(),
            QueryStarts = context.Input([0, tokens], 2),
            ContextLengths = context.Input([tokens], 1),
            MaxQueries = tokens,
            MaxContext = tokens,
            Scale = problem.Scale,
            Output = whole,
        };
        all = all with { Workspace = context.Workspace(Ops.AttentionPrefillWorkspace(context.Device, all)) };
        var chunks = new List<AttentionPrefillArgs>();
        for (var start = 0; start < tokens; start += chunk)
        {
            var queries = Math.Min(chunk, tokens - start);
            chunks.Add(all with
            {
                Q = all.Q.Slice(0, start, queries),
                QueryStarts = context.Input([0, queries], 2),
                ContextLengths = context.Input([start + queries], 1),
                MaxQueries = chunk,
                Output = inChunks.Slice(0, start, queries),
            });
        }

        return new CaseBody(
            () =>
            {
                Ops.AttentionPrefill(context.Stream, all);
                chunks.ForEach(args => Ops.AttentionPrefill(context.Stream, args));
            },
            () => context.Equal<byte>("in chunks", context.Read(inChunks), context.Read(whole)));
    });

    private static TensorView Output(CaseContext context, AttentionShape shape, int rows) =>
        context.Output(DType.BFloat16, rows, shape.QHeads, shape.HeadDim);
}
