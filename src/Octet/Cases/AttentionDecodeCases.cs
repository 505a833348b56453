namespace Octet.Cases;

/// <summary>attention_decode: every row within the rounding of P and of the output.</summary>
internal static class AttentionDecodeCases
{
    private static readonly AttentionShape Small = new(4, 2);
    private static readonly AttentionShape Group = new(16, 1) { HeadDim = 64 };
    private static readonly AttentionShape Single = new(1, 1) { HeadDim = 64 };

    public static IEnumerable<Case> All =>
    [
        Decode("regular 4q 2kv, contexts 100 to 600", Small, [100, 257, 600]),
        Decode("regular head_dim 64, block 32, scale per head", Small with { HeadDim = 64, BlockSize = 32, ScalePerHead = true }, [70, 530]),
        Decode("regular bf16, block 64", Small with { Fp8 = false, BlockSize = 64 }, [33, 515]),
        Decode("regular bf16, head_dim 64, block 128", Small with { Fp8 = false, HeadDim = 64, BlockSize = 128 }, [200, 1025]),
        Decode("regular 3 queries", Small, [100, 513], queryLength: 3),
        Decode("regular window 100", Small with { Window = 100, BlockSize = 32 }, [50, 613, 1100], queryLength: 2),
        Decode("regular sinks", Small with { Sinks = true }, [20, 600]),
        Decode("regular sinks and window 7", Small with { Sinks = true, Window = 7 }, [3, 519], queryLength: 4),
        Decode("regular quantized, 3 queries", Small, [100, 513], queryLength: 3, quantized: true),
        Decode("regular quantized only", new(8, 1), [33, 700], quantized: true, output: false),
        Decode("regular quantized, bf16, sinks", Small with { Fp8 = false, Sinks = true }, [77], quantized: true),
        Decode("tail quantized, 3 heads of 64", new(3, 3) { HeadDim = 64 }, [70, 0, 5], queryLength: 2, quantized: true),
        Decode("tail quantized, group 3 of 64", new(6, 2) { HeadDim = 64 }, [530], quantized: true),
        Decode("tail quantized rows 3 apart", Small, [40, 41], padding: 3, quantized: true),
        Decode("tail quantized rows 8 apart", Small, [40, 41], padding: 8, quantized: true, output: false),
        Decode("corner quantized NaN in V", Small, [40, 40], quantized: true, edit: p => p.Pages.SetV(p.Block(1, 2), 1, 7, 9, float.NaN)),
        Decode("tail 1q 1kv, contexts 1, 17, 127, 129", Single, [1, 17, 127, 129]),
        Decode("tail 17q 17kv", new(17, 17) { HeadDim = 64 }, [129]),
        Decode("tail group 3", new(3, 1) { HeadDim = 64 }, [65], queryLength: 4),
        Decode("tail group 16, 4 queries", new(16, 1), [140], queryLength: 4),
        Decode("tail rows 3 apart", Small, [40, 41], padding: 3),
        Decode("tail rows 8 apart", Small, [40, 41], padding: 8),
        Decode("corner no sequences", Small, []),
        Decode("corner empty contexts", Small, [0, 5, 0]),
        Decode("corner nothing but empty contexts", Small, [0, 0], queryLength: 2),
        Decode("corner fewer tokens than queries", Small, [2, 1], queryLength: 4),
        Decode("corner bounds far above the contexts", Single, [10, 600], maxContext: 600, boundary: true),
        Decode("corner blocks outside the cache", Small, [100, 620], edit: p =>
        {
            p.SetBlock(0, 2, -1);
            p.SetBlock(0, 3, int.MaxValue);
            p.SetBlock(1, 0, int.MinValue);
        }),
        Decode("corner no block inside the cache", Small, [20], edit: p =>
        {
            p.SetBlock(0, 0, -1);
            p.SetBlock(0, 1, p.Shape.FirstBlock + p.Pages.Blocks);
        }),
        Decode("corner NaN in K and in V", Small, [40, 40], queryLength: 3, edit: p =>
        {
            p.Pages.SetK(p.Block(0, 2), 0, 6, 5, float.NaN);  // position 38 of 40: the first query does not see it
            p.Pages.SetV(p.Block(1, 2), 1, 7, 9, float.NaN);
        }),
        Decode("corner infinity in V, bf16", Small with { Fp8 = false }, [40], queryLength: 3, edit: p =>
            p.Pages.SetV(p.Block(0, 2), 1, 6, 9, float.NegativeInfinity)),
        Decode("corner scores of thousands", Small, [300], deviation: 300),
        Decode("corner 70,000 blocks before the first", Single with { FirstBlock = 70_000, BlockSize = 16 }, [130]),
        Decode("corner addresses beyond 2 GiB, bf16", Single with { FirstBlock = 1 << 28, Fp8 = false }, [77]),
        Decode("corner context 4,097", Single with { BlockSize = 128 }, [4097]),
        Decode("corner contexts of 16, 17 and 33 splits", Single with { BlockSize = 128 }, [8192, 8193, 16_400]),
        Decode("corner window 9,000 of 17,000", Single with { BlockSize = 128, Window = 9000 }, [17_000, 40]),
        Decode("corner contexts around a group of splits", Single with { BlockSize = 128 }, [2047, 2048, 2049]),
        Decode("corner groups, 115 contexts to 4,096", Single with { BlockSize = 128 }, Crowd(4096, 2047, 2048, 2049, 513)),
        Decode("corner groups, bf16, 2 queries, sinks", Single with { Fp8 = false, BlockSize = 128, Sinks = true }, Crowd(2600, 2049), queryLength: 2),
        Decode("corner groups, head_dim 128, quantized", new(1, 1) { BlockSize = 64 }, Crowd(2049, 2500), quantized: true),
        Decode("corner groups, window 1,500", Single with { BlockSize = 128, Window = 1500 }, Crowd(4000, 2048, 3600), queryLength: 3),
        Decode("corner groups, NaN and infinity in V", Single with { Fp8 = false, BlockSize = 128 }, Crowd(3000, 2049), queryLength: 2, edit: p =>
        {
            p.Pages.SetV(p.Block(0, 1), 0, 70, 5, float.NaN);      // the second wave's tokens of the first split
            p.Pages.SetV(p.Block(0, 9), 0, 3, 6, float.PositiveInfinity);
            p.Pages.SetV(p.Block(1, 16), 0, 0, 7, float.NaN);      // position 2,048: the first query does not see it
        }),
        Decode("corner groups, blocks outside the cache", Single with { BlockSize = 128 }, Crowd(2900), edit: p =>
        {
            p.SetBlock(0, 4, -1);
            p.SetBlock(0, 16, int.MaxValue);
        }),
        Decode("corner context 262,144", new(2, 1) { HeadDim = 64, BlockSize = 128 }, [262_144]) with { Tier = CaseTier.Full },
        Decode("model 64q 4kv, context 300", new(64, 4) { BlockSize = 64 }, [300], sample: 7),
        Decode("model TP2 32q 2kv, context 520", new(32, 2) { BlockSize = 64 }, [520], sample: 7),
        Decode("model TP4 16q 1kv, contexts 33 to 200", new(16, 1) { BlockSize = 64 }, [33, 64, 200], sample: 3),
        Decode("model TP8 8q 1kv, context 1,500", new(8, 1) { BlockSize = 64 }, [1500]),
        Decode("model 64q 4kv, 64 contexts of 4,096", new(64, 4) { BlockSize = 64 }, [.. Enumerable.Repeat(4096, 64)], sample: 511)
            with { Tier = CaseTier.Full },
        SameBits("corner same bits in any batch", Small with { BlockSize = 32 }, [600, 31, 90]),
        SameBits("corner same bits from groups and from splits", Group with { BlockSize = 128 }, Crowd(3000)),
        SameBits("corner same bits from groups and from splits, head_dim 128", new(2, 1) { BlockSize = 64 }, Crowd(2304)),
        SameBits("corner same bits from groups and from splits, bf16", Group with { BlockSize = 128, Fp8 = false }, Crowd(4096)),
        SameBits("corner same bits from groups and from splits, window", Group with { BlockSize = 128, Window = 1111 }, Crowd(3333)),
        SameBits("corner same bits from 1 and from 32 sets of lanes", Group with { BlockSize = 128 }, Crowd(9000)),
    ];

