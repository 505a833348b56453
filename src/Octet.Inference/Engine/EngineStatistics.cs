namespace Octet.Inference.Engine;

/// <summary>What was done with a model since it was loaded: sums over its steps.</summary>
public readonly record struct EngineStatistics
{
    /// <summary>Runs of the model, each over one token of every text that is continued and chunks of prompts.</summary>
    public long Steps { get; init; }

    /// <summary>Tokens of prompts that were computed; those that were computed twice count twice.</summary>
    public long PromptTokens { get; init; }

    /// <summary>Tokens of prompts that were not computed, because the prefix cache had them.</summary>
    public long CachedTokens { get; init; }

    /// <summary>Tokens that were drawn, end tokens among them.</summary>
    public long GeneratedTokens { get; init; }

    /// <summary>Times a text gave its KV blocks up for others, and went on later.</summary>
    public long Preemptions { get; init; }

    /// <summary>Those of <see cref="PromptTokens"/> that were computed before, and let go of in a preemption.</summary>
    public long RecomputedTokens { get; init; }

    /// <summary>What was done here and elsewhere.</summary>
    internal EngineStatistics Plus(in EngineStatistics other) => new()
    {
        Steps = Steps + other.Steps,
        PromptTokens = PromptTokens + other.PromptTokens,
        CachedTokens = CachedTokens + other.CachedTokens,
        GeneratedTokens = GeneratedTokens + other.GeneratedTokens,
        Preemptions = Preemptions + other.Preemptions,
        RecomputedTokens = RecomputedTokens + other.RecomputedTokens,
    };
}
