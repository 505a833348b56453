namespace Octet.Cases;

/// <summary>moe_route, moe_sort, moe_combine: chosen experts and slots exactly, weights and sums within their roundings.</summary>
internal static class MoeRouteCases
{
    private const double WeightTolerance = 1e-10; // exp and a few roundings in f32: calc_diff is the square of the relative error
    private const double OutputTolerance = 1e-5; // BF16 rounding alone is 1e-6
    private const double TreeTolerance = 2e-5; // against a sum that rounds nothing: the roundings of eight leaves' tree come to 6e-6

    private static readonly int[] Tails = [1, 17, 127, 129];
    private static readonly int[] RankCounts = [1, 2, 4, 8];

    public static IEnumerable<Case> All => [.. Routes, .. Scores, .. Sorts, .. Combines];

    private static IEnumerable<Case> Routes =>
    [
        Route("regular", 16, 128, 8),
        Route("regular weights as they are", 16, 128, 8, renormalize: false),
        Route("regular the small model", 32, 16, 4),
        Route("regular rows 3 apart", 5, 60, 6, padding: 3),
        .. from size in Tails select Route("tail tokens", size, 32, 2),
        .. from size in Tails select Route("tail experts", 5, size, Math.Min(size, 8)),
        Route("corner every expert chosen", 3, 16, 16, renormalize: false),
        Route("corner the most experts", 9, 512, 16),
        Route("corner all logits equal", 2, 200, 16, logits => logits.AsSpan().Fill(-1.5f)),
        Route("corner few distinct logits", 9, 300, 16, logits => Round(logits)),
        Route("corner zeros of both signs tie", 2, 70, 8, logits => Alternate(logits, 0f, -0f)),
        Route("corner some NaN", 4, 64, 8, logits => Alternate(logits.AsSpan(0, 128), float.NaN, 1f)),
        Route("corner fewer finite logits than choices", 2, 70, 4, logits => Alternate(logits.AsSpan(2), float.NegativeInfinity, float.NaN)),
        Route("corner no finite logit", 2, 70, 3, logits => Alternate(logits, float.NaN, float.NegativeInfinity)),
        Route("corner infinite logits", 2, 130, 4, logits => (logits[7], logits[129], logits[137]) = (1f / 0f, 1f / 0f, 1f / 0f)),
        Route("corner huge logits", 4, 128, 8, logits => Scale(logits, 1e30f), renormalize: false),
        Route("corner no tokens", 0, 128, 8),
        Route("regular partial sums", 16, 128, 8, segments: 3),
        Route("tail partial sums, rows 3 apart", 5, 50, 4, padding: 3, segments: 16),
        Route("regular sorted", 16, 128, 8, local: 128),
        Route("regular sorted partial sums", 64, 128, 8, segments: 4, local: 128),
        Route("regular sorted, the small model", 3, 16, 4, local: 16),
        Route("regular sorted, one token", 1, 128, 8, local: 128),
        Route("regular sorted, two tokens, partial sums", 2, 128, 8, segments: 32, local: 128),
        Route("tail sorted, two tokens, few experts", 2, 5, 3, local: 5),
        Route("tail sorted, one token, weights as they are", 1, 33, 7, renormalize: false, local: 33),
        Route("corner sorted, two tokens, all logits equal", 2, 127, 8, logits => logits.AsSpan().Clear(), local: 127),
        Route("corner sorted, two tokens, expert-parallel", 2, 128, 6, first: 32, local: 32),
        Route("tail sorted, three tokens, more choices", 3, 100, 9, local: 100),
        Route("tail sorted, one token more than one block takes", 65, 128, 8, local: 128),
        Route("tail sorted odd experts", 33, 129, 3, local: 129),
        Route("corner sorted, expert-parallel", 40, 128, 8, first: 32, local: 32),
        Route("corner sorted, the most experts and choices", 50, 512, 16, first: 500, local: 12),
        Route("corner sorted, all logits equal", 64, 512, 16, logits => logits.AsSpan().Clear(), local: 512),
        Route("corner sorted, no tokens", 0, 128, 8, local: 128),
        Route("corner many tokens", 8_192, 8, 2),
        Route("model 64 tokens", 64, 128, 8),
        Route("model 16,384 tokens", 16_384, 128, 8) with { Tier = CaseTier.Full },
    ];

