namespace Octet.Inference.Grammars;

/// <summary>
/// Finds the tokens that may follow at a state, by a walk over the vocabulary's trie that turns back at the first byte that may not.
/// </summary>
/// <remarks>
/// Within a string most of the vocabulary may follow. Which tokens stay within it is known beforehand (<see cref="StringTokens"/>), so that
/// only those that close it are tried, from the quote on.
/// </remarks>
internal static class TokenWalk
{
    /// <summary>The tokens that may follow, and behind which the distance is at most as given.</summary>
    public static TokenMask Mask(TokenTrie trie, GrammarAutomaton automaton, GrammarState state, int farthest = Term.Infinite)
    {
        var (texts, others) = (new List<Term>(), new List<Term>());
        Split(automaton, state.Term, texts, others);
        var found = new Found(trie, automaton, farthest);
        texts.ForEach(found.AddText);
        if (texts.Count == 0)
        {
            found.Walk(trie.All, state);
        }
        else if (others.Count > 0)
        {
            found.Walk(trie.All, automaton.StateOf(others));
        }

        found.AddMarkers(state);
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

    private sealed class Found(TokenTrie trie, GrammarAutomaton automaton, int farthest)
    {
        private readonly List<int> _tokens = [];
        private uint[]? _shared;
        private bool _isOwn;
        private int _farthest;

        public TokenMask Build() => new(_shared, _tokens, (trie.Count + 31) / 32, _farthest);

        public void Walk(TrieNodes nodes, GrammarState start, Func<int, bool>? isAllowed = null)
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
                for (var token = tokens[i]; token >= 0; token = nodes.SameBytes.GetValueOrDefault(token, -1))
                {
                    Add(token, next.Distance, isAllowed);
                }

                i++;
            }
        }

        /// <summary>Adds the tokens that may follow within a string.</summary>
        public void AddText(Term term)
        {
            var head = HeadOf(term);
            var tokens = head is FreeKeyTerm ? trie.Keys
                : head is RepeatTerm { Item: var item } && item == JsonTerms.Character ? trie.Strings : null;

            // A key may become one that is used already, and so must have a character more.
            if (tokens is null || Term.Sum(term.MinLength, tokens.Farthest + 1) > farthest)
            {
                Walk(trie.Special, automaton.StateOf([term]));
                AddPlain(term);
                return;
            }

            AddShared(tokens.Inside(head is RepeatTerm { Max: var max } ? max : Term.Infinite));
            _farthest = Math.Max(_farthest, Term.Sum(term.MinLength, tokens.Farthest + 1));
            AddClosing(term, head, tokens);
        }

        public void AddMarkers(GrammarState state)
        {
            foreach (var marker in trie.Markers)
            {
                if (automaton.Follow(state, marker) is { } next)
                {
                    Add(marker, next.Distance);
                }
            }
        }

        private void AddClosing(Term term, Term head, StringTokens tokens)
        {
            var tail = term is SequenceTerm sequence ? sequence.Tail : EmptyTerm.Instance;
            var closing = head is FreeKeyTerm key ? automaton.Sequence(key.Unused, tail) : tail;
            if (automaton.StateOf([closing]).Next((byte)'"') is not { } closed)
            {
                return;
            }

            bool IsAllowed(int token) => head is RepeatTerm repeat
                ? tokens.CharactersBefore(token) is var characters && characters >= repeat.Min && characters <= repeat.Max
                : !((FreeKeyTerm)head).IsUsed(trie.Bytes(token)[..tokens.BytesBefore(token)]);
            foreach (var token in tokens.Closing)
            {
                Add(token, closed.Distance, IsAllowed);
            }

            Walk(tokens.Rests, closed, IsAllowed);
        }

        // By their characters, where not all that stay within the string keep to the distance, or which do depends on what they are.
        private void AddPlain(Term term)
        {
            var head = HeadOf(term);
            var distance = Term.Sum(term.MinLength, head is FreeKeyTerm ? 1 : 0);
            var limit = head is RepeatTerm repeat ? repeat.Max : Term.Infinite;
            if (term is SequenceTerm { Tail: var tail } && head is RepeatTerm && IsText(HeadOf(tail)))
            {
                limit = Term.Sum(limit, ((RepeatTerm)HeadOf(tail)).Max);
            }

            if (distance <= farthest)
            {
                AddShared(trie.PlainMask(limit));
                _farthest = Math.Max(_farthest, distance);
            }
            else if (head is FreeKeyTerm { MustGoOn: true })
            {
                AddSingleBytes(term);
            }
            else if (head is RepeatTerm { Min: var min } && distance - min <= farthest)
            {
                // Each character brings a string that is too short nearer to its end.
                _tokens.AddRange(trie.Plain(distance - farthest, limit));
                _farthest = Math.Max(_farthest, farthest);
            }
        }

        private void AddSingleBytes(Term term)
        {
            var state = automaton.StateOf([term]);
            for (var i = 0; i < trie.All.Labels.Length; i = trie.All.Ends[i])
            {
                if (trie.All.Tokens[i] >= 0 && state.Next(trie.All.Labels[i]) is { } next)
                {
                    Add(trie.All.Tokens[i], next.Distance);
                }
            }
        }

        private void AddShared(uint[] mask)
        {
            if (_shared is null)
            {
                _shared = mask;
                return;
            }

            if (!_isOwn && _shared != mask)
            {
                (_shared, _isOwn) = ((uint[])_shared.Clone(), true);
            }

            for (var i = 0; i < mask.Length && _isOwn; i++)
            {
                _shared[i] |= mask[i];
            }
        }

        private void Add(int token, int distance, Func<int, bool>? isAllowed = null)
        {
            if (distance <= farthest && (isAllowed is null || isAllowed(token)))
            {
                _farthest = Math.Max(_farthest, distance);
                _tokens.Add(token);
            }
        }
    }
}
