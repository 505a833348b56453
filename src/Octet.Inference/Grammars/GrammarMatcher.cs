using System.Collections.Frozen;

namespace Octet.Inference.Grammars;

/// <summary>Where one text stands.</summary>
/// <param name="automaton">Of its grammar and vocabulary.</param>
/// <param name="endTokens">What may follow where it is complete.</param>
internal sealed class GrammarMatcher(GrammarAutomaton automaton, FrozenSet<int> endTokens) : IGrammarMatcher
{
    public bool IsComplete => State.IsComplete;

    public int Distance => State.Distance;

    /// <summary>Where it stands; states are immutable, so going back is to set it.</summary>
    public GrammarState State { get; set; } = automaton.Start;

    public bool Accept(int token)
    {
        if (endTokens.Contains(token))
        {
            return State.IsComplete;
        }

        if (automaton.Follow(State, token) is not { } next)
        {
            return false;
        }

        State = next;
        return true;
    }

    public void FillMask(Span<uint> mask)
    {
        automaton.MaskOf(State).CopyTo(mask);
        SetEnds(mask);
    }

    public void FillMask(Span<uint> mask, int remaining)
    {
        // Behind the next token, this many bytes, each a token, and the end token still fit.
        var farthest = remaining - 2;
        if (automaton.FarthestOf(State) is { } all && all <= farthest)
        {
            FillMask(mask);
            return;
        }

        automaton.MaskWithin(State, farthest).CopyTo(mask);
        SetEnds(mask);
        if (!mask.ContainsAnyExcept(0u))
        {
            // It does not fit by bytes, but tokens may have several: always nearer to the end.
            automaton.MaskWithin(State, State.Distance - 1).CopyTo(mask);
            SetEnds(mask);
        }

        if (!mask.ContainsAnyExcept(0u))
        {
            FillMask(mask);
        }
    }

    // One that also is the text of something ends the text all the same.
    private void SetEnds(Span<uint> mask)
    {
        foreach (var token in endTokens)
        {
            if (token / 32 < mask.Length)
            {
                var bit = 1u << token;
                mask[token / 32] = State.IsComplete ? mask[token / 32] | bit : mask[token / 32] & ~bit;
            }
        }
    }
}
