namespace Octet.Inference.Loading;

/// <summary>A part of a weight that is read and taken by itself, on any thread.</summary>
internal sealed record LoadPiece
{
    /// <summary>What becomes of the bytes that were read.</summary>
    public delegate void Taker(in WindowBytes bytes, LoadWorker worker);

    /// <summary>Where it lies; null: it is in the mapped file, and is not read.</summary>
    public ReadRange? Range { get; init; }

    /// <summary>Its bytes in the checkpoint.</summary>
    public required long SizeInBytes { get; init; }

    /// <summary>Bytes of pinned memory it makes beside those that were read.</summary>
    public long OutputBytes { get; init; }

    /// <summary>Bytes on the device that it needs while it is taken.</summary>
    public long ScratchBytes { get; init; }

    /// <summary>Checks it, and enqueues what brings it to its place.</summary>
    public required Taker Take { get; init; }
}

/// <summary>Bytes of pinned memory.</summary>
/// <param name="Buffer">The memory.</param>
/// <param name="Position">The first byte.</param>
/// <param name="Length">How many.</param>
internal readonly record struct PinnedBytes(PinnedBuffer Buffer, int Position, int Length)
{
    /// <summary>The bytes.</summary>
    public Span<byte> Span => Buffer.AsSpan<byte>().Slice(Position, Length);
}
