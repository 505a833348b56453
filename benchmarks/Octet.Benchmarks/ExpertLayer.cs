using Octet.Cases;

namespace Octet.Benchmarks;

/// <summary>The experts of one layer on routed tokens: gate, up, silu, down; ours in two ops, another's expert by expert.</summary>
internal sealed class ExpertLayer
{
    private readonly WorkloadContext _context;
    private readonly MoeGateUpArgs _gateUp;
    private readonly MoeDownArgs _down;
    private readonly int[] _rows;

    public ExpertLayer(WorkloadContext context, (Weight Gate, Weight Up, Weight Down) weights, int[] ids, int tokens)
    {
        var (hidden, intermediate, experts) = (weights.Gate.K, weights.Gate.N, (int)weights.Gate.Experts);
        var sorted = ExpertSlots.Of(ids, 0, experts);
        var between = context.Quantized(ids.Length, intermediate);
        _context = context;
        _rows = [.. Enumerable.Range(0, experts).Select(e => sorted.Offsets[e + 1] - sorted.Offsets[e]).Where(rows => rows > 0)];
        _gateUp = new MoeGateUpArgs
        {
            X = context.Quantized(tokens, hidden), Gate = weights.Gate, Up = weights.Up, ExpertOffsets = context.From<int>(sorted.Offsets, experts + 1),
            SlotPairs = context.From<int>(sorted.SlotPairs, ids.Length), TopK = ids.Length / tokens, Output = between,
        };
        _gateUp = _gateUp with { Workspace = context.Workspace(Ops.MoeGateUpWorkspace(context.Device, _gateUp)) };
        _down = new MoeDownArgs
        {
            X = between, Down = weights.Down, ExpertOffsets = _gateUp.ExpertOffsets, TopK = ids.Length / tokens,
            Output = context.Create(DType.BFloat16, ids.Length, hidden),
        };
        _down = _down with { Workspace = context.Workspace(Ops.MoeDownWorkspace(context.Device, _down)) };
        Flops = 6.0 * ids.Length * hidden * intermediate;
        Bytes = 3.0 * _rows.Length * hidden * intermediate;
    }

    /// <summary>Experts that have a token.</summary>
    public int Touched => _rows.Length;

    public double Flops { get; }

    public double Bytes { get; }

    public void Run()
    {
        Ops.MoeGateUp(_context.Stream, _gateUp);
        Ops.MoeDown(_context.Stream, _down);
    }

    /// <summary>The same tokens through another's experts, whose weights take turns.</summary>
    public Action OneByOne(OnnxProduct[] experts)
    {
        Action[] runs = [.. _rows.Select((rows, i) => experts[i % experts.Length].On(rows))];
        return () =>
        {
            foreach (var run in runs)
            {
                run();
            }
        };
    }
}
