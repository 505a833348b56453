namespace Octet.Inference.Planning;

/// <summary>
/// How long the ops of a group take on a mesh, modelled: a signal, the way of a request, and bytes over one link each way, all links at
/// once. Launches are not in it. Nothing of it was measured on several GPUs by this project.
/// </summary>
/// <param name="ranks">Ranks of the group, 1 or more.</param>
/// <param name="linkGBPerSecond">GB/s that one link brings each way (46 realised of 64 on MI325X, published).</param>
public sealed class CollectiveModel(int ranks, double linkGBPerSecond)
{
    /// <summary>Microseconds from a peer's last write to the wait that sees it: a store across a link, the load that finds it, two fences (assumed).</summary>
    public const double SignalMicroseconds = 2;

    /// <summary>Microseconds until the first bytes come that are asked of a peer (assumed).</summary>
    public const double RequestMicroseconds = 1;

    /// <summary>Microseconds of one <see cref="Ops.GroupSync"/> of ranks that come at the same time.</summary>
    public double GroupSync => ranks == 1 ? 0 : SignalMicroseconds;

    /// <summary>Microseconds that bytes take over one link.</summary>
    public double Transfer(double bytes) => ranks == 1 ? 0 : bytes / (linkGBPerSecond * 1e3);

    /// <summary>Microseconds of one <see cref="Ops.Gather"/> where every rank owns <paramref name="bytesOfEach"/>: each link brings those of one peer.</summary>
    public double Gather(double bytesOfEach) => ranks == 1 ? 0 : RequestMicroseconds + Transfer(bytesOfEach);

    /// <summary>
    /// Microseconds of a sum of <paramref name="bytes"/> over all ranks that every rank has in the end: each takes its part of the rows from
    /// its peers, adds, and the sums are gathered (two syncs, two ways); or, where that is shorter, each takes all rows of every peer.
    /// </summary>
    public double AllReduce(double bytes) => Math.Min(InParts(bytes), Whole(bytes));

    /// <summary>How often peers are asked, one after the other, in a sum of <paramref name="bytes"/>.</summary>
    public int AllReduceRequests(double bytes) => ranks == 1 ? 0 : InParts(bytes) < Whole(bytes) ? 2 : 1;

    private double InParts(double bytes) => 2 * (GroupSync + Gather(bytes / ranks));

    private double Whole(double bytes) => GroupSync + Gather(bytes);
}
