namespace Octet.Inference.Grammars;

/// <summary>
/// What may follow at some place of a text: a language over bytes, immutable. Behind a byte follows its derivative, again a term
/// (Brzozowski, "Derivatives of Regular Expressions", 1964; with references by name, of context-free languages: Might, Darais and Spiewak,
/// "Parsing with Derivatives", 2011). A sequence of terms is the stack of a pushdown automaton, shared by all texts that have the same.
/// </summary>
internal abstract class Term
{
    /// <summary>The length of what never ends.</summary>
    public const int Infinite = int.MaxValue;

    private int _minLength = -1;

    /// <summary>The fewest bytes of it; <see cref="Infinite"/>: there is no such text. Known once its references are.</summary>
    public int MinLength
    {
        get
        {
            if (_minLength < 0)
            {
                _minLength = Measure(static term => term.MinLength);
            }

            return _minLength;
        }
    }

    /// <summary>Whether it has the empty text.</summary>
    public abstract bool IsNullable { get; }

    /// <summary>The bytes it may begin with, and perhaps others.</summary>
    public abstract ByteSet First { get; }

    /// <summary>What may follow behind a byte; <see cref="NothingTerm"/> where the byte may not.</summary>
    public abstract Term Derive(byte value, TermTable table);

    /// <summary>The fewest bytes, from those of its parts.</summary>
    public abstract int Measure(Func<Term, int> part);

    /// <summary>Visits the parts that it may begin with.</summary>
    public virtual void VisitLeading(Action<Term> visit)
    {
    }

    /// <summary>
    /// A term that allows the same within the next bytes, as many as a token has at most, and that is the same for many: counts that are
    /// larger than that are cut, and what the used keys of an object are is forgotten.
    /// </summary>
    public virtual Term Reduce(TermTable table) => this;

    /// <summary>Whether it is made of the same parts; parts are compared by reference.</summary>
    public virtual bool HasPartsOf(Term other) => ReferenceEquals(this, other);

    /// <summary>Of its parts.</summary>
    public virtual int HashOfParts() => base.GetHashCode();

    /// <summary>The sum of lengths.</summary>
    public static int Sum(int x, int y) => (int)Math.Min((long)x + y, Infinite);
}

/// <summary>No text at all.</summary>
internal sealed class NothingTerm : Term
{
    public static NothingTerm Instance { get; } = new();

    public override bool IsNullable => false;

    public override ByteSet First => default;

    public override Term Derive(byte value, TermTable table) => this;

    public override int Measure(Func<Term, int> part) => Infinite;
}

/// <summary>The empty text.</summary>
internal sealed class EmptyTerm : Term
{
    public static EmptyTerm Instance { get; } = new();

    public override bool IsNullable => true;

    public override ByteSet First => default;

    public override Term Derive(byte value, TermTable table) => NothingTerm.Instance;

    public override int Measure(Func<Term, int> part) => 0;
}

/// <summary>One byte of a set.</summary>
internal sealed class ByteTerm(ByteSet set) : Term
{
    public override bool IsNullable => false;

    public override ByteSet First => set;

    public override Term Derive(byte value, TermTable table) => set.Contains(value) ? EmptyTerm.Instance : NothingTerm.Instance;

    public override int Measure(Func<Term, int> part) => 1;
}

/// <summary>Certain bytes, at least one.</summary>
/// <param name="bytes">Holds them.</param>
/// <param name="at">Where they begin.</param>
/// <param name="hasMarkers">
/// Whether added tokens of the vocabulary, such as <c>&lt;tool_call&gt;</c>, may stand for their text in it.
/// </param>
internal sealed class LiteralTerm(byte[] bytes, int at, bool hasMarkers) : Term
{
    public override bool IsNullable => false;

    public override ByteSet First => ByteSet.Of(bytes[at]);

    public override Term Derive(byte value, TermTable table) =>
        bytes[at] != value ? NothingTerm.Instance
        : at + 1 == bytes.Length ? EmptyTerm.Instance
        : table.Intern(new LiteralTerm(bytes, at + 1, hasMarkers));

    public override int Measure(Func<Term, int> part) => bytes.Length - at;

    public override bool HasPartsOf(Term other) => other is LiteralTerm literal && literal.IsAt(bytes, at);

    public override int HashOfParts() => HashCode.Combine(bytes, at);

    /// <summary>Whether an added token may follow.</summary>
    public bool BeginsWith(ReadOnlySpan<byte> marker) => hasMarkers && bytes.AsSpan(at).StartsWith(marker);

    private bool IsAt(byte[] others, int place) => ReferenceEquals(bytes, others) && at == place;
}

/// <summary>One after the other.</summary>
/// <param name="head">The first.</param>
/// <param name="tail">The second, in which most terms of a longer sequence are.</param>
internal sealed class SequenceTerm(Term head, Term tail) : Term
{
    public Term Head => head;