    // Scores other than softmax's, and biases that choose.
    private static IEnumerable<Case> Scores =>
    [
        Score("regular sigmoid", 16, 128, 8),
        Score("regular sigmoid, biased", 16, 256, 8, AsItIs),
        Score("regular sigmoid, biased, weights as they are", 16, 256, 8, AsItIs, renormalize: false),
        Score("regular softmax, biased", 16, 64, 6, AsItIs, scoring: MoeScoring.Softmax),
        Score("regular softmax, biased, weights as they are", 5, 200, 8, AsItIs, renormalize: false, scoring: MoeScoring.Softmax),
        .. from size in Tails select Score("tail tokens, sigmoid, biased", size, 32, 2, AsItIs),
        .. from size in Tails select Score("tail experts, sigmoid, biased", 5, size, Math.Min(size, 8), AsItIs),
        Score("tail experts, sigmoid", 5, 255, 8),
        Score("tail sigmoid, biased, partial sums, rows 3 apart", 5, 250, 8, AsItIs, padding: 3, segments: 16),
        Score("corner sigmoid, biased, the most experts and choices", 9, 512, 16, AsItIs),
        Score("corner sigmoid, biased, every expert chosen", 3, 16, 16, AsItIs, renormalize: false),
        Score("corner the bias alone chooses", 2, 200, 8, AsItIs, logits => logits.AsSpan().Clear()),
        Score("corner all sums equal", 2, 200, 16, bias => bias.AsSpan().Fill(0.25f), logits => logits.AsSpan().Fill(-1.5f)),
        Score("corner few distinct sums", 9, 300, 16, bias => Alternate(bias, 0.5f, -0.25f), Round),
        Score("corner biases that swallow the scores", 4, 100, 8, bias => Alternate(bias, -1e10f, 1e10f)),
        Score("corner sums of zeros of both signs tie", 2, 70, 8, bias => Alternate(bias, 0f, -0f), logits => logits.AsSpan().Fill(-1e30f)),
        Score("corner sigmoid, near 1", 4, 128, 8, null, logits => Scale(logits, 100)),
        Score("corner sigmoid, biased, some NaN", 4, 64, 8, AsItIs, logits => Alternate(logits.AsSpan(0, 128), float.NaN, 1f)),
        Score("corner sigmoid, biased, infinite logits", 2, 130, 4, AsItIs, logits => (logits[7], logits[129], logits[137]) = (1f / 0f, -1f / 0f, 1f / 0f)),
        Score("corner biases that are no numbers", 4, 64, 5, bias => (bias[3], bias[7], bias[9], bias[60]) = (float.NaN, 1f / 0f, -1f / 0f, 1f / 0f)),
        Score("corner every bias is NaN", 2, 70, 3, bias => bias.AsSpan().Fill(float.NaN)),
        Score("corner no finite logit, sigmoid", 2, 70, 3, null, logits => Alternate(logits, float.NaN, float.NegativeInfinity)),
        Score("corner no finite logit, sigmoid, biased", 2, 70, 3, AsItIs, logits => Alternate(logits, float.NaN, float.NegativeInfinity)),
        Score(
            "corner chosen probabilities of 0", 2, 70, 3, bias => bias.AsSpan(0, 3).Fill(9f), logits => (logits[50], logits[120]) = (1e30f, 1e30f),
            scoring: MoeScoring.Softmax),
        Score("corner sigmoid, biased, no tokens", 0, 256, 8, AsItIs),
        Score("regular sorted, sigmoid, biased", 16, 128, 8, AsItIs, local: 128),
        Score("regular sorted, sigmoid, biased, one token", 1, 128, 8, AsItIs, local: 128),
        Score("regular sorted, sigmoid, two tokens, partial sums", 2, 128, 8, segments: 32, local: 128),
        Score("regular sorted, softmax, biased, partial sums", 64, 128, 8, AsItIs, segments: 4, local: 128, scoring: MoeScoring.Softmax),
        Score("regular sorted, sigmoid, biased, one block", 32, 256, 8, AsItIs, local: 256),
        Score("tail sorted, sigmoid, biased, one token more than one block takes", 33, 120, 7, AsItIs, local: 120),
        Score("tail sorted, sigmoid, biased, one expert more than one block takes", 3, 257, 7, AsItIs, local: 257),
        Score("corner sorted, sigmoid, biased, all sums equal", 16, 255, 16, bias => bias.AsSpan().Clear(), logits => logits.AsSpan().Clear(), local: 255),
        Score("corner sorted, sigmoid, biased, one block, expert-parallel", 20, 256, 8, AsItIs, first: 192, local: 64),
        Score("corner sorted, sigmoid, biased, expert-parallel", 40, 256, 8, AsItIs, first: 64, local: 32),
        Route("model Mixtral", 33, 8, 2, local: 8),
        Score("model MiniMax-M2, one token", 1, 256, 8, AsItIs, local: 256),
        Score("model MiniMax-M2", 64, 256, 8, AsItIs, local: 256),
        Score("model MiniMax-M2", 16_384, 256, 8, AsItIs) with { Tier = CaseTier.Full },
    ];

