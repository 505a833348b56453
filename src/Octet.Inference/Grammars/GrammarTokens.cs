using Octet.Inference.Engine;

namespace Octet.Inference.Grammars;

/// <summary>
/// The tokens that a grammar allows to follow a continuation: a pure function of it. The states of the last continuation are kept, so that
/// one that continues it, or goes back in it, is not read from its beginning.
/// </summary>
/// <param name="matcher">Reads the continuations.</param>
/// <param name="maxTokens">The most tokens of a continuation; null: no limit that the text should be complete within.</param>
internal sealed class GrammarTokens(GrammarMatcher matcher, int? maxTokens)
{
    private readonly Lock _lock = new();
    private readonly List<int> _tokens = [];

    // [i]: behind i tokens.
    private readonly List<GrammarState> _states = [matcher.State];

    /// <summary>See <see cref="AllowedTokens"/>.</summary>
    public void Allow(ReadOnlySpan<int> continuation, Span<uint> mask)
    {
        lock (_lock)
        {
            Read(continuation);
            if (maxTokens is { } limit)
            {
                matcher.FillMask(mask, limit - continuation.Length);
            }
            else
            {
                matcher.FillMask(mask);
            }
        }
    }

    private void Read(ReadOnlySpan<int> continuation)
    {
        var known = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_tokens).CommonPrefixLength(continuation);
        _tokens.RemoveRange(known, _tokens.Count - known);
        _states.RemoveRange(known + 1, _states.Count - known - 1);
        matcher.State = _states[known];
        foreach (var token in continuation[known..])
        {
            if (!matcher.Accept(token))
            {
                throw new InvalidOperationException($"token {token} at position {_tokens.Count} of the continuation is not of its grammar");
            }

            _tokens.Add(token);
            _states.Add(matcher.State);
        }
    }
}
