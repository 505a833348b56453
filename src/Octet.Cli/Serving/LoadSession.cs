using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>What one user says: a prompt, or several turns of which each is sent behind the answers to those before.</summary>
/// <param name="Turns">At least one.</param>
internal sealed record LoadSession(IReadOnlyList<LoadTurn> Turns)
{
    /// <summary>The messages before the first turn, as they are sent; for chat alone.</summary>
    public IReadOnlyList<JsonElement> Before { get; init; } = [];
}

/// <summary>One request of a session: a text, or tokens, or nothing where the messages before are all.</summary>
/// <param name="Text">The prompt, or the user's message.</param>
/// <param name="Ids">The prompt as tokens.</param>
internal sealed record LoadTurn(string? Text, IReadOnlyList<int>? Ids = null)
{
    /// <summary>The most tokens of the answer.</summary>
    public required int MaxTokens { get; init; }

    /// <summary>Tokens of the prompt as far as they are known, for servers that do not count them.</summary>
    public int ExpectedTokens { get; init; }
}

/// <summary>What became of one request. Times are seconds.</summary>
internal sealed record LoadRecord
{
    /// <summary>When it was sent, since the run began.</summary>
    public required double Start { get; init; }

    /// <summary>Until its first chunk with text.</summary>
    public double FirstToken { get; init; }

    /// <summary>Until its last chunk.</summary>
    public double Latency { get; init; }

    /// <summary>Between each two chunks with text.</summary>
    public IReadOnlyList<double> Gaps { get; init; } = [];

    /// <summary>Tokens of the prompt.</summary>
    public int PromptTokens { get; init; }

    /// <summary>Tokens of the answer.</summary>
    public int OutputTokens { get; init; }

    /// <summary>Why it failed; null: it did not.</summary>
    public string? Error { get; init; }

    /// <summary>The time of a token behind the first; null where there is none.</summary>
    public double? PerToken => OutputTokens > 1 ? (Latency - FirstToken) / (OutputTokens - 1) : null;
}