    private static IEnumerable<Case> Sorts =>
    [
        Sort("regular", 16, 8, 128),
        Sort("regular the small model", 32, 4, 16),
        .. from size in Tails select Sort("tail tokens", size, 3, 20),
        .. from size in Tails select Sort("tail experts", 33, 2, size),
        .. from rank in Enumerable.Range(0, 4) select Sort("regular expert-parallel", 40, 8, 128, 32 * rank, 32),
        Sort("corner one local expert of many", 50, 8, 512, 511, 1),
        Sort("corner the most experts and choices", 100, 16, 512),
        Sort("corner one expert gets all", 600, 8, 128, ids: ids => ids.AsSpan().Fill(77)),
        Sort("corner all experts are elsewhere", 20, 8, 128, 64, 32, ids => ids.AsSpan().Fill(63)),
        Sort("corner ids that are no expert", 300, 4, 16, 8, 8, Spoil),
        Sort("corner no tokens", 0, 8, 128),
        Sort("corner a chunk exactly", 8192, 1, 64),
        Sort("corner a chunk and one pair", 8193, 1, 64),
        Sort("corner a chunk and three pairs of the next", 2731, 3, 64),
        Sort("corner a power law", 6000, 3, 128, ids: PowerLaw),
        Sort("corner chunks of one expert", 5000, 4, 8, ids: ids => ids.AsSpan().Fill(3)),
        Sort("corner many tokens", 32_768, 2, 128),
        Sort("corner many pairs, expert-parallel", 32_768, 16, 512, 128, 64, Spoil) with { Tier = CaseTier.Full },
        Sort("model 64 tokens", 64, 8, 128),
        Sort("model 16,384 tokens", 16_384, 8, 128) with { Tier = CaseTier.Full },
    ];

