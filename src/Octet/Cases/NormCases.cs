namespace Octet.Cases;

/// <summary>norm: BF16 output within its rounding (1e-6 of calc_diff alone), codes at most one away, the written residual exact.</summary>
internal static class NormCases
{
    private const double OutputTolerance = 1e-5;
    private const double TreeTolerance = 2e-5; // against a sum that rounds nothing: the roundings of eight leaves' tree come to 6e-6
    private const double ScaleTolerance = 1e-10; // a few f32 roundings: calc_diff is the square of the relative error

    private static readonly int[] NodeCounts = [2, 4, 8];

    public static IEnumerable<Case> All =>
    [
        Norm("regular 4 x 256", 4, 256),
        Norm("regular 4 x 256 residual", 4, 256, residual: true),
        Norm("regular 3 x 512 output only", 3, 512, residual: true, quantized: false),
        Norm("regular 3 x 512 quantized only", 3, 512, residual: true, output: false),
        Norm("regular 3 x 256 rows 16 apart", 3, 256, residual: true, padding: 16),
        Norm("tail 5 x 1", 5, 1, residual: true),
        Norm("tail 2 x 17", 2, 17, residual: true),
        Norm("tail 2 x 127", 2, 127),
        Norm("tail 2 x 129", 2, 129, residual: true),
        Norm("tail 3 x 129 rows 3 apart", 3, 129, residual: true, padding: 3),
        Norm("tail 2 x 128 rows 1 apart", 2, 128, padding: 1),
        Norm("tail 2 x 2049", 2, 2049, residual: true),
        Norm("tail 1 x 4104", 1, 4104),
        Norm("corner no tokens", 0, 256, residual: true),
        Norm("corner rows of zeros", 2, 257, edit: (x, hidden) => x.AsSpan().Clear()),
        Norm("corner NaN in a row", 3, 256, edit: (x, hidden) => x[hidden + 5] = (BFloat16)float.NaN),
        Norm("corner infinity in a row", 3, 256, edit: (x, hidden) => x[hidden + 5] = (BFloat16)float.NegativeInfinity),
        Norm("corner tiny and huge rows", 2, 384, edit: (x, hidden) => Scale(x, hidden, 1e-12f, 1e12f)),
        Norm("corner 400 tokens of 8", 400, 8, residual: true),
        Norm("regular 4 x 256 of 3 partial sums", 4, 256, residual: true, source: Source.Partials),
        Norm("tail 3 x 129 of partial sums rows 3 apart", 3, 129, padding: 3, source: Source.Partials),
        Norm("regular 4 x 256 of slots", 4, 256, residual: true, source: Source.Slots),
        Norm("tail 5 x 129 of slots rows 3 apart", 5, 129, padding: 3, source: Source.Slots),
        Norm("corner no tokens of slots", 0, 256, residual: true, source: Source.Slots),
        Norm("corner 5 x 2056 of slots, all elsewhere", 5, 2056, residual: true, source: Source.NoSlots),
        Norm("regular 4 x 256 of 8 partial sums, 8 leaves", 4, 256, residual: true, source: Source.Partials, segments: 8, leaves: 8),
        Norm("regular 4 x 256 of 8 partial sums, 4 leaves", 4, 256, residual: true, source: Source.Partials, segments: 8, leaves: 4),
        Norm("regular 4 x 256 of 6 partial sums, 2 leaves", 4, 256, residual: true, source: Source.Partials, segments: 6, leaves: 2),
        Norm("regular 4 x 256 of 4 partial sums, one leaf", 4, 256, residual: true, source: Source.Partials, segments: 4, leaves: 1),
        Norm("regular 4 x 256 of 32 partial sums, 8 leaves", 4, 256, source: Source.Partials, segments: 32, leaves: 8),
        Norm("tail 3 x 129 of 16 partial sums, 8 leaves, rows 3 apart", 3, 129, padding: 3, source: Source.Partials, segments: 16, leaves: 8),
        Norm("tail 2 x 2049 of 4 partial sums, 4 leaves", 2, 2049, residual: true, source: Source.Partials, segments: 4, leaves: 4),
        Norm("corner 4 x 256 of 2 partial sums that are nodes of 8 leaves", 4, 256, residual: true, source: Source.PartialNodes, segments: 2, leaves: 8),
        Norm("corner 3 x 129 of 4 partial sums that are nodes of 8 leaves", 3, 129, padding: 3, source: Source.PartialNodes, segments: 4, leaves: 8),
        Norm("regular 4 x 256 of slots, 8 leaves", 4, 256, residual: true, source: Source.Slots, leaves: 8),
        Norm("regular 4 x 256 of slots, 2 leaves", 4, 256, residual: true, source: Source.Slots, leaves: 2),
        Norm("tail 5 x 129 of slots, 4 leaves, rows 3 apart", 5, 129, padding: 3, source: Source.Slots, leaves: 4),
        Norm("corner 5 x 2056 of slots, all elsewhere, 8 leaves", 5, 2056, residual: true, source: Source.NoSlots, leaves: 8),
        .. from count in NodeCounts select Norm($"regular 4 x 256 of {count} nodes", 4, 256, residual: true, source: Source.Nodes, leaves: count),
        .. from count in NodeCounts select Norm($"tail 3 x 129 of {count} nodes, rows 3 apart", 3, 129, padding: 3, source: Source.Nodes, leaves: count),
        Norm("corner no tokens of 8 nodes", 0, 256, residual: true, source: Source.Nodes, leaves: 8),
        .. from ranks in NodeCounts select Ranks($"corner 5 x 264 of slots, the bits of {ranks} ranks", 5, 264, ranks),
        Norm("model hidden 4096, 3 tokens of 8 nodes", 3, 4096, residual: true, source: Source.Nodes, leaves: 8),
        Norm("model hidden 4096, 17 tokens of slots, 8 leaves", 17, 4096, residual: true, source: Source.Slots, leaves: 8),
        Norm("model hidden 4096, 3 tokens of slots", 3, 4096, residual: true, source: Source.Slots),
        Norm("model hidden 4096, 17 tokens", 17, 4096, residual: true),
        Norm("model hidden 4096, 4096 tokens", 4096, 4096, residual: true) with { Tier = CaseTier.Full },
    ];

