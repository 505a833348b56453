namespace Octet.Cli.Inspect;

/// <summary>
/// How often the loops of the kernels turn that wait more than they work, in the order in which the loops begin in the code
/// (<see cref="WholeRun"/>). Rows are aligned: the loops for others do not turn. Null: the kernel's hot loop tells its time.
/// </summary>
internal static class LoopTurns
{
    private const int TopK = 8, NormStep = 4096, ProjectionStep = 8192;

    // A token's choices are put in order eight at a time, and their rows added eight at a time.
    private const int OrderedChoices = TopK / 8, CombinedRows = TopK / 8;

    /// <summary>Routing, and sorting in the same launch. segments: partial sums of the logits; 0: they are whole.</summary>
    public static IReadOnlyList<int>? Route(string kernel, long tokens, long segments) => kernel switch
    {
        "moe_rank_sort_e128" => [Batches(segments, 16), 0, Batches(segments, 8), 0, (int)tokens],
        "moe_route_sort_e128" => RouteAndSort(tokens, segments, 128, teamsOfAWave: 4),
        "moe_route_scores_sort_e256" => RouteAndSort(tokens, segments, 256, teamsOfAWave: 2),
        "moe_route_e128" or "moe_route_scores_e256" => [Batches(segments, 8), 0, TopK],
        _ => null,
    };

    /// <summary>RoPE behind a norm over all heads together: what a block of q does, whose row has so many columns. The first ones are no loop.</summary>
    public static IReadOnlyList<int>? Rope(string kernel, long columns)
    {
        var further = (int)((columns - 1) / ProjectionStep);
        return kernel == "rope_projection_d128" ? [further, further] : null;
    }

    /// <summary>The weighted sum of a token's slots.</summary>
    public static IReadOnlyList<int>? Combine(string kernel) => kernel is "moe_combine_rows" or "moe_combine_few" ? [OrderedChoices, CombinedRows, 0] : null;

    /// <summary>The codes of what narrow blocks of gate_up leave.</summary>
    public static IReadOnlyList<int>? GateUp(string kernel) => kernel == "moe_gate_up_quantize" ? [] : null;

    /// <summary>Norm with a residual: what x is made of is loaded in the first phase only. The first columns of both phases are no loop.</summary>
    public static IReadOnlyList<int>? Norm(string kernel, long hidden, long segments)
    {
        var further = (int)((hidden - 1) / NormStep);
        var inFurther = Math.Min(further, 1);
        return kernel switch
        {
            "norm_row" => [further, further],
            "norm_row_slots" => [OrderedChoices, CombinedRows, 0, further, inFurther * CombinedRows, 0, further, 0, 0],

            // Of nodes: the loops over leaves of several segments do not turn.
            "norm_row_leaves" => [0, 0, further, 0, 0, further, 0, 0],

            // The way of eight nodes is laid out for two and four as well, whose loads are fewer and on their way together.
            "norm_row_nodes" => [further, further],
            "norm_row_partials" => [Batches(segments, 4), further, inFurther * Batches(segments, 4), further, 0],
            _ => null,
        };
    }

    // In one block. The counts of four waves are read at once; a thread adds up the offsets of some experts, of which there is one more.
    private static int[] RouteAndSort(long tokens, long segments, int experts, int teamsOfAWave)
    {
        const int Batch = 4, Lanes = 64;
        var waves = (tokens + teamsOfAWave - 1) / teamsOfAWave;
        var batches = (int)((waves + Batch - 1) / Batch);
        var offsets = (int)Math.Max(1, experts / (waves * Lanes));
        return [Batches(segments, 8), 0, TopK, (int)Math.Min(tokens, teamsOfAWave), batches, offsets, batches];
    }

    // Partial sums are loaded so many at once; one needs no loop.
    private static int Batches(long segments, int batch) => segments < 2 ? 0 : (int)((segments + batch - 1) / batch);
}
