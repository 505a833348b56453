namespace Octet.Cli.Inspect;

/// <summary>
/// How often the loops of the kernels turn that wait more than they work, in the order in which the loops begin in the code
/// (<see cref="WholeRun"/>). Rows are aligned: the loops for others do not turn. Null: the kernel's hot loop tells its time.
/// </summary>
internal static class LoopTurns
{
    private const int TopK = 8, NormStep = 4096, CombinedRows = 8, TeamsOfAWave = 4;

    /// <summary>Routing, and sorting in the same launch. segments: partial sums of the logits; 0: they are whole.</summary>
    public static IReadOnlyList<int>? Route(string kernel, long tokens, long segments) => kernel switch
    {
        "moe_rank_sort_e128" => [Batches(segments, 16), 0, Batches(segments, 8), 0, (int)tokens],
        "moe_route_sort_e128" => [Batches(segments, 8), 0, TopK, (int)Math.Min(tokens, TeamsOfAWave), WaveBatches(tokens), 1, WaveBatches(tokens)],
        "moe_route_e128" => [Batches(segments, 8), 0, TopK],
        _ => null,
    };

    /// <summary>The weighted sum of a token's slots.</summary>
    public static IReadOnlyList<int>? Combine(string kernel) => kernel is "moe_combine_rows" or "moe_combine_few" ? [TopK / CombinedRows, 0] : null;

    /// <summary>The codes of what narrow blocks of gate_up leave.</summary>
    public static IReadOnlyList<int>? GateUp(string kernel) => kernel == "moe_gate_up_quantize" ? [] : null;

    /// <summary>Norm with a residual: what x is made of is loaded in the first phase only. The first columns of both phases are no loop.</summary>
    public static IReadOnlyList<int>? Norm(string kernel, long hidden, long segments)
    {
        var further = (int)((hidden - 1) / NormStep);
        var inFurther = Math.Min(further, 1);
        const int Rows = TopK / CombinedRows;
        return kernel switch
        {
            "norm_row" => [further, further],
            "norm_row_slots" => [Rows, 0, further, inFurther * Rows, 0, further, 0, 0],
            "norm_row_partials" => [Batches(segments, 4), further, inFurther * Batches(segments, 4), further, 0],
            _ => null,
        };
    }

    // The counts of four waves are read at once.
    private static int WaveBatches(long tokens) => (int)((tokens + 4 * TeamsOfAWave - 1) / (4 * TeamsOfAWave));

    // Partial sums are loaded so many at once; one needs no loop.
    private static int Batches(long segments, int batch) => segments < 2 ? 0 : (int)((segments + batch - 1) / batch);
}
