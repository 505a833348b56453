namespace Octet.Inference.Grammars;

/// <summary>
/// A place in the texts of a grammar: what may follow, and where each byte leads, found out when first asked for. What is remembered may be
/// forgotten at any time; it is found out again.
/// </summary>
internal sealed class GrammarState(GrammarAutomaton automaton, Term term)
{
    private const int RowSize = 16;

    private readonly ByteSet _first = term.First;

    // [upper 4 bits of the byte][lower 4 bits]; the dead state: the byte may not follow.
    private GrammarState?[]?[]? _next;
    private GrammarState? _reduced;
    private TokenMask? _mask;
    private Dictionary<int, TokenMask>? _masksWithin;

    /// <summary>What may follow.</summary>
    public Term Term => term;

    /// <summary>The fewest bytes that complete the text.</summary>
    public int Distance => term.MinLength;

    /// <summary>Whether the text may end here.</summary>
    public bool IsComplete => term.IsNullable;

    /// <summary>The state that allows the same tokens, shared by all that do; null: not yet known.</summary>
    public GrammarState? Reduced { get => Volatile.Read(ref _reduced); set => Volatile.Write(ref _reduced, value); }

    /// <summary>Whether its distance, and of what follows it, may be more than those of <see cref="Reduced"/>.</summary>
    public bool IsCut { get; set; }

    /// <summary>The tokens that may follow; null: not yet known.</summary>
    public TokenMask? Mask { get => Volatile.Read(ref _mask); set => Volatile.Write(ref _mask, value); }

    /// <summary>Of the tokens that may follow those that keep to a distance; the automaton's alone, under its lock.</summary>
    public Dictionary<int, TokenMask> MasksWithin => _masksWithin ??= [];

    /// <summary>Where a byte leads; null: it may not follow.</summary>
    public GrammarState? Next(byte value)
    {
        if (!_first.Contains(value))
        {
            return null;
        }

        var next = Volatile.Read(ref _next) is { } rows && Volatile.Read(ref rows[value / RowSize]) is { } row
            ? Volatile.Read(ref row[value % RowSize])
            : null;
        next ??= automaton.Follow(this, value);
        return next.Term is NothingTerm ? null : next;
    }

    /// <summary>Remembers where a byte leads; the automaton's alone, under its lock.</summary>
    /// <returns>Bytes that this takes.</returns>
    public int Remember(byte value, GrammarState next)
    {
        const int Header = 24;
        var size = 0;
        if (_next is not { } rows)
        {
            rows = new GrammarState?[]?[256 / RowSize];
            size += Header + 8 * rows.Length;
        }

        if (rows[value / RowSize] is not { } row)
        {
            row = new GrammarState?[RowSize];
            size += Header + 8 * RowSize;
            Volatile.Write(ref rows[value / RowSize], row);
        }

        Volatile.Write(ref row[value % RowSize], next);
        Volatile.Write(ref _next, rows);
        return size;
    }

    /// <summary>Forgets what was found out.</summary>
    public void Forget()
    {
        Volatile.Write(ref _next, null);
        (Reduced, Mask, _masksWithin) = (null, null, null);
    }
}
