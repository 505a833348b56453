namespace Octet.Backends;

internal sealed unsafe partial class CpuKernels<TLanes>
{
    // Independent sums: more than the latency of a multiply-add times the units that run it.
    private const int Chains = 12;

    public override double MultiplyAddFlops(int turns) => 2.0 * turns * Chains * TLanes.Count;

    public override float MultiplyAdds(int turns)
    {
        var (x, y) = (TLanes.Broadcast(0.999f), TLanes.Broadcast(0.001f));
        TLanes a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y, k = y, l = y;
        for (var turn = 0; turn < turns; turn++)
        {
            a = TLanes.MultiplyAdd(a, x, y);
            b = TLanes.MultiplyAdd(b, x, y);
            c = TLanes.MultiplyAdd(c, x, y);
            d = TLanes.MultiplyAdd(d, x, y);
            e = TLanes.MultiplyAdd(e, x, y);
            f = TLanes.MultiplyAdd(f, x, y);
            g = TLanes.MultiplyAdd(g, x, y);
            h = TLanes.MultiplyAdd(h, x, y);
            i = TLanes.MultiplyAdd(i, x, y);
            j = TLanes.MultiplyAdd(j, x, y);
            k = TLanes.MultiplyAdd(k, x, y);
            l = TLanes.MultiplyAdd(l, x, y);
        }

        var sum = TLanes.Add(TLanes.Add(TLanes.Add(a, b), TLanes.Add(c, d)), TLanes.Add(TLanes.Add(e, f), TLanes.Add(g, h)));
        var lanes = stackalloc float[Lanes];
        TLanes.Store(lanes, TLanes.Add(sum, TLanes.Add(TLanes.Add(i, j), TLanes.Add(k, l))));
        return lanes[0];
    }
}
