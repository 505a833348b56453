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
        });
        if (args.ExpertOffsets is not null)
        {
            MoeSort(stream, Sort(in args));
        }
    }

    /// <inheritdoc/>
    public override long MoeRouteWorkspace(in MoeRouteArgs args) => args.ExpertOffsets is null ? 0 : MoeSortWorkspace(Sort(in args));

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
/// The top_k largest of softmax(logits), ties to the lower expert: a group for each token. Ordered by logit, which tells apart
/// what underflows to 0 as a probability.
/// </summary>
internal struct MoeRouteKernel
{
    private const int MaxExperts = 512;
    private const int MaxTopK = 16;

    public ArrayView<float> Logits;  // [segments, tokens, experts]: partial sums
    public ArrayView<int> Ids;       // [tokens, top_k]
    public ArrayView<float> Weights; // [tokens, top_k]
    public long Tokens, Stride, SegmentStride;
    public int Segments, Experts, TopK, Renormalize;

    public static void Run(MoeRouteKernel args)
    {
        var logits = SharedMemory.Allocate<float>(MaxExperts);
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
            var chosen = 0f;
            for (var choice = 0; choice < args.TopK; choice++)
            {
                var best = -1;
                for (var e = Group.IdxX; e < args.Experts; e += Group.DimX)
                {
                    if (isTaken[e] == 0 && (best < 0 || logits[e] > logits[best]))
                    {
                        best = e;
                    }
                }

                best = Best(best, logits, bests);
                var weight = Exponential(logits[best], maximum) / sum;
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
                args.Weights[(token * args.TopK) + choice] = args.Renormalize != 0 ? weights[choice] / chosen : weights[choice];
            }

            GroupWork.Sync();
        }
    }

    /// <summary>The expert of the largest logit among one for each thread (-1: none), the lowest of equals.</summary>
    private static int Best(int own, ArrayView<float> logits, ArrayView<int> bests)
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
                    && (mine < 0 || logits[other] > logits[mine] || (logits[other] == logits[mine] && other < mine));
                bests[Group.IdxX] = isBetter ? other : mine;
            }

            GroupWork.Sync();
        }

        return bests[0];
    }

    // Without a finite logit every expert is as likely as any other; with an infinite one, all weight is on those.
    private static float Exponential(float logit, float maximum) => logit == maximum ? 1f : XMath.Exp(logit - maximum);
}
