namespace Octet.Inference.Grammars;

/// <summary>Finds the tokens that may follow at a state, by a walk over the vocabulary's trie that turns back at the first byte that may not.</summary>
/// <remarks>
/// Within a string most of the vocabulary may follow: the plain tokens (<see cref="PlainText"/>). Those are
/// known beforehand, by their number of characters; only the others are walked.
/// </remarks>
internal static class TokenWalk
{
    /// <summary>The tokens that may follow, and behind which the distance is at most as given.</summary>
    public static TokenMask Mask(TokenTrie trie, GrammarAutomaton automaton, GrammarState state, int farthest = Term.Infinite)
    {
        var (texts, others) = (new List<Term>(), new List<Term>());
        Split(automaton, state.Term, texts, others);
        var found = new Found(trie, farthest);
        if (texts.Count == 0)
        {
            found.Walk(trie.All, state);
        }
        else
        {
            found.Walk(trie.Special, automaton.StateOf(texts));
            found.AddPlain(automaton, texts);
            if (others.Count > 0)
            {
                found.Walk(trie.All, automaton.StateOf(others));
            }
        }

        found.AddMarkers(automaton, state);
        return found.Build();
    }

    /// <summary>Whether a mark of the vocabulary may follow: only where a literal of the grammar has it.</summary>
    public static bool AllowsMarker(Term term, ReadOnlySpan<byte> marker)
    {
        switch (term)
        {
            case LiteralTerm literal:
                return literal.BeginsWith(marker);
            case RepeatTerm repeat:
                return AllowsMarker(repeat.Item, marker);
            case SequenceTerm sequence:
                return AllowsMarker(sequence.Head, marker) || (sequence.Head.IsNullable && AllowsMarker(sequence.Tail, marker));
            case ChoiceTerm choice:
                foreach (var alternative in choice.Alternatives)
                {
                    if (AllowsMarker(alternative, marker))
                    {
                        return true;
                    }
                }

                return false;
            default:
                return false;
        }
    }

    // Those that are within a string, between two characters, and all others.
    private static void Split(GrammarAutomaton automaton, Term term, List<Term> texts, List<Term> others)
    {
        if (term is ChoiceTerm choice)
        {
            Array.ForEach(choice.Alternatives, alternative => Split(automaton, alternative, texts, others));
            return;
        }

        if (term is SequenceTerm { Head: ChoiceTerm heads, Tail: var tail })
        {
            Array.ForEach(heads.Alternatives, head => Split(automaton, automaton.Sequence(head, tail), texts, others));
            return;
        }

        var isText = IsText(HeadOf(term)) || HeadOf(term) is FreeKeyTerm { IsAmidCharacter: false };
        (isText ? texts : others).Add(term);
    }

    private static bool IsText(Term head) =>
        head is RepeatTerm { Item: var item } && (item == JsonTerms.Character || item == JsonTerms.SingleCharacter);

    private static Term HeadOf(Term term) => term is SequenceTerm sequence ? sequence.Head : term;

    private sealed class Found(TokenTrie trie, int farthest)
    {
        private readonly List<int> _tokens = [];
        private uint[]? _plain;
        private int _farthest;

        public TokenMask Build() => new(_plain, _tokens, (trie.Count + 31) / 32, _farthest);

        public void Walk(TrieNodes nodes, GrammarState start)
        {
            var (labels, depths, tokens, ends) = (nodes.Labels, nodes.Depths, nodes.Tokens, nodes.Ends);
            var states = new GrammarState[trie.LongestToken + 1];
            states[0] = start;
            for (var i = 0; i < labels.Length;)
            {
                var depth = depths[i];
                if (states[depth - 1].Next(labels[i]) is not { } next)
                {
                    i = ends[i];
                    continue;
                }

                states[depth] = next;
                if (tokens[i] >= 0 && next.Distance <= farthest)
                {
                    Add(nodes, tokens[i], next.Distance);
                }

                i++;
            }
        }

        public void AddPlain(GrammarAutomaton automaton, List<Term> texts)
        {
            var longest = 0;
            foreach (var term in texts)
            {
                var head = HeadOf(term);

                // A key may become one that is used already, and so must have a character more.
                var distance = Term.Sum(term.MinLength, head is FreeKeyTerm ? 1 : 0);
                var limit = head is RepeatTerm repeat ? repeat.Max : Term.Infinite;
                if (term is SequenceTerm { Tail: var tail } && head is RepeatTerm && IsText(HeadOf(tail)))
                {
                    limit = Term.Sum(limit, ((RepeatTerm)HeadOf(tail)).Max);
                }

                if (distance <= farthest)
                {
                    longest = Math.Max(longest, limit);
                    _farthest = Math.Max(_farthest, distance);
                }
                else if (head is FreeKeyTerm { MustGoOn: true })
                {
                    AddSingleBytes(automaton, term);
                }
                else if (head is RepeatTerm { Min: var min } && distance - min <= farthest)
                {
                    // Each character brings a string that is too short nearer to its end.
                    _tokens.AddRange(trie.Plain(distance - farthest, limit));
                    _farthest = Math.Max(_farthest, farthest);
                }
            }

            _plain = longest > 0 ? trie.PlainMask(longest) : null;
        }

        public void AddMarkers(GrammarAutomaton automaton, GrammarState state)
        {
            foreach (var marker in trie.Markers)
            {
                if (automaton.Follow(state, marker) is { } next && next.Distance <= farthest)
                {
                    _tokens.Add(marker);
                    _farthest = Math.Max(_farthest, next.Distance);
                }
            }
        }

        private void AddSingleBytes(GrammarAutomaton automaton, Term term)
        {
            var state = automaton.StateOf([term]);
            for (var i = 0; i < trie.All.Labels.Length; i = trie.All.Ends[i])
            {
                if (trie.All.Tokens[i] >= 0 && state.Next(trie.All.Labels[i]) is { } next && next.Distance <= farthest)
                {
                    Add(trie.All, trie.All.Tokens[i], next.Distance);
                }
            }
        }

        private void Add(TrieNodes nodes, int token, int distance)
        {
            _farthest = Math.Max(_farthest, distance);
            _tokens.Add(token);
            while (nodes.SameBytes.TryGetValue(token, out token))
            {
                _tokens.Add(token);
            }
        }
    }
}
