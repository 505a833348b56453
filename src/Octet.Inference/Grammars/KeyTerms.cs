namespace Octet.Inference.Grammars;

/// <summary>The free members of an object: those that it may have besides the declared ones.</summary>
/// <param name="value">Colon, space and value.</param>
internal sealed class FreeMembers(Term value)
{
    /// <summary>Colon, space and value.</summary>
    public Term Value => value;
}

/// <summary>
/// Any number of free members of an object, no key twice: <c>"a": 1, "b": 2</c>. Keys are written without escapes, so that those with the
/// same characters have the same bytes.
/// </summary>
/// <param name="members">What they are.</param>
/// <param name="used">The keys that the object has or may have already.</param>
/// <param name="isFirst">Whether no member stands before them, so that there is no comma.</param>
internal sealed class FreeMembersTerm(FreeMembers members, KeyNode used, bool isFirst) : Term
{
    public override bool IsNullable => true;

    public override ByteSet First => isFirst ? JsonTerms.QuoteByte : JsonTerms.CommaByte;

    public override Term Derive(byte value, TermTable table)
    {
        if (!First.Contains(value))
        {
            return NothingTerm.Instance;
        }

        var key = table.Intern(new FreeKeyTerm(members, used, used, null, EmptyTerm.Instance));
        return isFirst ? key : table.Sequence(JsonTerms.SpaceAndQuote, key);
    }

    public override int Measure(Func<Term, int> part) => 0;

    public override Term Reduce(TermTable table) => table.Intern(new FreeMembersTerm(members, KeyNode.Unknown, isFirst));

    public override bool HasPartsOf(Term other) => other is FreeMembersTerm term && term.HasParts(members, used, isFirst);

    public override int HashOfParts() => HashCode.Combine(members, used, isFirst);

    private bool HasParts(FreeMembers otherMembers, KeyNode otherUsed, bool otherIsFirst) =>
        members == otherMembers && used == otherUsed && isFirst == otherIsFirst;
}

/// <summary>The bytes of a key, in reverse.</summary>
/// <param name="before">Those before the last; null: there are none.</param>
/// <param name="last">The last.</param>
internal sealed class KeyBytes(KeyBytes? before, byte last)
{
    public static byte[] Read(KeyBytes? end)
    {
        var bytes = new List<byte>();
        for (var at = end; at is not null; at = at.Before)
        {
            bytes.Add(at.Last);
        }

        bytes.Reverse();
        return [.. bytes];
    }

    private KeyBytes? Before => before;

    private byte Last => last;
}

/// <summary>The rest of a key, its value, and the free members that follow.</summary>
/// <param name="members">What they are.</param>
/// <param name="used">The keys that the object has or may have already.</param>
/// <param name="node">Where the key's bytes so far lead among those; null: to none of them.</param>
/// <param name="bytes">The key's bytes so far; null: none, or they do not matter.</param>
/// <param name="character">The rest of a character of which the key has the beginning.</param>
internal sealed class FreeKeyTerm(FreeMembers members, KeyNode used, KeyNode? node, KeyBytes? bytes, Term character) : Term
{
    public override bool IsNullable => false;

    public override ByteSet First => IsAmidCharacter ? character.First : JsonTerms.RawCharacter.First | JsonTerms.QuoteByte;

    /// <summary>Whether a character has begun, so that only its rest may follow.</summary>
    public bool IsAmidCharacter => character is not EmptyTerm;

    /// <summary>Whether the bytes so far are a key that the object has or may have already, so that more must follow.</summary>
    public bool MustGoOn => node is { IsKey: true };

    /// <summary>The same of a key that is not used, whatever its bytes.</summary>
    public FreeKeyTerm Unused => new(members, KeyNode.Unknown, null, null, EmptyTerm.Instance);

    /// <summary>Whether these further bytes make a key that the object has or may have already.</summary>
    public bool IsUsed(ReadOnlySpan<byte> further)
    {
        var at = node;
        for (var i = 0; i < further.Length && at is not null; i++)
        {
            at = at.Child(further[i]);
        }

        return at is { IsKey: true };
    }

    public override Term Derive(byte value, TermTable table)
    {
        if (!IsAmidCharacter && value == (byte)'"')
        {
            if (MustGoOn)
            {
                return NothingTerm.Instance;
            }

            var further = table.Intern(new FreeMembersTerm(members, used.With(KeyBytes.Read(bytes)), isFirst: false));
            return table.Sequence(members.Value, further);
        }

        var rest = table.Derive(IsAmidCharacter ? character : JsonTerms.RawCharacter, value);
        if (rest is NothingTerm)
        {
            return rest;
        }

        var longer = used == KeyNode.Unknown ? null : new KeyBytes(bytes, value);
        return table.Intern(new FreeKeyTerm(members, used, node?.Child(value), longer, rest));
    }

    public override int Measure(Func<Term, int> part) =>
        Sum(Sum(part(character), node is null ? 0 : IsAmidCharacter ? 1 : node.Missing), Sum(1, part(members.Value)));

    public override Term Reduce(TermTable table) => table.Intern(new FreeKeyTerm(members, KeyNode.Unknown, node, null, character));

    public override bool HasPartsOf(Term other) => other is FreeKeyTerm term && term.HasParts(members, used, node, bytes, character);

    public override int HashOfParts() => HashCode.Combine(members, used, node, bytes, character);

    private bool HasParts(FreeMembers otherMembers, KeyNode otherUsed, KeyNode? otherNode, KeyBytes? otherBytes, Term otherCharacter) =>
        members == otherMembers && used == otherUsed && node == otherNode && bytes == otherBytes && character == otherCharacter;
}
