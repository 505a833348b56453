namespace Octet.Inference.Engine;

/// <summary>The bounds a <see cref="Scheduler"/> keeps.</summary>
internal sealed record SchedulerOptions
{
    /// <summary>Most tokens of a step.</summary>
    public int TokenBudget { get; init; } = 512;

    /// <summary>Most sequences that hold blocks.</summary>
    public int MaxSequences { get; init; } = 32;

    /// <summary>Whether a sequence is admitted only with room for all it may grow to, so that none is ever preempted.</summary>
    public bool ReserveAll { get; init; }

    /// <summary>Most tokens proposed for a sequence and step; 0: none.</summary>
    public int Proposals { get; init; }
}