    private static IEnumerable<Case> Combines =>
    [
        Combine("regular", 16, 8, 256),
        Combine("regular rows 8 apart", 5, 4, 256, padding: 8),
        .. from size in Tails select Combine("tail tokens", size, 2, 24),
        .. from size in Tails select Combine("tail hidden", 5, 3, size, padding: 1),
        Combine("tail hidden", 2, 2, 2049),
        Combine("corner one choice", 7, 1, 64),
        Combine("corner the most choices", 7, 16, 64),
        Combine("corner half of the experts are elsewhere", 40, 8, 128, present: 0.5),
        Combine("corner all experts are elsewhere", 10, 8, 128, present: 0),
        Combine("corner NaN and infinity", 6, 2, 64, edit: y => (y[3], y[200]) = ((BFloat16)float.NaN, (BFloat16)float.PositiveInfinity)),
        Combine("corner no tokens", 0, 8, 128),
        Combine("corner many tokens", 16_384, 2, 8),
        Combine("regular tree", 16, 8, 256, leaves: 8),
        Combine("regular tree rows 8 apart", 5, 4, 256, padding: 8, leaves: 4),
        Combine("regular tree of two leaves", 5, 4, 256, leaves: 2),
        Combine("regular one leaf", 5, 4, 256, leaves: 1),
        .. from size in Tails select Combine("tail tree hidden", 5, 3, size, padding: 1, leaves: 8),
        Combine("corner tree, one choice", 7, 1, 64, leaves: 8),
        Combine("corner tree, the most choices", 7, 16, 64, leaves: 8),
        Combine("corner tree, half of the experts are elsewhere", 40, 8, 128, present: 0.5, leaves: 4),
        Combine("corner tree, all experts are elsewhere", 10, 8, 128, present: 0, leaves: 8),
        Combine("corner tree, NaN and infinity", 6, 2, 64, edit: y => (y[3], y[200]) = ((BFloat16)float.NaN, (BFloat16)float.PositiveInfinity), leaves: 8),
        Combine("corner tree, no tokens", 0, 8, 128, leaves: 8),
        CombineRanks("corner the bits of 1, 2, 4 and 8 ranks", 9, 200),
        Combine("model hidden 4096, a tree", 17, 8, 4096, leaves: 8),
        Combine("model hidden 4096", 17, 8, 4096),
        Combine("model hidden 4096", 4096, 8, 4096) with { Tier = CaseTier.Full },
    ];

    private static void AsItIs(float[] bias)
    {
    }

    private static void Round(float[] logits)
    {
        for (var i = 0; i < logits.Length; i++)
        {
            logits[i] = MathF.Round(logits[i]);
        }
    }

    private static void Scale(float[] logits, float factor)
    {
        for (var i = 0; i < logits.Length; i++)
        {
            logits[i] *= factor;
        }
    }

    private static void Alternate(Span<float> logits, float even, float odd)
    {
        for (var i = 0; i < logits.Length; i++)
        {
            logits[i] = i % 2 == 0 ? even : odd;
        }
    }

