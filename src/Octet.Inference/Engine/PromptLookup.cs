using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>
/// Speculation without a draft model: proposes that what followed the last few tokens earlier in the text follows them again. A pure
/// function of the text and of how its proposals fared.
/// </summary>
/// <remarks>Source of the idea: Saxena, "Prompt Lookup Decoding", 2023.</remarks>
internal static class PromptLookup
{
    private const int LongestMatch = 3;
    private const int ShortestMatch = 2;
    private const int Window = 8192;

    // A text that accepts fewer than one in four of its last sixteen proposals proposes nothing for its next 32 tokens.
    private const int JudgedProposals = 16;
    private const int LeastAccepted = 4;
    private const int RestTokens = 32;

    /// <summary>Fills the proposals of a sequence, at most <paramref name="most"/>; gives how many there are.</summary>
    public static int Propose(Sequence sequence, int most)
    {
        var proposals = sequence.Proposals;
        proposals.Clear();
        if (most < 1 || sequence.Tokens.Count < sequence.ProposesFrom)
        {
            return 0;
        }

        var text = CollectionsMarshal.AsSpan(sequence.Tokens);
        text = text[Math.Max(0, text.Length - Window)..];
        for (var length = LongestMatch; length >= ShortestMatch && proposals.Count == 0; length--)
        {
            if (text.Length > length)
            {
                // The latest earlier place: not the end itself.
                var found = text[..^1].LastIndexOf(text[^length..]);
                if (found >= 0)
                {
                    proposals.AddRange(text.Slice(found + length, Math.Min(most, text.Length - found - length)));
                }
            }
        }

        return proposals.Count;
    }

    /// <summary>Takes note of how many of a sequence's proposals were right.</summary>
    public static void Judge(Sequence sequence, int proposed, int accepted)
    {
        sequence.Proposed += proposed;
        sequence.Accepted += accepted;
        if (sequence.Proposed >= JudgedProposals)
        {
            sequence.ProposesFrom = sequence.Accepted * JudgedProposals < LeastAccepted * sequence.Proposed ? sequence.Tokens.Count + RestTokens : 0;
            (sequence.Proposed, sequence.Accepted) = (0, 0);
        }
    }
}