    private static Case Decode(
        string name, AttentionShape shape, int[] contexts, int queryLength = 1, int padding = 0, long maxContext = 0, bool boundary = false,
        double deviation = 1, int sample = 1, bool output = true, bool quantized = false, Action<AttentionProblem>? edit = null) => new("attention_decode", name, context =>
    {
        var problem = new AttentionProblem(context, shape, contexts);
        edit?.Invoke(problem);
        var rows = contexts.SelectMany((length, s) => Enumerable.Range(0, queryLength).Select(i => (s, (long)length - queryLength + i))).ToArray();
        var q = Array.ConvertAll(problem.Queries(rows.Length), x => (BFloat16)(float)(x * deviation));
        var width = shape.QHeads * shape.HeadDim;
        var stride = width + padding;
        var wideOutput = output ? context.InOut(new BFloat16[rows.Length * stride], rows.Length, stride) : default;
        var wideCodes = quantized ? context.CodesInOut(new byte[rows.Length * stride], rows.Length, stride) : default;
        var scales = quantized ? context.Output(DType.Float32, rows.Length, (width + Float8.Block - 1) / Float8.Block) : default;
        var args = new AttentionDecodeArgs
        {
            Q = KvCases.Heads(context, q, rows.Length, shape.QHeads, shape.HeadDim, padding),
            Cache = problem.Pages.Upload(written: false).Cache,
            BlockTable = problem.BlockTable(),
            ContextLengths = context.Input(contexts, contexts.Length),
            QueryLength = queryLength,
            MaxContext = problem.MaxContext + (boundary ? 2 * shape.BlockSize : 0),
            Scale = problem.Scale,
            Window = shape.Window,
            Sinks = problem.Sinks is { } sinks ? context.Input(sinks, sinks.Length) : default,
            Output = wideOutput.IsNull ? default : TensorView.Borrow(
                wideOutput.Device, wideOutput.Address, wideOutput.DType, [rows.Length, shape.QHeads, shape.HeadDim], [stride, shape.HeadDim, 1]),
            Quantized = wideCodes.IsNull ? null : new QuantizedTensor(wideCodes.Slice(1, 0, width), scales),
        };
        var withWorkspace = args with { Workspace = context.Workspace(Ops.AttentionDecodeWorkspace(context.Device, args)) };
        return new CaseBody(() => Ops.AttentionDecode(context.Stream, withWorkspace), () =>
        {
            if (!wideOutput.IsNull)
            {
                problem.Compare(rows, q, KvCases.Dense(context, wideOutput, width), sample);
            }

            if (!wideCodes.IsNull)
            {
                var (codes, expectedScales) = Rows.Quantize(problem.References(rows, q), width, context.Float8);
                var expectedCodes = Rows.Widen([.. codes.Select(code => (double)Float8.Widen(code, context.Float8))], width, stride);
                context.Compare("scales", scales, expectedScales, AttentionProblem.Tolerance);
                context.Compare(
                    "quantized", Scaled(context.Values(wideCodes), context.Values(scales), width, stride),
                    Scaled(expectedCodes, expectedScales, width, stride), AttentionProblem.Tolerance);
            }
        });
    })
    {
        Flops = contexts.Sum(length => 4.0 * length * queryLength * shape.QHeads * shape.HeadDim),
        Bytes = contexts.Sum(length => 2.0 * length * shape.KvHeads * shape.HeadDim * (shape.Fp8 ? 1 : 2)),
    };