    // Expert e is chosen about as 1/(e + 1).
    private static void PowerLaw(int[] ids)
    {
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = (int)Math.Exp(ids[i] / 128.0 * Math.Log(129)) - 1;
        }
    }

    private static void Spoil(int[] ids)
    {
        int[] wrong = [-1, int.MinValue, int.MaxValue, 512, 100_000];
        for (var i = 0; i < ids.Length; i += 3)
        {
            ids[i] = wrong[i / 3 % wrong.Length];
        }
    }

    private static Case Score(
        string name, int tokens, int experts, int topK, Action<float[]>? bias = null, Action<float[]>? edit = null, bool renormalize = true,
        int padding = 0, int segments = 0, int first = 0, int local = 0, MoeScoring scoring = MoeScoring.Sigmoid) =>
        Route(name, tokens, experts, topK, edit, renormalize, padding, segments, first, local, scoring, bias);

    // bias: null: there is none; else what it makes of normal ones.
    private static Case Route(
        string name, int tokens, int experts, int topK, Action<float[]>? edit = null, bool renormalize = true, int padding = 0,
        int segments = 0, int first = 0, int local = 0, MoeScoring scoring = MoeScoring.Softmax, Action<float[]>? bias = null) =>
        new("moe_route", $"{name} {tokens} of {experts}, top {topK}", context =>
    {
        var logits = context.Normal((long)tokens * experts, 2);
        edit?.Invoke(logits);
        var ids = context.Output(DType.Int32, tokens, topK);
        var weights = context.Output(DType.Float32, tokens, topK);
        var stride = experts + padding;
        var biases = bias is null ? null : context.Normal(experts, 0.2);
        bias?.Invoke(biases!);
        var args = new MoeRouteArgs
        {
            Logits = segments == 0
                ? context.Input(Rows.Widen(logits, experts, stride), tokens, stride).Slice(1, 0, experts)
                : context.Input(Rows.Widen(Summands(context, logits, segments), experts, stride), segments, tokens, stride).Slice(2, 0, experts),
            Ids = ids,
            Weights = weights,
            Renormalize = renormalize,
            Scoring = scoring,
            ScoreBias = biases is null ? default : context.Input(biases, experts),
            ExpertOffsets = local == 0 ? default : context.Output(DType.Int32, local + 1),
            SlotPairs = local == 0 ? default : context.Output(DType.Int32, tokens * topK),
            PairSlots = local == 0 ? default : context.Output(DType.Int32, tokens * topK),
            FirstExpert = first,
        };
        args = args with { Workspace = context.Workspace(Ops.MoeRouteWorkspace(context.Device, args)) };
        return new CaseBody(() => Ops.MoeRoute(context.Stream, args), () =>
        {
            var (expectedIds, expectedWeights) = (new List<double>(), new List<double>());
            foreach (var token in logits.Chunk(experts))
            {
                double[] row = [.. token.Select(x => float.IsNaN(x) ? double.NegativeInfinity : x)];
                var exponentials = Array.ConvertAll(row, x => x == row.Max() ? 1 : Math.Exp(x - row.Max()));
                var all = exponentials.Sum();
                var scores = scoring == MoeScoring.Sigmoid ? Array.ConvertAll(row, x => 1 / (1 + Math.Exp(-x))) : Array.ConvertAll(exponentials, x => x / all);
                // The contract has this one sum in f32.
                var keys = biases is null ? row : [.. scores.Zip(biases, (s, b) => float.IsNaN((float)s + b) ? double.NegativeInfinity : (float)s + b)];
                var chosen = Enumerable.Range(0, experts).OrderByDescending(e => keys[e]).ThenBy(e => e).Take(topK).ToArray();
                var sum = renormalize ? chosen.Sum(e => scores[e]) : 1;
                expectedIds.AddRange(chosen.Select(e => (double)e));
                expectedWeights.AddRange(chosen.Select(e => sum == 0 ? 1.0 / topK : scores[e] / sum));
            }

            context.Equal<double>("ids", context.Values(ids), [.. expectedIds]);
            context.Compare("weights", weights, [.. expectedWeights], WeightTolerance);
            if (local > 0)
            {
                Verify(context, ExpertSlots.Of([.. expectedIds.Select(id => (int)id)], first, local), args.ExpertOffsets, args.SlotPairs, args.PairSlots);
            }
        });
    })
    {
        Bytes = tokens * (4.0 * experts * Math.Max(segments, 1) + (local > 0 ? 20.0 : 8.0) * topK),
    };

    // Partial sums whose sum in order is `total` to the bit: the last is what is left, and `total` becomes what they give.
    private static float[] Summands(CaseContext context, float[] total, int count)
    {
        var parts = context.Normal((long)total.Length * count);
        for (var i = 0; i < total.Length; i++)
        {
            var sum = 0f;
            for (var segment = 0; segment < count - 1; segment++)
            {
                sum += parts[segment * total.Length + i];
            }

            parts[(count - 1) * total.Length + i] = total[i] - sum;
            total[i] = sum + parts[(count - 1) * total.Length + i];
        }

        return parts;
    }

    private static void Verify(CaseContext context, ExpertSlots slots, TensorView offsets, TensorView slotPairs, TensorView pairSlots)
    {
        context.Equal<double>("expert_offsets", context.Values(offsets), Array.ConvertAll(slots.Offsets, x => (double)x));
        context.Equal<double>("slot_pairs", context.Values(slotPairs), Array.ConvertAll(slots.SlotPairs, x => (double)x));
        context.Equal<double>("pair_slots", context.Values(pairSlots), Array.ConvertAll(slots.PairSlots, x => (double)x));
    }

    private static Case Sort(
        string name, int tokens, int topK, int experts, int first = 0, int? localExperts = null, Action<int[]>? ids = null) =>
        new("moe_sort", $"{name} {tokens} x {topK}, experts {first} to {first + (localExperts ?? experts) - 1} of {experts}", context =>
    {
        var chosen = new int[tokens * topK];
        for (var pair = 0; pair < chosen.Length; pair++)
        {
            chosen[pair] = context.Random.Next(experts);
        }

        ids?.Invoke(chosen);
        var local = localExperts ?? experts;
        var args = new MoeSortArgs
        {
            Ids = context.Input(chosen, tokens, topK),
            ExpertOffsets = context.Output(DType.Int32, local + 1),
            SlotPairs = context.Output(DType.Int32, tokens * topK),
            PairSlots = context.Output(DType.Int32, tokens * topK),
            Experts = experts,
            FirstExpert = first,
        };
        args = args with { Workspace = context.Workspace(Ops.MoeSortWorkspace(context.Device, args)) };
        return new CaseBody(
            () => Ops.MoeSort(context.Stream, args),
            () => Verify(context, ExpertSlots.Of(chosen, first, local), args.ExpertOffsets, args.SlotPairs, args.PairSlots));
    })
    {
        Bytes = 12.0 * tokens * topK,
    };

    private static Case Combine(
        string name, int tokens, int topK, int hidden, int padding = 0, double present = 1, Action<BFloat16[]>? edit = null, int leaves = 0) =>
        new("moe_combine", $"{name} {tokens} x {topK}, {hidden}", context =>
    {
        const int FirstExpert = 16, LeafExperts = 5;
        var (slots, stride) = (tokens * topK, hidden + padding);
        var y = context.NormalBFloat16((long)slots * hidden);
        edit?.Invoke(y);
        var weights = context.Normal(slots);
        var pairSlots = Enumerable.Range(0, slots).ToArray();
        context.Random.Shuffle(pairSlots);
        pairSlots = Array.ConvertAll(pairSlots, slot => context.Random.NextDouble() < present ? slot : -1);
        var experts = Array.ConvertAll(pairSlots, slot => slot < 0 ? 0 : FirstExpert + context.Random.Next(Math.Max(leaves, 1) * LeafExperts));
        pairSlots = leaves == 0 ? pairSlots : ExpertSlots.Of(experts, FirstExpert, leaves * LeafExperts).PairSlots;
        var wide = context.InOut(new BFloat16[tokens * stride], tokens, stride);
        var args = new MoeCombineArgs
        {
            Y = context.Input(Rows.Widen(y, hidden, stride), slots, stride).Slice(1, 0, hidden),
            PairSlots = context.Input(pairSlots, slots),
            Weights = context.Input(weights, tokens, topK),
            PairExperts = leaves == 0 ? default : context.Input(experts, tokens, topK),
            FirstExpert = FirstExpert,
            LeafExperts = LeafExperts,
            Leaves = leaves,
            Output = wide.Slice(1, 0, hidden),
        };
        return new CaseBody(() => Ops.MoeCombine(context.Stream, args), () =>
        {
            var sums = new double[Math.Max(leaves, 1), tokens * hidden];
            for (var pair = 0; pair < slots; pair++)
            {
                for (var column = 0; column < hidden && pairSlots[pair] >= 0; column++)
                {
                    sums[(experts[pair] - FirstExpert) / LeafExperts * Math.Min(leaves, 1), pair / topK * hidden + column] +=
                        (double)weights[pair] * y[pairSlots[pair] * hidden + column];
                }
            }

            double[] expected = [.. Enumerable.Range(0, tokens * hidden).Select(i => leaves <= 1
                ? sums[0, i] : SumTree.Root([.. Enumerable.Range(0, leaves).Select(leaf => (BFloat16)(float)sums[leaf, i])]))];
            context.Compare("output", wide, Rows.Widen(expected, hidden, stride), OutputTolerance);
        });
    })
    {
        Bytes = 2.0 * tokens * hidden * (topK + 1),
    };

    // Ranks that share the experts end at the bits of one device, within the tree's roundings of the sum itself.
    private static Case CombineRanks(string name, int tokens, int hidden) => new("moe_combine", $"{name} {tokens} x {hidden}", context =>
    {
        const int Experts = 32, Leaves = SumTree.MaxLeaves;
        var ids = WorkloadList.Route(context.Random, tokens, Experts);
        var y = context.NormalBFloat16((long)ids.Length * hidden);
        var sorted = ExpertSlots.Of(ids, 0, Experts);
        var topK = ids.Length / tokens;
        var (experts, weights) = (context.Input(ids, tokens, topK), context.Input(context.Normal(ids.Length), tokens, topK));
        MoeCombineArgs Shard(int rank, int ranks)
        {
            // Its slots are those of the whole, counted from its first expert's.
            var first = sorted.Offsets[Experts / ranks * rank];
            var (local, own) = (ExpertSlots.Of(ids, Experts / ranks * rank, Experts / ranks), new BFloat16[y.Length]);
            y.AsSpan(first * hidden, local.Offsets[^1] * hidden).CopyTo(own);
            return new()
            {
                Y = context.Input(own, ids.Length, hidden),
                PairSlots = context.Input(local.PairSlots, ids.Length),
                Weights = weights,
                PairExperts = experts,
                FirstExpert = Experts / ranks * rank,
                LeafExperts = Experts / Leaves,
                Leaves = Leaves / ranks,
                Output = context.Output(DType.BFloat16, tokens, hidden),
            };
        }

        MoeCombineArgs[][] groups = [.. RankCounts.Select(ranks => Enumerable.Range(0, ranks).Select(rank => Shard(rank, ranks)).ToArray())];
        void Launch()
        {
            foreach (var args in groups.SelectMany(group => group))
            {
                Ops.MoeCombine(context.Stream, args);
            }
        }

        return new CaseBody(Launch, () =>
        {
            var exact = new double[tokens * hidden];
            var factors = context.Values(weights);
            for (var i = 0; i < ids.Length * hidden; i++)
            {
                var (pair, column) = (i / hidden, i % hidden);
                exact[pair / topK * hidden + column] += factors[pair] * y[sorted.PairSlots[pair] * hidden + column];
            }

            var whole = context.Values(groups[0][0].Output);
            context.Compare("output", whole, exact, TreeTolerance);
            foreach (var group in groups[1..])
            {
                double[][] nodes = [.. group.Select(args => context.Values(args.Output))];
                context.Equal<double>(
                    $"{group.Length} ranks",
                    [.. Enumerable.Range(0, whole.Length).Select(i => (double)SumTree.Root([.. nodes.Select(node => (BFloat16)(float)node[i])]))], whole);
            }
        });
    });
}

