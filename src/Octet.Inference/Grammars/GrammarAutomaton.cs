namespace Octet.Inference.Grammars;

/// <summary>
/// A pushdown automaton over bytes for one grammar and vocabulary, whose states are found out as texts reach them, and shared by all texts.
/// Thread-safe: what is known is read without a lock.
/// </summary>
internal sealed class GrammarAutomaton
{
    /// <summary>Bytes, about, after which everything found out is forgotten and begun anew.</summary>
    public const int MostBytes = 32 << 20;

    // With their places in tables, about.
    private const int StateSize = 200;
    private const int TermSize = 150;

    private readonly Lock _lock = new();
    private readonly TermTable _terms;
    private readonly Dictionary<Term, GrammarState> _states = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<GrammarState> _used = [];
    private readonly int _mostBytes;
    private long _bytes;
    private int _known;
    private bool _isWalking;

    /// <param name="root">The grammar.</param>
    /// <param name="trie">The vocabulary.</param>
    /// <param name="mostBytes">See <see cref="MostBytes"/>.</param>
    public GrammarAutomaton(Term root, TokenTrie trie, int mostBytes = MostBytes)
    {
        (Trie, _mostBytes) = (trie, mostBytes);
        _terms = new TermTable(trie.LongestToken);
        Start = StateOf(root);
    }

    /// <summary>The vocabulary.</summary>
    public TokenTrie Trie { get; }

    /// <summary>Where every text begins.</summary>
    public GrammarState Start { get; }

    /// <summary>Bytes, about, of what is remembered.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Where a token leads; null: it may not follow.</summary>
    public GrammarState? Follow(GrammarState state, int token)
    {
        var bytes = Trie.Bytes(token);
        if (bytes.IsEmpty || (Trie.Markers.AsSpan().Contains(token) && !TokenWalk.AllowsMarker(state.Term, bytes)))
        {
            return null;
        }

        var next = state;
        foreach (var value in bytes)
        {
            next = next.Next(value);
            if (next is null)
            {
                return null;
            }
        }

        return next;
    }

    /// <summary>Where a byte leads that was not tried before; a state of <see cref="NothingTerm"/>: it may not follow.</summary>
    public GrammarState Follow(GrammarState state, byte value)
    {
        lock (_lock)
        {
            BoundMemory();
            if (!_isWalking)
            {
                _terms.BeginWork();
            }

            var next = StateOf(_terms.Derive(state.Term, value));
            Note(state, state.Remember(value, next));
            return next;
        }
    }

    /// <summary>The tokens that may follow.</summary>
    public TokenMask MaskOf(GrammarState state)
    {
        var reduced = ReducedOf(state);
        if (reduced.Mask is { } known)
        {
            return known;
        }

        lock (_lock)
        {
            // NOTE: the walk may forget what is known, this state's mask among it; so it is written last.
            var mask = Walk(reduced, Term.Infinite);
            reduced.Mask = mask;
            Note(reduced, mask.Size);
            return mask;
        }
    }

    /// <summary>The tokens behind which the distance is at most as given.</summary>
    public TokenMask MaskWithin(GrammarState state, int farthest)
    {
        lock (_lock)
        {
            var exact = state.IsCut ? state : ReducedOf(state);
            if (!exact.MasksWithin.TryGetValue(farthest, out var mask))
            {
                mask = Walk(exact, farthest);
                exact.MasksWithin[farthest] = mask;
                Note(exact, mask.Size + StateSize);
            }

            return mask;
        }
    }

    /// <summary>The largest distance behind one of the tokens that may follow, or more; null: not known without trying each.</summary>
    public int? FarthestOf(GrammarState state)
    {
        var mask = MaskOf(state);
        return state.IsCut ? null : mask.Farthest;
    }

    /// <summary>The state of a part of what may follow.</summary>
    public GrammarState StateOf(IReadOnlyList<Term> alternatives)
    {
        lock (_lock)
        {
            return StateOf(_terms.Choice(alternatives));
        }
    }

    /// <summary>One part behind another.</summary>
    public Term Sequence(Term head, Term tail)
    {
        lock (_lock)
        {
            return _terms.Sequence(head, tail);
        }
    }

    private GrammarState ReducedOf(GrammarState state)
    {
        if (state.Reduced is { } known)
        {
            return known;
        }

        lock (_lock)
        {
            BoundMemory();
            var reduced = StateOf(_terms.Reduce(state.Term, out var isCut));
            (reduced.Reduced, state.IsCut, state.Reduced) = (reduced, isCut, reduced);
            Note(state, 0);
            Note(reduced, 0);
            return reduced;
        }
    }

    private TokenMask Walk(GrammarState state, int farthest)
    {
        _terms.BeginWork();
        _isWalking = true;
        try
        {
            return TokenWalk.Mask(Trie, this, state, farthest);
        }
        finally
        {
            _isWalking = false;
        }
    }

    private GrammarState StateOf(Term term)
    {
        if (!_states.TryGetValue(term, out var state))
        {
            state = new GrammarState(this, term);
            _states.Add(term, state);
            _bytes += StateSize;
        }

        return state;
    }

    private void Note(GrammarState state, int size)
    {
        _used.Add(state);
        _bytes += size + Math.Max(_terms.Count - _known, 0) * TermSize;
        _known = _terms.Count;
    }

    // States that texts hold stay valid, and are found out again from there.
    private void BoundMemory()
    {
        if (_bytes <= _mostBytes)
        {
            return;
        }

        foreach (var state in _used)
        {
            state.Forget();
        }

        _used.Clear();
        _states.Clear();
        _terms.Clear();
        _known = 0;
        _bytes = 0;
    }
}