    public Term Tail => tail;

    public override bool IsNullable { get; } = head.IsNullable && tail.IsNullable;

    public override ByteSet First => head.IsNullable ? head.First | tail.First : head.First;

    public override Term Derive(byte value, TermTable table)
    {
        var next = table.Sequence(table.Derive(head, value), tail);
        return head.IsNullable ? table.Choice([next, table.Derive(tail, value)]) : next;
    }

    public override int Measure(Func<Term, int> part) => Sum(part(head), part(tail));

    public override void VisitLeading(Action<Term> visit)
    {
        visit(head);
        if (head.IsNullable)
        {
            visit(tail);
        }
    }

    public override Term Reduce(TermTable table) => table.Sequence(table.Reduce(head), table.Reduce(tail));

    public override bool HasPartsOf(Term other) => other is SequenceTerm sequence && sequence.Head == head && sequence.Tail == tail;

    public override int HashOfParts() => HashCode.Combine(head, tail);
}

/// <summary>One of several.</summary>
internal sealed class ChoiceTerm(Term[] alternatives) : Term
{
    public Term[] Alternatives => alternatives;

    public override bool IsNullable { get; } = Array.Exists(alternatives, term => term.IsNullable);

    public override ByteSet First
    {
        get
        {
            ByteSet all = default;
            foreach (var term in alternatives)
            {
                all |= term.First;
            }

            return all;
        }
    }

    public override Term Derive(byte value, TermTable table)
    {
        var derivatives = new List<Term>();
        foreach (var term in alternatives)
        {
            if (table.Derive(term, value) is var next and not NothingTerm)
            {
                derivatives.Add(next);
            }
        }

        return table.Choice(derivatives);
    }

    public override int Measure(Func<Term, int> part)
    {
        var least = Infinite;
        foreach (var term in alternatives)
        {
            least = Math.Min(least, part(term));
        }

        return least;
    }

    public override void VisitLeading(Action<Term> visit) => Array.ForEach(alternatives, visit);

    public override Term Reduce(TermTable table) => table.Choice([.. alternatives.Select(table.Reduce)]);

    public override bool HasPartsOf(Term other) => other is ChoiceTerm choice && alternatives.AsSpan().SequenceEqual(choice.Alternatives);

    public override int HashOfParts()
    {
        var hash = default(HashCode);
        foreach (var term in alternatives)
        {
            hash.Add(term);
        }

        return hash.ToHashCode();
    }
}

/// <summary>The same several times.</summary>
/// <param name="item">What; it does not have the empty text.</param>
/// <param name="min">The fewest times.</param>
/// <param name="max">The most times, at least 1; <see cref="Term.Infinite"/>: no limit.</param>
internal sealed class RepeatTerm(Term item, int min, int max) : Term
{
    public Term Item => item;

    public int Min => min;

    public int Max => max;

    public override bool IsNullable => min == 0;

    public override ByteSet First => item.First;

    public override Term Derive(byte value, TermTable table) =>
        table.Sequence(table.Derive(item, value), table.Repeat(item, Math.Max(min - 1, 0), max == Infinite ? max : max - 1));

    public override int Measure(Func<Term, int> part) => min == 0 ? 0 : (int)Math.Min((long)part(item) * min, Infinite);

    public override void VisitLeading(Action<Term> visit) => visit(item);

    public override Term Reduce(TermTable table)
    {
        table.NoteCut(min > table.LongestToken);
        return table.Repeat(item, Math.Min(min, table.LongestToken + 1), max > table.LongestToken ? Infinite : max);
    }

    public override bool HasPartsOf(Term other) =>
        other is RepeatTerm repeat && repeat.Item == item && repeat.Min == min && repeat.Max == max;

    public override int HashOfParts() => HashCode.Combine(item, min, max);
}

/// <summary>A term with a name, so that terms can hold themselves.</summary>
/// <param name="path">Its place in the schema.</param>
internal sealed class Rule(string path)
{
    /// <summary>Its place in the schema.</summary>
    public string Path => path;

    /// <summary>What it stands for, once known; never the empty text.</summary>
    public Term Body { get; set; } = NothingTerm.Instance;

    /// <summary>The fewest bytes of it, once known.</summary>
    public int? MinLength { get; set; }
}

/// <summary>What a rule stands for.</summary>
internal sealed class ReferenceTerm(Rule rule) : Term
{
    public Rule Rule => rule;

    public override bool IsNullable => false;

    public override ByteSet First => rule.Body.First;

    public override Term Derive(byte value, TermTable table) => table.Derive(rule.Body, value);

    public override int Measure(Func<Term, int> part) =>
        rule.MinLength ?? throw new InvalidOperationException($"the length of {rule.Path} is asked for before it is known");

    public override void VisitLeading(Action<Term> visit) => visit(rule.Body);
}
