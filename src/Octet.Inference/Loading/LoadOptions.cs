namespace Octet.Inference.Loading;

/// <summary>How weights are loaded.</summary>
internal sealed record LoadOptions
{
    /// <summary>Whether weights may stay in the mapped files where the device can use them there.</summary>
    public bool MayMap { get; init; } = true;

    /// <summary>Whether all is read and checked and nothing put on the device.</summary>
    public bool Drops { get; init; }

    /// <summary>The most threads that read.</summary>
    public int Threads { get; init; } = ThreadsOf(ranks: 1);

    /// <summary>Told of every piece, one thread at a time.</summary>
    public IProgress<LoadProgress>? Progress { get; init; }

    /// <summary>Stops loading between two reads.</summary>
    public CancellationToken Cancellation { get; init; }

    /// <summary>Threads for each of so many ranks that load at once: enough reads under way to keep a disk or a network busy.</summary>
    public static int ThreadsOf(int ranks) => Math.Clamp(Environment.ProcessorCount / ranks, 2, 8);
}
