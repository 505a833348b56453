using System.Globalization;

namespace Octet.Inference.Engine;

/// <summary>
/// How many blocks of KV cache a model gets: a pure function of what is free and what else the model takes. On a GPU all that is left,
/// less a reserve; in the host's memory at most half of it, which other processes need too. Never more than all requests can fill.
/// </summary>
internal sealed record KvMemory
{
    /// <summary>Left alone on a GPU where every step is run eagerly.</summary>
    public const long EagerReserve = 1L << 30;

    /// <summary>Left alone on a GPU where steps are replayed as graphs.</summary>
    public const long GraphReserve = 256L << 20;

    // What a GPU's driver rounds a large allocation up to.
    private const long Granule = 2L << 20;

    /// <summary>Name of the device, for messages.</summary>
    public required string Device { get; init; }

    /// <summary>Bytes free before anything of the model is allocated.</summary>
    public required long FreeBytes { get; init; }

    /// <summary>Data parallel groups that divide the bytes free among themselves: those which use the same memory and are not loaded yet.</summary>
    public int Sharers { get; init; } = 1;

    /// <summary>Bytes of weights on the device.</summary>
    public required long WeightBytes { get; init; }

    /// <summary>Bytes of the activations, tables and inputs of a step.</summary>
    public required long BufferBytes { get; init; }

    /// <summary>Bytes of scratch memory for the largest step.</summary>
    public required long WorkspaceBytes { get; init; }

    /// <summary>Whether the device uses the host's memory.</summary>
    public required bool UsesHostMemory { get; init; }

    /// <summary>Whether steps are replayed as graphs.</summary>
    public required bool UsesGraphs { get; init; }

    /// <summary>Bytes of K and V of one token in all layers.</summary>
    public required long BytesPerToken { get; init; }

    /// <summary>Allocations the cache consists of, of equal size.</summary>
    public required int Tensors { get; init; }

    /// <summary>Tokens of a block.</summary>
    public required int BlockSize { get; init; }

    /// <summary>Longest request, in tokens.</summary>
    public required int MaxContext { get; init; }

    /// <summary>Requests that are continued together.</summary>
    public required int MaxSequences { get; init; }

    /// <summary>Prompt tokens read in one step.</summary>
    public required int TokenBudget { get; init; }

    /// <summary>Share of what is left that the cache may take; null: half of the host's memory, all of a GPU's.</summary>
    public double? Share { get; init; }

    /// <summary>Tokens that were asked for; null: as many as there is room for.</summary>
    public long? Tokens { get; init; }

    /// <summary>Whether keeping K and V in FP8 would need less.</summary>
    public bool CanShrink { get; init; }

    /// <summary>Bytes left alone.</summary>
    public long ReserveBytes => UsesHostMemory ? 0 : UsesGraphs ? GraphReserve : EagerReserve;

    /// <summary>Bytes left for the cache; below zero where even the rest does not fit.</summary>
    public long LeftBytes => FreeBytes / Sharers - WeightBytes - BufferBytes - WorkspaceBytes - ReserveBytes;

    /// <summary>Blocks of the cache.</summary>
    /// <exception cref="OctetException">There is too little memory; the message has all the numbers.</exception>
    public int Blocks()
    {
        var fit = BlocksIn((long)(LeftBytes * (Share ?? (UsesHostMemory ? 0.5 : 1))));
        if (Tokens is { } asked)
        {
            // What a user asks for may reach into the reserve and, where pages are taken as they are touched, beyond what is free.
            return UsesHostMemory || BlocksFor(asked) <= BlocksIn(LeftBytes + ReserveBytes)
                ? checked((int)BlocksFor(asked))
                : throw TooLittle(BlocksFor(asked));
        }

        // A cache that cannot take in one step's tokens serves nobody.
        var least = BlocksFor(Math.Min(MaxContext, TokenBudget));
        return fit >= least
            ? (int)Math.Min(Math.Min(fit, MaxSequences * BlocksFor(MaxContext)), int.MaxValue)
            : throw TooLittle(least);
    }

    private long BlocksFor(long tokens) => (tokens + BlockSize - 1) / BlockSize;

    private long BlocksIn(long bytes)
    {
        var each = Math.Max(bytes, 0) / Tensors;
        if (!UsesHostMemory && each > Granule)
        {
            each = each / Granule * Granule;
        }

        return each / (BytesPerToken * BlockSize / Tensors);
    }

    private OctetException TooLittle(long blocks)
    {
        var parts = $"weights take {Size(WeightBytes)}, step buffers {Size(BufferBytes)}, workspace {Size(WorkspaceBytes)}";
        if (ReserveBytes > 0 && Tokens is null)
        {
            parts += $", the reserve {Size(ReserveBytes)}";
        }

        var left = LeftBytes + (Tokens is null ? 0 : ReserveBytes);
        var rest = left < 0 ? $"which is {Size(-left)} too much"
            : UsesHostMemory ? $"which leaves {Size(left)}, of which the cache may take {(Share is { } share ? string.Create(CultureInfo.InvariantCulture, $"{share * 100:0.##} %") : "half")}"
            : $"which leaves {Size(left)}, room for {BlocksIn(left) * BlockSize} tokens";
        return new OctetException(
            OctetStatus.OutOfMemory,
            $"{Device}: too little memory for a KV cache of {blocks * BlockSize} tokens, {BytesPerToken} bytes each ({Size(blocks * BlockSize * BytesPerToken)}): "
            + $"of {Size(FreeBytes / Sharers)} free{(Sharers > 1 ? $" for each of {Sharers} groups" : "")} the {parts}, {rest}; {Remedy()}");
    }

    private string Remedy()
    {
        if (FreeBytes / Sharers <= WeightBytes)
        {
            return "use a device with more memory, or a smaller model";
        }

        var lower = Tokens is null
            ? $"lower MaxContext ({MaxContext}), TokenBudget ({TokenBudget}) or MaxSequences ({MaxSequences})"
            : $"lower KvCacheTokens ({Tokens}), MaxContext ({MaxContext}), TokenBudget ({TokenBudget}) or MaxSequences ({MaxSequences})";
        return $"{lower}, {(CanShrink ? "keep K and V as FP8 (--kv fp8), " : "")}free memory that other processes hold, or use a device with more";
    }

    private static string Size(long bytes) => bytes >= 100_000_000
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9:f1} GB")
        : string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e6:f1} MB");
}
