namespace Octet.Inference.Engine;

/// <summary>Where a sequence stands with the scheduler.</summary>
internal enum SequenceStatus
{
    /// <summary>In the queue, without blocks; or with blocks in host memory, where it was preempted amid its continuation.</summary>
    Waiting,

    /// <summary>Holds blocks and takes part in steps.</summary>
    Running,

    /// <summary>Holds blocks, and waits for tokens that its owner will append.</summary>
    Paused,

    /// <summary>Left the scheduler: at its end, aborted, or failed.</summary>
    Finished,
}

/// <summary>The state of one text: its tokens, how many are computed, and the KV blocks that hold them. No policy, no device.</summary>
internal sealed class Sequence
{
    // Room for the tokens of most continuations from the start, so that decoding allocates nothing.
    private const int MostReserved = 4096;

    /// <param name="id">Ascending with arrival: the older goes first.</param>
    /// <param name="prompt">Tokens to begin with, at least one.</param>
    /// <param name="limit">The most tokens there will be, those of the prompt included.</param>
    /// <param name="salt">Separates what may be shared through the prefix cache; null: shared with all who have none.</param>
    public Sequence(long id, ReadOnlySpan<int> prompt, int limit, string? salt = null)
    {
        (Id, Limit, Salt) = (id, limit, salt);
        Tokens = new List<int>(Math.Min(limit, prompt.Length + MostReserved));
        Tokens.AddRange(prompt);
        PromptLength = PrefillEnd = prompt.Length;
    }

    /// <summary>A text of which nothing but the length matters, in virtual time; see <see cref="VirtualTokens"/>.</summary>
    /// <param name="id">Ascending with arrival.</param>
    /// <param name="promptLength">Tokens to begin with, at least one.</param>
    /// <param name="limit">The most tokens there will be, those of the prompt included.</param>
    public Sequence(long id, int promptLength, int limit)
    {
        (Id, Limit, Tokens) = (id, limit, []);
        VirtualTokens = PromptLength = PrefillEnd = promptLength;
    }

    /// <summary>Ascending with arrival.</summary>
    public long Id { get; }

    /// <summary>Those of lower numbers go first, whenever they came.</summary>
    public int Priority { get; init; }

    /// <summary>The most tokens there will be.</summary>
    public int Limit { get; }

    /// <summary>Texts of another salt share no blocks with this one.</summary>
    public string? Salt { get; }

    /// <summary>How its tokens are drawn.</summary>
    public SamplingParams Sampling { get; init; } = SamplingParams.Greedy;

    /// <summary>The changes of its logits as it grows; null where there have been none.</summary>
    public TokenAdjustments? Adjustments { get; set; }

    /// <summary>Why no token was allowed to follow; null where some are.</summary>
    public Exception? MaskError { get; set; }

    /// <summary>Who wants it.</summary>
    public Request? Owner { get; set; }

    /// <summary>Where it stands with the scheduler.</summary>
    public SequenceStatus Status { get; set; }

    /// <summary>Prompt and continuation.</summary>
    public List<int> Tokens { get; }

    /// <summary>Tokens that are counted and have no value, so that texts can be scheduled without any.</summary>
    public int VirtualTokens { get; set; }

    /// <summary>Whether another one waits for this one rather than the other way round.</summary>
    public bool GoesBefore(Sequence other) => Priority != other.Priority ? Priority < other.Priority : Id < other.Id;

    /// <summary>Tokens so far.</summary>
    public int Length => Tokens.Count + VirtualTokens;

    /// <summary>Tokens of the prompt: what the prefix cache may share.</summary>
    public int PromptLength { get; set; }

    /// <summary>
    /// Tokens before this position go through attention as part of a prompt, those from it on as a continuation: the two may differ in
    /// their last bit, so a position has one kind for good, however it is cut into steps.
    /// </summary>
    public int PrefillEnd { get; set; }

    /// <summary>Tokens whose K and V are in <see cref="Blocks"/>.</summary>
    public int Computed { get; set; }

    /// <summary>Tokens of which K and V are not there yet.</summary>
    public int Pending => Length - Computed;

    /// <summary>The most tokens that may yet be computed of it; of one that waits for its owner, those it was given.</summary>
    public int Outstanding => IsStepped ? Pending : Limit - Math.Max(Computed, IsSibling ? PromptLength : 0);

    /// <summary>Whether the next token to compute belongs to a prompt.</summary>
    public bool IsPrefilling => Computed < PrefillEnd;

    /// <summary>KV blocks held, in order of the context.</summary>
    public List<int> Blocks { get; } = [];

    /// <summary>Blocks that wait in host memory, in order of the context; 0: none.</summary>
    public int SwappedBlocks { get; set; }

    /// <summary>Tokens of the prompt that were computed and let go of in a preemption: what is computed of them is computed again.</summary>
    public int Forgotten { get; set; }

    /// <summary>Tokens of the prompt that the prefix cache had when the sequence first ran.</summary>
    public int CachedTokens { get; set; } = -1;

    /// <summary>Texts with the same prompt that begin once it is computed: each draws its own first token from the same logits.</summary>
    public List<Sequence> Siblings { get; } = [];

    /// <summary>Tokens proposed to follow in the step at hand.</summary>
    public List<int> Proposals { get; } = [];

    /// <summary>Tokens proposed, and of them accepted, since both were last judged.</summary>
    public int Proposed { get; set; }

    /// <summary>See <see cref="Proposed"/>.</summary>
    public int Accepted { get; set; }

    /// <summary>Length of the text from which on tokens are proposed again.</summary>
    public int ProposesFrom { get; set; }

    /// <summary>Most tokens of its prompt that one step computes.</summary>
    public int MaxChunk { get; init; } = int.MaxValue;

    /// <summary>Whether it begins as a sibling of another one, and is not queued by itself.</summary>
    public bool IsSibling { get; init; }

    /// <summary>Whether it only evaluates its tokens: the logits of all of them are wanted, and none is drawn.</summary>
    public bool IsEvaluation { get; init; }

    /// <summary>Whether the logits of its prompt are wanted, so that all of it is computed and none taken from the prefix cache.</summary>
    public bool WantsPromptLogits { get => field || IsEvaluation; init; }

    /// <summary>Whether it waits for its owner when all its tokens are computed, instead of drawing the next.</summary>
    public bool IsStepped { get; init; }

    /// <summary>Its place in the queue.</summary>
    public LinkedListNode<Sequence>? Queued { get; set; }

    public override string ToString() =>
        $"sequence {Id}: {Status}, {Computed} of {Length} tokens computed (prompt {PromptLength}, limit {Limit}), {Blocks.Count} blocks, {SwappedBlocks} swapped";
}
