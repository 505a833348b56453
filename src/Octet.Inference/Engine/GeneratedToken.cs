namespace Octet.Inference.Engine;

/// <summary>One token of a continuation.</summary>
/// <param name="Id">The token.</param>
/// <param name="Text">
/// The characters it completes: empty for an end token, and may be where a character needs several tokens or a stop string may have begun.
/// </param>
/// <param name="FinishReason">Why the text ended, for its last token; null for all others.</param>
public readonly record struct GeneratedToken(int Id, string Text, FinishReason? FinishReason = null)
{
    /// <summary>Which of the continuations it belongs to: 0 to <see cref="GenerationOptions.Choices"/> - 1.</summary>
    public int Choice { get; init; }

    /// <summary>The stop string that this token completed, which ended the text; null for all others.</summary>
    public string? StopString { get; init; }

    /// <summary>Whether it only ends the text, and is no part of it.</summary>
    public bool IsEnd => FinishReason is Inference.Engine.FinishReason.Stop && StopString is null;

    /// <summary>Its log probability and the most likely tokens' there; null where they were not asked for.</summary>
    public TokenLogprobs? Logprobs { get; init; }

    /// <summary>Tokens of the prompt that were not computed, because the prefix cache had them.</summary>
    public int CachedTokens { get; init; }

    /// <summary>How long the request waited for its first step.</summary>
    public TimeSpan QueueTime { get; init; }

    /// <summary>
    /// With the first token of choice 0, where they were asked for: the log probability of each token of the prompt, given those before it, and
    /// of the most likely tokens there; the first has none before it, and is null. Null for all other tokens.
    /// </summary>
    public IReadOnlyList<TokenLogprobs?>? PromptLogprobs { get; init; }
}

/// <summary>A token and the logarithm of its probability.</summary>
public readonly record struct TokenLogprob(int Id, float Logprob);

/// <summary>The log probability of a token, log(softmax(logits)) of the model, and of the most likely tokens in its place.</summary>
/// <param name="Logprob">Of the token.</param>
/// <param name="MostLikely">As many as were asked for, the most likely first; the token itself may be among them.</param>
public sealed record TokenLogprobs(float Logprob, IReadOnlyList<TokenLogprob> MostLikely);
