using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Octet.Inference.Grammars;

/// <summary>Makes terms, and knows those that were made: equal ones are the same object. Not thread-safe.</summary>
/// <param name="longestToken">Bytes of the longest token: what <see cref="Term.Reduce"/> keeps.</param>
internal sealed class TermTable(int longestToken)
{
    private readonly HashSet<Term> _known = new(PartsComparer.Instance);
    private readonly Dictionary<Term, Term> _derived = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Term, (Term Term, bool IsCut)> _reduced = new(ReferenceEqualityComparer.Instance);
    private int _depth;
    private int _work;
    private bool _isCut;

    /// <summary>The most derivatives of single terms for one mask, or one byte of a text: some tenths of a second.</summary>
    public const int MostWork = 2_000_000;

    /// <summary>Bytes of the longest token.</summary>
    public int LongestToken => longestToken;

    /// <summary>Terms it knows.</summary>
    public int Count => _known.Count + _reduced.Count;

    /// <summary>Begins to count work anew.</summary>
    public void BeginWork() => _work = 0;

    /// <summary>Forgets all of them.</summary>
    public void Clear()
    {
        _known.Clear();
        _reduced.Clear();
    }

    /// <summary>The known term that is made of the same parts.</summary>
    public Term Intern(Term term)
    {
        if (_known.TryGetValue(term, out var known))
        {
            return known;
        }

        _known.Add(term);
        return term;
    }

    /// <summary>What may follow behind a byte.</summary>
    public Term Derive(Term term, byte value)
    {
        // NOTE: alternatives that hold the same part would double the work with each level; each choice is derived once for a byte.
        if (_depth == 0)
        {
            _derived.Clear();
        }

        if (term is not ChoiceTerm)
        {
            return Guarded(term, value);
        }

        if (!_derived.TryGetValue(term, out var next))
        {
            next = Guarded(term, value);
            _derived.Add(term, next);
        }

        return next;
    }

    /// <summary>One after the other, with the first in front: what follows it is never spread over longer sequences.</summary>
    public Term Sequence(Term head, Term tail)
    {
        switch (head)
        {
            case NothingTerm:
                return head;
            case EmptyTerm:
                return tail;
            case SequenceTerm sequence:
                return Sequence(sequence.Head, Sequence(sequence.Tail, tail));
        }

        if (tail is EmptyTerm)
        {
            return head;
        }

        var isEndless = head.MinLength == Term.Infinite || tail.MinLength == Term.Infinite;
        return isEndless ? NothingTerm.Instance : Intern(new SequenceTerm(head, tail));
    }

    /// <summary>One of several; those that begin with the same term have it once.</summary>
    public Term Choice(IReadOnlyList<Term> alternatives)
    {
        if (alternatives.Count == 1)
        {
            return alternatives[0];
        }

        var all = new List<Term>();
        var seen = new HashSet<Term>(ReferenceEqualityComparer.Instance);
        foreach (var term in alternatives)
        {
            foreach (var single in term is ChoiceTerm choice ? choice.Alternatives : [term])
            {
                if (single is not NothingTerm && seen.Add(single))
                {
                    all.Add(single);
                }
            }
        }

        return JoinHeads(all) switch
        {
            [] => NothingTerm.Instance,
            [var single] => single,
            var several => Intern(new ChoiceTerm([.. several])),
        };
    }

    /// <summary>The same several times.</summary>
    public Term Repeat(Term item, int min, int max) => max == 0 ? EmptyTerm.Instance : Intern(new RepeatTerm(item, min, max));

    /// <summary>See <see cref="Term.Reduce"/>.</summary>
    public Term Reduce(Term term)
    {
        // NOTE: the tails of a deeply nested text, from the innermost: they are as many as its brackets, and would outgrow the stack.
        var tails = new Stack<Term>();
        for (var part = term; part is SequenceTerm { Tail: var tail } && !_reduced.ContainsKey(tail); part = tail)
        {
            tails.Push(tail);
        }

        while (tails.TryPop(out var tail))
        {
            ReduceOne(tail);
        }

        return ReduceOne(term);
    }

    /// <summary>As <see cref="Reduce(Term)"/>, and whether a least count was cut, so that lengths are less than the term's own.</summary>
    public Term Reduce(Term term, out bool isCut)
    {
        _isCut = false;
        var reduced = Reduce(term);
        isCut = _isCut;
        return reduced;
    }

    /// <summary>Told in <see cref="Term.Reduce"/> whether a least count was cut.</summary>
    public void NoteCut(bool isCut) => _isCut |= isCut;

    private Term ReduceOne(Term term)
    {
        if (!_reduced.TryGetValue(term, out var reduced))
        {
            var before = _isCut;
            _isCut = false;
            reduced = (term.Reduce(this), _isCut);
            _isCut |= before;
            _reduced.Add(term, reduced);
        }

        _isCut |= reduced.IsCut;
        return reduced.Term;
    }

    private Term Guarded(Term term, byte value)
    {
        // Terms of a schema nest as deep as it has properties, which is bounded; this bounds what no schema may reach.
        RuntimeHelpers.EnsureSufficientExecutionStack();
        if (++_work > MostWork)
        {
            throw new InvalidOperationException(
                "the grammar has too many alternatives that are all possible at this place of the text; let them begin with what tells them apart");
        }

        _depth++;
        try
        {
            return term.Derive(value, this);
        }
        finally
        {
            _depth--;
        }
    }

    private List<Term> JoinHeads(List<Term> all)
    {
        var joined = new List<Term>(all.Count);
        var places = new Dictionary<Term, int>(ReferenceEqualityComparer.Instance);
        foreach (var term in all)
        {
            if (term is not SequenceTerm sequence)
            {
                joined.Add(term);
            }
            else if (places.TryGetValue(sequence.Head, out var place))
            {
                joined[place] = Sequence(sequence.Head, Choice([((SequenceTerm)joined[place]).Tail, sequence.Tail]));
            }
            else
            {
                places.Add(sequence.Head, joined.Count);
                joined.Add(term);
            }
        }

        return joined;
    }

    private sealed class PartsComparer : IEqualityComparer<Term>
    {
        public static PartsComparer Instance { get; } = new();

        public bool Equals(Term? x, Term? y) => ReferenceEquals(x, y) || (x is not null && y is not null && x.HasPartsOf(y));

        public int GetHashCode([DisallowNull] Term term) => term.HashOfParts();
    }
}