    // Values of codes whose rows lie apart. A result near the edge between two codes may take either: the values are compared, and
    // 0.2 % of such codes would use up the tolerance.
    private static double[] Scaled(double[] codes, double[] scales, int width, int stride)
    {
        var blocks = (width + Float8.Block - 1) / Float8.Block;
        return [.. codes.Select((code, i) => i % stride < width ? code * scales[i / stride * blocks + i % stride / Float8.Block] : code)];
    }

    // The first sequence alone, and among others: the same bits, of the scales also those that rounding would hide.
    private static Case SameBits(string name, AttentionShape shape, int[] contexts) => new("attention_decode", name, context =>
    {
        var problem = new AttentionProblem(context, shape, contexts);
        var q = problem.Queries(contexts.Length);
        var (together, alone) = (Output(context, shape, contexts.Length), Output(context, shape, 1));
        var (codes, codesAlone) = (Codes(context, shape, contexts.Length), Codes(context, shape, 1));
        var all = new AttentionDecodeArgs
        {
            Q = context.Input(q, contexts.Length, shape.QHeads, shape.HeadDim),
            Cache = problem.Pages.Upload(written: false).Cache,
            BlockTable = problem.BlockTable(),
            ContextLengths = context.Input(contexts, contexts.Length),
            MaxContext = problem.MaxContext + shape.BlockSize,
            Scale = problem.Scale,
            Window = shape.Window,
            Output = together,
            Quantized = codes,
        };
        all = all with { Workspace = context.Workspace(Ops.AttentionDecodeWorkspace(context.Device, all)) };
        var one = all with
        {
            Q = all.Q.Slice(0, 0, 1),
            BlockTable = all.BlockTable.Slice(0, 0, 1),
            ContextLengths = all.ContextLengths.Slice(0, 0, 1),
            MaxContext = contexts[0],
            Output = alone,
            Quantized = codesAlone,
        };
        return new CaseBody(
            () =>
            {
                Ops.AttentionDecode(context.Stream, all);
                Ops.AttentionDecode(context.Stream, one);
            },
            () =>
            {
                context.Equal<byte>("the first sequence", context.Read(alone), context.Read(together.Slice(0, 0, 1)));
                context.Equal<byte>("its scales", context.Read(codesAlone.Scales), context.Read(codes.Scales.Slice(0, 0, 1)));
            });
    });

    private static QuantizedTensor Codes(CaseContext context, AttentionShape shape, int rows)
    {
        var width = shape.QHeads * shape.HeadDim;
        return new(
            context.CodesInOut(new byte[rows * width], rows, width), context.Output(DType.Float32, rows, (width + Float8.Block - 1) / Float8.Block));
    }

    // Contexts in front of so many short ones that blocks of whole groups fill every device.
    private static int[] Crowd(params int[] contexts) => [.. contexts, .. Enumerable.Range(0, 115 - contexts.Length).Select(i => 1 + i % 9)];

    private static TensorView Output(CaseContext context, AttentionShape shape, int rows) =>
        context.Output(DType.BFloat16, rows, shape.QHeads, shape.HeadDim);
}
