using System.Collections.Concurrent;

namespace Octet.Inference.Grammars;

/// <summary>
/// The tokens that may follow within a string, found once for a vocabulary: those that stay within it, by how many characters they begin,
/// and those that close it, by what they have behind the quote. So a state within a string need only try the latter.
/// </summary>
internal sealed class StringTokens
{
    private readonly int _words;
    private readonly (int Token, int Characters)[] _inside;
    private readonly Dictionary<int, (int Characters, int Quote)> _closing = [];
    private readonly ConcurrentDictionary<int, uint[]> _masks = new();

    /// <param name="trie">The vocabulary.</param>
    /// <param name="character">What strings consist of.</param>
    public StringTokens(TokenTrie trie, Term character)
    {
        _words = (trie.Count + 31) / 32;
        var inside = trie.Plain(1, Term.Infinite).Select(token => (token, PlainText.Characters(trie.Bytes(token)))).ToList();
        Read(trie, character, inside);
        _inside = [.. inside.OrderBy(token => token.Item2)];
        var rests = new byte[trie.Count][];
        foreach (var (token, (_, quote)) in _closing)
        {
            rests[token] = trie.Bytes(token)[(quote + 1)..].ToArray();
        }

        Closing = [.. _closing.Keys.Where(token => rests[token].Length == 0)];
        var longer = _closing.Keys.Where(token => rests[token].Length > 0).ToArray();
        Array.Sort(longer, (x, y) => rests[x].AsSpan().SequenceCompareTo(rests[y]));
        Rests = new TrieNodes(rests, longer);
    }

    /// <summary>The most bytes that complete a character of which a token has the beginning.</summary>
    public int Farthest { get; private set; }

    /// <summary>The tokens that end with the quote that closes the string.</summary>
    public int[] Closing { get; }

    /// <summary>The others that close the string, by their bytes behind the quote.</summary>
    public TrieNodes Rests { get; }

    /// <summary>The tokens that stay within a string and begin at most so many characters; not to be written to.</summary>
    public uint[] Inside(int longest) => _masks.GetOrAdd(Math.Min(longest, _inside.Length == 0 ? 0 : _inside[^1].Characters), limit =>
    {
        var mask = new uint[_words];
        foreach (var (token, _) in _inside.TakeWhile(token => token.Characters <= limit))
        {
            mask[token / 32] |= 1u << token;
        }

        return mask;
    });

    /// <summary>How many characters a token that closes the string has before the quote.</summary>
    public int CharactersBefore(int token) => _closing[token].Characters;

    /// <summary>How many bytes it has before the quote.</summary>
    public int BytesBefore(int token) => _closing[token].Quote;

    private void Read(TokenTrie trie, Term character, List<(int Token, int Characters)> inside)
    {
        // More characters than a token has, so that what is left of them tells how many there were.
        var most = trie.LongestToken + 1;
        var (nodes, places) = (trie.Special, new (GrammarState? State, int Quote, int Characters)[most]);
        places[0].State = new GrammarAutomaton(new RepeatTerm(character, 0, most), trie).Start;
        for (var i = 0; i < nodes.Labels.Length;)
        {
            var depth = nodes.Depths[i];
            var (before, place) = (places[depth - 1], places[depth - 1]);
            if (before.State is { } state)
            {
                place = nodes.Labels[i] == (byte)'"' && state.IsComplete ? (null, depth - 1, most - Left(state.Term))
                    : state.Next(nodes.Labels[i]) is { } next ? (next, 0, most - Left(next.Term))
                    : (null, -1, 0);
            }

            if (place is (null, -1, _))
            {
                i = nodes.Ends[i];
                continue;
            }

            places[depth] = place;
            for (var token = nodes.Tokens[i]; token >= 0; token = nodes.SameBytes.GetValueOrDefault(token, -1))
            {
                Note(token, place, inside);
            }

            i++;
        }
    }

    private void Note(int token, (GrammarState? State, int Quote, int Characters) place, List<(int Token, int Characters)> inside)
    {
        if (place.State is { } state)
        {
            inside.Add((token, place.Characters));
            Farthest = Math.Max(Farthest, state.Distance);
        }
        else
        {
            _closing.Add(token, (place.Characters, place.Quote));
        }
    }

    // The repetition stands behind the rest of a character.
    private static int Left(Term term)
    {
        while (term is SequenceTerm sequence)
        {
            term = sequence.Tail;
        }

        return ((RepeatTerm)term).Max;
    }
}
