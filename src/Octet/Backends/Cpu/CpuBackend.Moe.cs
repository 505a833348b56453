using System.Runtime.CompilerServices;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    // What the contract allows at most.
    private const int MaxExperts = 512;

    public override void MoeRoute(DeviceStream stream, in MoeRouteArgs args)
    {
        var task = new RouteTask
        {
            Logits = Pointer<float>(args.Logits),
            Ids = Pointer<int>(args.Ids),
            Weights = Pointer<float>(args.Weights),
            Stride = args.Logits.Strides[^2],
            SegmentStride = args.Logits.Strides[0],
            Segments = args.Logits.Rank == 3 ? (int)args.Logits.Shape[0] : 1,
            Experts = (int)args.Logits.Shape[^1],
            TopK = (int)args.Ids.Shape[1],
            Renormalize = args.Renormalize,
            IsSigmoid = args.Scoring == MoeScoring.Sigmoid,
            ScoreBias = Pointer<float>(args.ScoreBias),
        };
        threads.For(args.Logits.Shape[^2], args.Logits.ElementCount * (8 + task.TopK), task);
        if (!args.ExpertOffsets.IsNull)
        {
            MoeSort(stream, new()
            {
                Ids = args.Ids,
                ExpertOffsets = args.ExpertOffsets,
                SlotPairs = args.SlotPairs!,
                PairSlots = args.PairSlots!,
                Experts = task.Experts,
                FirstExpert = args.FirstExpert,
            });
        }
    }

    public override void MoeSort(DeviceStream stream, in MoeSortArgs args)
    {
        var ids = Pointer<int>(args.Ids);
        var offsets = Pointer<int>(args.ExpertOffsets);
        var slotPairs = Pointer<int>(args.SlotPairs);
        var pairSlots = Pointer<int>(args.PairSlots);
        var (pairs, local) = (args.Ids.ElementCount, (int)args.ExpertOffsets.ElementCount - 1);
        var next = stackalloc int[MaxExperts];
        new Span<int>(next, local).Clear();
        for (long pair = 0; pair < pairs; pair++)
        {
            if (LocalExpert(ids[pair], args.FirstExpert, local) is var expert and >= 0)
            {
                next[expert]++;
            }
        }

        var begin = 0;
        for (var expert = 0; expert < local; expert++)
        {
            offsets[expert] = begin;
            (next[expert], begin) = (begin, begin + next[expert]);
        }

        offsets[local] = begin;
        new Span<int>(slotPairs, checked((int)pairs)).Fill(-1);
        for (var pair = 0; pair < pairs; pair++)
        {
            var expert = LocalExpert(ids[pair], args.FirstExpert, local);
            pairSlots[pair] = expert < 0 ? -1 : next[expert]++;
            if (expert >= 0)
            {
                slotPairs[pairSlots[pair]] = pair;
            }
        }
    }

    public override long MoeSortWorkspace(in MoeSortArgs args) => 0;

    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args)
    {
        var task = new CombineTask
        {
            Sums = new()
            {
                Y = Pointer<BFloat16>(args.Y),
                PairSlots = Pointer<int>(args.PairSlots),
                PairExperts = Pointer<int>(args.PairExperts),
                Weights = Pointer<float>(args.Weights),
                Slots = args.Y.Shape[0],
                Hidden = args.Output.Shape[1],
                YStride = args.Y.Strides[0],
                TopK = (int)args.Weights.Shape[1],
                FirstExpert = args.FirstExpert,
                LeafExperts = args.LeafExperts,
                Leaves = Math.Max(args.Leaves, 1),
            },
            Output = Pointer<BFloat16>(args.Output),
            OutputStride = args.Output.Strides[0],
        };
        threads.For(args.Output.Shape[0], args.Output.ElementCount * task.Sums.TopK, task);
    }

    private static int LocalExpert(int id, int first, int local) => id >= first && id < first + local ? id - first : -1;

    /// <summary>One token.</summary>
    private struct RouteTask : ICpuTask
    {
        public float* Logits, ScoreBias, Weights;
        public int* Ids;
        public long Stride, SegmentStride;
        public int Segments, Experts, TopK;
        public bool Renormalize, IsSigmoid;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var logits = stackalloc float[MaxExperts];
            var maximum = float.NegativeInfinity;
            for (var e = 0; e < Experts; e++)
            {
                var logit = 0f;
                for (var segment = 0; segment < Segments; segment++)
                {
                    logit += Logits[(segment * SegmentStride) + (index * Stride) + e];
                }

                logits[e] = float.IsNaN(logit) ? float.NegativeInfinity : logit;
                maximum = MathF.Max(maximum, logits[e]);
            }

            // Without a finite logit every expert is as likely as any other; with an infinite one, all weight is on those.
            var sum = 0f;
            for (var e = 0; e < Experts && !IsSigmoid; e++)
            {
                sum += Exponential(logits[e], maximum);
            }

            // The logits order the experts as their scores do, and tell apart what underflows to 0 or is near 1.
            var keys = logits;
            if (ScoreBias is not null)
            {
                var biased = stackalloc float[MaxExperts];
                for (var e = 0; e < Experts; e++)
                {
                    var key = Score(logits[e], maximum, sum) + ScoreBias[e];
                    biased[e] = float.IsNaN(key) ? float.NegativeInfinity : key;
                }

                keys = biased;
            }

            var weights = Weights + (index * TopK);
            var ids = Ids + (index * TopK);
            var chosen = 0f;
            var taken = stackalloc bool[MaxExperts];
            new Span<bool>(taken, Experts).Clear();
            for (var c = 0; c < TopK; c++)
            {
                var best = -1;
                for (var e = 0; e < Experts; e++)
                {
                    if (!taken[e] && (best < 0 || keys[e] > keys[best]))
                    {
                        best = e;
                    }
                }

                taken[best] = true;
                (ids[c], weights[c]) = (best, Score(logits[best], maximum, sum));
                chosen += weights[c];
            }

            for (var c = 0; Renormalize && c < TopK; c++)
            {
                weights[c] = chosen == 0 ? 1f / TopK : weights[c] / chosen;
            }
        }

        private readonly float Score(float logit, float maximum, float sum) =>
            IsSigmoid ? 1 / (1 + MathF.Exp(-logit)) : Exponential(logit, maximum) / sum;

        private static float Exponential(float logit, float maximum) => logit == maximum ? 1f : MathF.Exp(logit - maximum);
    }

    /// <summary>One token.</summary>
    private struct CombineTask : ICpuTask
    {
        public CpuSlotSums Sums;
        public BFloat16* Output;
        public long OutputStride;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var sum = worker.Scratch(Sums.Leaves * Sums.Hidden);
            Sums.Load(index, sum);
            Round(sum, Sums.Hidden, Output + (index * OutputStride));
        }
    }
}