/// <summary>The slots of an expert-sorted batch: what moe_sort gives.</summary>
/// <param name="Offsets">[local experts + 1] where each expert's slots begin.</param>
/// <param name="SlotPairs">Pair of each slot, -1 for none.</param>
/// <param name="PairSlots">Slot of each pair, -1 for none.</param>
internal sealed record ExpertSlots(int[] Offsets, int[] SlotPairs, int[] PairSlots)
{
    /// <summary>Sorts the pairs whose expert is one of the <paramref name="local"/> from <paramref name="first"/>.</summary>
    public static ExpertSlots Of(int[] ids, int first, int local)
    {
        int[] pairs = [.. Enumerable.Range(0, ids.Length).Where(p => ids[p] >= first && ids[p] < first + local).OrderBy(p => ids[p])];
        var offsets = Enumerable.Range(0, local + 1).Select(e => pairs.Count(p => ids[p] < first + e)).ToArray();
        int[] slotPairs = [.. pairs, .. Enumerable.Repeat(-1, ids.Length - pairs.Length)];
        var pairSlots = new int[ids.Length];
        pairSlots.AsSpan().Fill(-1);
        for (var slot = 0; slot < pairs.Length; slot++)
        {
            pairSlots[pairs[slot]] = slot;
        }

        return new ExpertSlots(offsets, slotPairs, pairSlots);
    }
}
