namespace Octet.Inference.Engine;

/// <summary>How a text is continued; what is null comes from the checkpoint's generation_config.json.</summary>
public sealed record GenerationOptions
{
    /// <summary>The most tokens to generate.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>0 takes the most likely token; else logits are divided by it.</summary>
    public float? Temperature { get; init; }

    /// <summary>Draw among this many most likely tokens; 0: all.</summary>
    public int? TopK { get; init; }

    /// <summary>Of those, draw among the fewest that hold this much probability; 1: all.</summary>
    public float? TopP { get; init; }

    /// <summary>The same seed gives the same text; null: a random one.</summary>
    public long? Seed { get; init; }

    /// <summary>Whether to go on past the tokens that end a text.</summary>
    public bool IgnoreEndOfText { get; init; }
}

/// <summary>One token of a continuation.</summary>
/// <param name="Id">The token.</param>
/// <param name="Text">The characters it completes: empty for an end token, and may be where a character needs several tokens.</param>
/// <param name="FinishReason">Why the text ended, for its last token; null for all others.</param>
public readonly record struct GeneratedToken(int Id, string Text, FinishReason? FinishReason = null);