    private static void Scale(BFloat16[] x, int hidden, float first, float second)
    {
        for (var i = 0; i < x.Length; i++)
        {
            x[i] = (BFloat16)(x[i] * (i < hidden ? first : second));
        }
    }

    private static Case Norm(
        string name, int tokens, int hidden, bool residual = false, bool output = true, bool quantized = true, int padding = 0,
        Action<BFloat16[], int>? edit = null, Source source = Source.Rows, int segments = 3, int leaves = 0) => new("norm", name, context =>
    {
        const float Eps = 1e-6f;
        const int TopK = 6;
        var x = context.NormalBFloat16((long)tokens * hidden);
        edit?.Invoke(x, hidden);
        var added = context.NormalBFloat16((long)tokens * hidden);
        var weight = context.NormalBFloat16(hidden);
        var blocks = (hidden + Float8.Block - 1) / Float8.Block;
        var stride = hidden + padding;

        // Rows lie `padding` elements apart; what lies between must stay as it is.
        var wideResidual = residual ? context.InOut(Rows.Widen(added, hidden, stride), tokens, stride) : default;
        var wideOutput = output ? context.InOut(new BFloat16[tokens * stride], tokens, stride) : default;
        var wideCodes = quantized ? context.CodesInOut(new byte[tokens * stride], tokens, stride) : default;
        var scales = quantized ? context.Output(DType.Float32, tokens, blocks) : default;
        var args = new NormArgs
        {
            X = default,
            Residual = wideResidual.IsNull ? default : wideResidual.Slice(1, 0, hidden),
            Weight = context.Input(weight, hidden),
            Eps = Eps,
            Output = wideOutput.IsNull ? default : wideOutput.Slice(1, 0, hidden),
            Quantized = quantized ? new QuantizedTensor(wideCodes.Slice(1, 0, hidden), scales) : null,
        };
        args = source switch
        {
            Source.Rows => args with { X = context.Input(Rows.Widen(x, hidden, stride), tokens, stride).Slice(1, 0, hidden) },
            Source.Partials or Source.PartialNodes =>
                args with { X = Partials(context, x, tokens, hidden, stride, segments, leaves, source == Source.PartialNodes), XLeaves = leaves },
            Source.Nodes => Nodes(context, args, x, tokens, hidden, stride, leaves),
            _ => Slots(context, args, x, tokens, hidden, stride, TopK, source == Source.Slots, leaves),
        };
        return new CaseBody(() => Ops.Norm(context.Stream, args), () =>
        {
            var h = residual ? [.. x.Zip(added, (a, b) => (BFloat16)((float)a + b))] : x;
            var y = Reference(h, weight, Eps);
            if (!wideResidual.IsNull)
            {
                context.Equal<double>("residual", context.Values(wideResidual), Rows.Widen([.. h.Select(v => (double)v)], hidden, stride));
            }

            if (!wideOutput.IsNull)
            {
                context.Compare("output", wideOutput, Rows.Widen(y, hidden, stride), OutputTolerance);
            }

            if (!wideCodes.IsNull)
            {
                var (codes, expectedScales) = Rows.Quantize(y, hidden, context.Float8);
                context.CompareCodes("quantized", context.Read(wideCodes), Rows.Widen(codes, hidden, stride));
                context.Compare("scales", scales, expectedScales, ScaleTolerance);
            }
        });
    })
    {
        Flops = 4.0 * tokens * hidden,
        Bytes = tokens * (double)hidden * (2 + (residual ? 4 : 0) + (output ? 2 : 0) + (quantized ? 1 : 0)),
    };

