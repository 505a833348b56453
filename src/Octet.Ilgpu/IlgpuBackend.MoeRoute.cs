using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeRoute(DeviceStream stream, in MoeRouteArgs args)
    {
        _moeRoute.Launch(Stream(stream), args.Logits.Shape[^2], _shape.Threads, new MoeRouteKernel
        {
            Logits = View<float>(args.Logits),
            Ids = View<int>(args.Ids),
            Weights = View<float>(args.Weights),
            Tokens = args.Logits.Shape[^2],
            Stride = args.Logits.Strides[^2],
            SegmentStride = args.Logits.Strides[0],
            Segments = args.Logits.Rank == 3 ? (int)args.Logits.Shape[0] : 1,
            Experts = (int)args.Logits.Shape[^1],
            TopK = (int)args.Ids.Shape[1],
            Renormalize = args.Renormalize ? 1 : 0,
            IsSigmoid = args.Scoring == MoeScoring.Sigmoid ? 1 : 0,
            ScoreBias = View<float>(args.ScoreBias),
        });
        if (!args.ExpertOffsets.IsNull)
        {
            MoeSort(stream, Sort(in args));
        }
    }

    /// <inheritdoc/>
    public override long MoeRouteWorkspace(in MoeRouteArgs args) => args.ExpertOffsets.IsNull ? 0 : MoeSortWorkspace(Sort(in args));

    private static MoeSortArgs Sort(in MoeRouteArgs args) => new()
    {
        Ids = args.Ids,
        ExpertOffsets = args.ExpertOffsets!,
        SlotPairs = args.SlotPairs!,
        PairSlots = args.PairSlots!,
        Experts = (int)args.Logits.Shape[^1],
        FirstExpert = args.FirstExpert,
        Workspace = args.Workspace,
    };
}

/// <summary>
/// The top_k best experts of softmax or sigmoid of the logits, ties to the lower expert: a group for each token. Ordered by score +
/// bias where there is one, else by logit, which tells apart what underflows to 0 as a score.
/// </summary>
internal struct MoeRouteKernel
{
    private const int MaxExperts = 512;
    private const int MaxTopK = 16;

    public ArrayView<float> Logits;  // [segments, tokens, experts]: partial sums
    public ArrayView<int> Ids;       // [tokens, top_k]
    public ArrayView<float> Weights; // [tokens, top_k]
    public long Tokens, Stride, SegmentStride;
    public ArrayView<float> ScoreBias; // [experts]; empty: the logits choose
    public int Segments, Experts, TopK, Renormalize, IsSigmoid;

    public static void Run(MoeRouteKernel args)
    {
        var logits = SharedMemory.Allocate<float>(MaxExperts);
        var keys = SharedMemory.Allocate<float>(MaxExperts); // what chooses
        var isTaken = SharedMemory.Allocate<int>(MaxExperts);
        var scratch = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        var bests = SharedMemory.Allocate<int>(IlgpuShape.MaxThreads);
        var weights = SharedMemory.Allocate<float>(MaxTopK);
        for (long token = Grid.IdxX; token < args.Tokens; token += Grid.DimX)
        {
            var maximum = Bits.NegativeInfinity;
            for (var e = Group.IdxX; e < args.Experts; e += Group.DimX)
            {
                var logit = 0f;
                for (var segment = 0; segment < args.Segments; segment++)
                {
                    logit += args.Logits[(segment * args.SegmentStride) + (token * args.Stride) + e];
                }

                logits[e] = Bits.IsNaN(logit) ? Bits.NegativeInfinity : logit;
                isTaken[e] = 0;
                maximum = logits[e] > maximum ? logits[e] : maximum;
            }

            maximum = GroupWork.Largest(maximum, scratch);
            var sum = 0f;
            for (var e = Group.IdxX; e < args.Experts; e += Group.DimX)
            {
                sum += Exponential(logits[e], maximum);
            }

            sum = GroupWork.Sum(sum, scratch);
            for (var e = Group.IdxX; e < args.Experts; e += Group.DimX)
            {
                var key = args.ScoreBias.Length > 0 ? Score(args, logits[e], maximum, sum) + args.ScoreBias[e] : logits[e];
                keys[e] = Bits.IsNaN(key) ? Bits.NegativeInfinity : key;
            }

            var chosen = 0f;
            for (var choice = 0; choice < args.TopK; choice++)
            {
                var best = -1;
                for (var e = Group.IdxX; e < args.Experts; e += Group.DimX)
                {
                    if (isTaken[e] == 0 && (best < 0 || keys[e] > keys[best]))
                    {
                        best = e;
                    }
                }

                best = Best(best, keys, bests);
                var weight = Score(args, logits[best], maximum, sum);
                chosen += weight;
                if (Group.IdxX == best % Group.DimX)
                {
                    isTaken[best] = 1; // read by this thread only
                    weights[choice] = weight;
                    args.Ids[(token * args.TopK) + choice] = best;
                }
            }

            GroupWork.Sync();
            for (var choice = Group.IdxX; choice < args.TopK; choice += Group.DimX)
            {
                var share = chosen > 0f ? weights[choice] / chosen : 1f / args.TopK;
                args.Weights[(token * args.TopK) + choice] = args.Renormalize != 0 ? share : weights[choice];
            }

            GroupWork.Sync();
        }
    }

    /// <summary>The expert of the largest key among one for each thread (-1: none), the lowest of equals.</summary>
    private static int Best(int own, ArrayView<float> keys, ArrayView<int> bests)
    {
        GroupWork.Sync();
        bests[Group.IdxX] = own;
        GroupWork.Sync();
        for (var half = Group.DimX / 2; half > 0; half /= 2)
        {
            if (Group.IdxX < half)
            {
                var (mine, other) = (bests[Group.IdxX], bests[Group.IdxX + half]);
                var isBetter = other >= 0
                    && (mine < 0 || keys[other] > keys[mine] || (keys[other] == keys[mine] && other < mine));
                bests[Group.IdxX] = isBetter ? other : mine;
            }

            GroupWork.Sync();
        }

        return bests[0];
    }

    private static float Score(MoeRouteKernel args, float logit, float maximum, float sum) =>
        args.IsSigmoid != 0 ? 1f / (1f + XMath.Exp(-logit)) : Exponential(logit, maximum) / sum;

    // Without a finite logit every expert is as likely as any other; with an infinite one, all weight is on those.
    private static float Exponential(float logit, float maximum) => logit == maximum ? 1f : XMath.Exp(logit - maximum);
}
