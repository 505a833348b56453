namespace Octet.Inference.Models;

/// <summary>How K and V are kept.</summary>
public enum KvEncoding
{
    /// <summary>The device's FP8, with the checkpoint's k_scale and v_scale, else 1, doubled for FNUZ: half the memory.</summary>
    Float8,

    /// <summary>BF16; scales in the checkpoint have no effect.</summary>
    BFloat16,
}

/// <summary>Who adds what the devices of a copy have of a sum.</summary>
public enum Collectives
{
    /// <summary>Octet's kernels, by a tree: the bits are those of one device.</summary>
    Octet,

    /// <summary>
    /// The vendor's library, RCCL or NCCL, in an order of its own: results agree with one device's within roundings, not in their bits. On GPUs
    /// alone, of <see cref="LanguageModelOptions.TensorParallel"/> 2, 4 or 8.
    /// </summary>
    Rccl,
}

/// <summary>How a model is run.</summary>
public sealed record LanguageModelOptions
{
    private readonly int? _expertParallel;

    /// <summary>How K and V are kept.</summary>
    public KvEncoding KvEncoding { get; init; }

    /// <summary>Longest prompt and continuation together, in tokens; null: what the model was made for.</summary>
    public int? MaxContext { get; init; }

    /// <summary>
    /// Tokens in the KV cache over all requests; null: as many as <see cref="MaxSequences"/> requests of <see cref="MaxContext"/> can fill,
    /// within what weights, workspace and step buffers leave of a GPU's free memory, less 1 GiB (256 MiB with graphs); where the host's
    /// memory is used, within half of what they leave.
    /// </summary>
    public long? KvCacheTokens { get; init; }

    /// <summary>
    /// Share of the memory left that the KV cache may take, over 0 and at most 1; null: all of it on a GPU, half of it where the host's
    /// memory is used.
    /// </summary>
    public double? KvMemoryShare { get; init; }

    /// <summary>Most tokens of a step: one of every text that is continued, the rest of prompts; longer prompts are read in chunks.</summary>
    public int TokenBudget { get; init; } = 512;

    /// <summary>
    /// Data parallel groups, 1, 2, 4 or 8: copies of the model on devices of their own. A text goes to the group that was given the longest
    /// beginning of its prompt, or has the least to do, and stays there. <see cref="MaxSequences"/>, <see cref="TokenBudget"/> and
    /// <see cref="KvCacheTokens"/> are of each group, <see cref="MaxQueue"/> of all.
    /// </summary>
    public int DataParallel { get; init; } = 1;

    /// <summary>Devices that run one copy of the model together, 1, 2, 4 or 8: attention heads and vocabulary are divided among them.</summary>
    public int TensorParallel { get; init; } = 1;

    /// <summary>
    /// Parts into which the experts of a copy are divided, a divisor of <see cref="TensorParallel"/>. As many as that, which it is unless set:
    /// each device has whole experts, and every token has the bits it has on one device. Fewer: the devices of a part divide the width of its
    /// experts, and tokens have the same bits on every run.
    /// </summary>
    public int ExpertParallel
    {
        get => _expertParallel ?? TensorParallel;
        init => _expertParallel = value;
    }

    /// <summary>Who adds what the devices of a copy have of a sum.</summary>
    public Collectives Collectives { get; init; }

    /// <summary>
    /// How long a device may keep those waiting that run the model with it, up to an hour. Then they stop: every text ends with an
    /// <see cref="OctetException"/> that <see cref="OctetException.IsTransient"/>, and the model is to be loaded anew. With
    /// <see cref="Collectives.Rccl"/>, whose waits have no end of their own, no step may take longer either.
    /// </summary>
    public TimeSpan RankTimeout { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>Texts that run together.</summary>
    public int MaxSequences { get; init; } = 32;

    /// <summary>
    /// Requests beyond <see cref="MaxSequences"/> that may wait for their turn; one more is refused with
    /// <see cref="Engine.QueueFullException"/>. Null: any number.
    /// </summary>
    public int? MaxQueue { get; init; }

    /// <summary>
    /// Whether steps of decode are recorded as graphs, one for each bucket of batch and context, and replayed; the tokens are the same
    /// either way. Devices without graphs run every step eagerly.
    /// </summary>
    public bool UseGraphs { get; init; } = true;

    /// <summary>
    /// Whether a request waits until the KV cache has room for all it may grow to. Else blocks are taken as a text grows, and the newest text
    /// gives its own up when there are none left, to go on later; the tokens are the same either way.
    /// </summary>
    public bool ReserveAll { get; init; }

    /// <summary>Whether the K and V of prompts are kept as long as there is room, for later prompts that begin alike.</summary>
    public bool PrefixCache { get; init; } = true;

    /// <summary>
    /// Tokens proposed at a time, 0 to 3, from what followed the last few tokens earlier in the text; a step then gives as many more as were
    /// right. The tokens are the same as without.
    /// </summary>
    public int Speculate { get; init; }

    /// <summary>Tokens of a KV block: 16, 32, 64 or 128.</summary>
    public int KvBlockSize { get; init; } = 64;
}
