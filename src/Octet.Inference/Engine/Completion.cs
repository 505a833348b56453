using System.Text;

namespace Octet.Inference.Engine;

/// <summary>A whole continuation.</summary>
/// <param name="Text">The text.</param>
/// <param name="Ids">Its tokens; an end token is not among them, those of a stop string are.</param>
/// <param name="FinishReason">Why it ended.</param>
public sealed record Completion(string Text, IReadOnlyList<int> Ids, FinishReason FinishReason)
{
    /// <summary>The stop string that ended it; null where none did.</summary>
    public string? StopString { get; init; }

    /// <summary>One entry for each of <see cref="Ids"/> where log probabilities were asked for; else none.</summary>
    public IReadOnlyList<TokenLogprobs> Logprobs { get; init; } = [];

    /// <summary>One entry for each token of the prompt, the first of them null, where its log probabilities were asked for; else none.</summary>
    public IReadOnlyList<TokenLogprobs?> PromptLogprobs { get; init; } = [];

    /// <summary>Tokens of the prompt.</summary>
    public int PromptTokens { get; init; }

    /// <summary>Those of them that were not computed, because the prefix cache had them.</summary>
    public int CachedTokens { get; init; }
}

/// <summary>Puts a continuation together from its tokens.</summary>
internal sealed class CompletionBuilder
{
    private readonly StringBuilder _text = new();
    private readonly List<int> _ids = [];
    private readonly List<TokenLogprobs> _logprobs = [];
    private GeneratedToken _last = new(0, "", FinishReason.Cancelled);

    /// <summary>Takes the next token.</summary>
    public void Add(in GeneratedToken token)
    {
        _last = token with { FinishReason = token.FinishReason ?? FinishReason.Cancelled };
        _text.Append(token.Text);
        if (token is { FinishReason: FinishReason.Stop, StopString: null })
        {
            return;
        }

        _ids.Add(token.Id);
        if (token.Logprobs is { } logprobs)
        {
            _logprobs.Add(logprobs);
        }
    }

    /// <summary>All of it; cancelled where the last token was not its end.</summary>
    /// <param name="promptTokens">Tokens of the prompt.</param>
    /// <param name="promptLogprobs">Their log probabilities; none where they were not asked for.</param>
    public Completion Build(int promptTokens, IReadOnlyList<TokenLogprobs?> promptLogprobs) => new(_text.ToString(), _ids, _last.FinishReason!.Value)
    {
        StopString = _last.StopString,
        Logprobs = _logprobs,
        PromptLogprobs = promptLogprobs,
        PromptTokens = promptTokens,
        CachedTokens = _last.CachedTokens,
    };
}