    // The nodes that ranks end at are normed to the bits of the whole sum on one device, within the tree's roundings of the sum itself.
    private static Case Ranks(string name, int tokens, int hidden, int ranks) => new("norm", name, context =>
    {
        const int TopK = 8, Experts = 64, Leaves = 8;
        var ids = WorkloadList.Route(context.Random, tokens, Experts);
        var weights = context.Input(Array.ConvertAll(context.Normal(ids.Length), x => x / 4), tokens, TopK);
        var sorted = ExpertSlots.Of(ids, 0, Experts);
        var y = context.NormalBFloat16((long)ids.Length * hidden);
        var rows = context.Input(y, ids.Length, hidden);
        var (experts, weight) = (context.Input(ids, tokens, TopK), context.Input(context.NormalBFloat16(hidden), hidden));
        NormArgs Whole(TensorView x) => new()
        {
            X = x,
            Residual = context.InOut(new BFloat16[tokens * hidden], tokens, hidden),
            Weight = weight,
            Eps = 1e-6f,
            Quantized = new(context.CodesInOut(new byte[tokens * hidden], tokens, hidden), context.Output(DType.Float32, tokens, (hidden + 127) / 128)),
        };
        var whole = Whole(rows) with
        {
            PairSlots = context.Input(sorted.PairSlots, ids.Length), PairWeights = weights, PairExperts = experts, LeafExperts = Experts / Leaves, Leaves = Leaves,
        };
        MoeCombineArgs[] parts =
        [
            .. Enumerable.Range(0, ranks).Select(rank =>
            {
                // A rank's own slots: those of the whole, counted from its first expert's.
                var first = sorted.Offsets[Experts / ranks * rank];
                var (local, own) = (ExpertSlots.Of(ids, Experts / ranks * rank, Experts / ranks), new BFloat16[y.Length]);
                y.AsSpan(first * hidden, local.Offsets[^1] * hidden).CopyTo(own);
                return new MoeCombineArgs
                {
                    Y = context.Input(own, ids.Length, hidden), PairSlots = context.Input(local.PairSlots, ids.Length), Weights = weights, PairExperts = experts,
                    FirstExpert = Experts / ranks * rank, LeafExperts = Experts / Leaves, Leaves = Leaves / ranks,
                    Output = context.Output(DType.BFloat16, tokens, hidden),
                };
            }),
        ];
        var ofNodes = Whole(parts[0].Output) with { Nodes = [.. parts.Select(part => part.Output)] };
        void Launch()
        {
            Ops.Norm(context.Stream, whole);
            foreach (var part in parts)
            {
                Ops.MoeCombine(context.Stream, part);
            }

            Ops.Norm(context.Stream, ofNodes);
        }

        return new CaseBody(Launch, () =>
        {
            var sums = new double[tokens * hidden];
            var factors = context.Values(weights);
            for (var i = 0; i < ids.Length * hidden; i++)
            {
                var (pair, column) = (i / hidden, i % hidden);
                sums[pair / TopK * hidden + column] += factors[pair] * y[sorted.PairSlots[pair] * hidden + column];
            }

            context.Compare("sum", whole.Residual, sums, TreeTolerance);
            context.Equal<double>("sum of ranks", context.Values(ofNodes.Residual), context.Values(whole.Residual));
            context.Equal<byte>("quantized", context.Read(ofNodes.Quantized!.Value.Values), context.Read(whole.Quantized!.Value.Values));
        });
    });

    /// <summary>Where x comes from.</summary>
    private enum Source
    {
        Rows,
        Partials,
        PartialNodes,
        Slots,
        NoSlots,
        Nodes,
    }

