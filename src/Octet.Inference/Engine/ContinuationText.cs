using Octet.Inference.Loading;

namespace Octet.Inference.Engine;

/// <summary>The text of one continuation as its tokens come: characters that several tokens make, and the stop string that ends it.</summary>
internal sealed class ContinuationText
{
    // A character has at most four bytes, so at most three tokens of the prompt hold the beginning of one.
    private const int TokensOfHalfCharacter = 3;

    private readonly TokenTextStream _characters;
    private readonly StopStrings _stops;
    private readonly int _minTokens;

    /// <param name="tokenizer">Makes text of tokens.</param>
    /// <param name="prompt">What comes before.</param>
    /// <param name="stops">The strings that end it.</param>
    /// <param name="minTokens">Tokens before one of them may.</param>
    public ContinuationText(ModelTokenizer tokenizer, ReadOnlySpan<int> prompt, StopStrings stops, int minTokens)
    {
        (_characters, _stops, _minTokens) = (tokenizer.Stream(), stops, minTokens);

        // Of a prompt that ends amid a character, the first tokens complete it.
        foreach (var token in prompt[Math.Max(0, prompt.Length - TokensOfHalfCharacter)..])
        {
            _characters.Push(token);
        }
    }

    /// <summary>Tokens so far.</summary>
    public int Tokens { get; private set; }

    /// <summary>Takes the next token; gives what of the text is certain, and the stop string that ended it.</summary>
    /// <param name="token">The token.</param>
    /// <param name="reason">Why it is the last; null where it may not be.</param>
    public (string Text, string? Stop) Push(int token, FinishReason? reason)
    {
        // The last token is the place for what is left of a character that its bytes do not complete.
        var piece = reason is FinishReason.Stop ? "" : _characters.Push(token);
        piece += reason is null ? "" : _characters.Flush();
        var (text, stop) = ++Tokens >= _minTokens ? _stops.Push(piece) : (piece, null);
        return (reason is not null && stop is null ? text + _stops.Flush() : text, stop);
    }
}