    // Partial sums; x becomes the BF16 of their sum in order, or the root of the tree over their leaves. Fewer than leaves are nodes, in BF16 already.
    private static TensorView Partials(CaseContext context, BFloat16[] x, int tokens, int hidden, int stride, int segments, int leaves, bool areNodes)
    {
        var parts = context.Normal((long)segments * x.Length);
        parts = areNodes ? Array.ConvertAll(parts, part => (float)(BFloat16)part) : parts;
        var nodes = Math.Min(Math.Max(leaves, 1), segments);
        for (var i = 0; i < x.Length; i++)
        {
            var sums = new float[nodes];
            for (var segment = 0; segment < segments; segment++)
            {
                sums[segment / (segments / nodes)] += parts[segment * x.Length + i];
            }

            x[i] = SumTree.Root(Array.ConvertAll(sums, sum => (BFloat16)sum));
        }

        return context.Input(Rows.Widen(parts, hidden, stride), segments, tokens, stride).Slice(2, 0, hidden);
    }

    // Nodes of several ranks; x becomes the root of their tree.
    private static NormArgs Nodes(CaseContext context, NormArgs args, BFloat16[] x, int tokens, int hidden, int stride, int count)
    {
        BFloat16[][] nodes = [.. Enumerable.Range(0, count).Select(_ => context.NormalBFloat16(x.Length))];
        for (var i = 0; i < x.Length; i++)
        {
            x[i] = SumTree.Root([.. nodes.Select(node => node[i])]);
        }

        TensorView[] tensors = [.. nodes.Select(node => context.Input(Rows.Widen(node, hidden, stride), tokens, stride).Slice(1, 0, hidden))];
        return args with { X = tensors[0], Nodes = tensors };
    }

    // Slots of tokens whose every third choice is elsewhere, or all; x becomes the BF16 of what they combine to, with leaves the root of their
    // tree. Weights and values are small multiples of powers of two: a leaf's sum is exact, in whatever way it is computed.
    private static NormArgs Slots(
        CaseContext context, NormArgs args, BFloat16[] x, int tokens, int hidden, int stride, int topK, bool any, int leaves)
    {
        const int FirstExpert = 5, LeafExperts = 3;
        var y = new BFloat16[tokens * topK * hidden];
        for (var i = 0; i < y.Length; i++)
        {
            y[i] = (BFloat16)(context.Random.Next(-64, 65) / 32f);
        }

        float[] weights = [.. Enumerable.Range(0, tokens * topK).Select(_ => context.Random.Next(1, 17) / 16f)];
        int[] slots = [.. Enumerable.Range(0, tokens * topK)];
        context.Random.Shuffle(slots);
        slots = [.. slots.Select((slot, pair) => any && pair % 3 != 1 ? slot : -1)];

        // An expert of any leaf where the pair has a slot, else one that has none. With leaves slots ascend with experts, as moe_sort gives them.
        int[] experts = [.. slots.Select(slot => slot < 0 ? context.Random.Next(FirstExpert) : FirstExpert + context.Random.Next(Math.Max(leaves, 1) * LeafExperts))];
        slots = leaves == 0 ? slots : ExpertSlots.Of(experts, FirstExpert, leaves * LeafExperts).PairSlots;
        for (var i = 0; i < x.Length; i++)
        {
            var (token, column, sums) = (i / hidden, i % hidden, new float[Math.Max(leaves, 1)]);
            for (var pair = token * topK; pair < (token + 1) * topK; pair++)
            {
                sums[Math.Max(experts[pair] - FirstExpert, 0) / LeafExperts] += slots[pair] < 0 ? 0 : weights[pair] * y[slots[pair] * hidden + column];
            }

            x[i] = SumTree.Root(Array.ConvertAll(sums, sum => (BFloat16)sum));
        }

        return args with
        {
            X = context.Input(Rows.Widen(y, hidden, stride), tokens * topK, stride).Slice(1, 0, hidden),
            PairSlots = context.Input(slots, slots.Length),
            PairWeights = context.Input(weights, tokens, topK),
            PairExperts = leaves == 0 ? default : context.Input(experts, tokens, topK),
            FirstExpert = FirstExpert,
            LeafExperts = LeafExperts,
            Leaves = leaves,
        };
    }

    // y = h / sqrt(mean(h^2) + eps) * weight
    private static double[] Reference(BFloat16[] h, BFloat16[] weight, double eps)
    {
        var y = new double[h.Length];
        for (var token = 0; token < h.Length; token += weight.Length)
        {
            var row = h.AsSpan(token, weight.Length);
            double squares = 0;
            foreach (var value in row)
            {
                squares += (double)value * value;
            }

            for (var i = 0; i < row.Length; i++)
            {
                y[token + i] = row[i] / Math.Sqrt(squares / row.Length + eps) * weight[i];
            }
        }

        return y;
    }
}
