using System.Text;

namespace Octet.Inference.Grammars;

/// <summary>
/// The terms of JSON: characters, strings and values of any kind, in one spelling of white space: none, or a space behind colon and
/// comma.
/// </summary>
internal static class JsonTerms
{
    /// <summary>How deep objects and arrays nest in a value of any kind.</summary>
    public const int MostLevels = 32;

    private const string Controls = "\"\\/bfnrt";

    /// <summary>Of what begins and ends strings.</summary>
    public static ByteSet QuoteByte { get; } = ByteSet.Of((byte)'"');

    /// <summary>Of what stands between members and items.</summary>
    public static ByteSet CommaByte { get; } = ByteSet.Of((byte)',');

    /// <summary>The characters of one byte that a string may have as they are.</summary>
    public static ByteSet PlainAscii { get; } = ByteSet.Range(0x20, 0x7F) - ByteSet.Of("\"\\"u8);

    /// <summary>A space, or nothing.</summary>
    public static Term Space { get; } = Any(Text(" "), EmptyTerm.Instance);

    /// <summary>What stands before the next key.</summary>
    public static Term SpaceAndQuote { get; } = All(Space, Text("\""));

    /// <summary>What stands before the next item.</summary>
    public static Term Comma { get; } = All(Text(","), Space);

    /// <summary>A character as it is, in UTF-8.</summary>
    public static Term RawCharacter { get; } = Any(new ByteTerm(PlainAscii), CharacterTerms.Long());

    /// <summary>A character as it is, or escaped; a surrogate pair, of which no half stands alone, is one character.</summary>
    public static Term Character { get; } = Any(new ByteTerm(PlainAscii), CharacterTerms.Long(), All(Text("\\"), Escapes()));

    /// <summary>
    /// A character that is one for all who count: by code points, as JSON Schema does, or by graphemes, as some of its readers do.
    /// </summary>
    public static Term SingleCharacter { get; } = Any(
        new ByteTerm(PlainAscii - ByteSet.Of(0x7F)), CharacterTerms.LongSingle(), All(Text("\\"), new ByteTerm(ByteSet.Of("\"\\/nt"u8))));

    /// <summary>A digit.</summary>
    public static Term Digit { get; } = new ByteTerm(ByteSet.Range('0', '9'));

    /// <summary>true or false.</summary>
    public static Term Boolean { get; } = Any(Text("true"), Text("false"));

    /// <summary>null.</summary>
    public static Term Null { get; } = Text("null");

    /// <summary>A string of any length.</summary>
    public static Term String { get; } = StringOf(0, Term.Infinite);

    /// <summary>A number that every reader of f64 takes: up to 15 digits, 16 behind the point, and an exponent of up to two.</summary>
    public static Term Number { get; } = NumberTerms.Any();

    private static readonly (Term Value, Term Object) s_any = Values();

    /// <summary>A value of any kind.</summary>
    public static Term Value => s_any.Value;

    /// <summary>An object with members of any kind.</summary>
    public static Term Object => s_any.Object;

    /// <summary>One after the other.</summary>
    public static Term All(params ReadOnlySpan<Term> terms)
    {
        Term all = EmptyTerm.Instance;
        for (var i = terms.Length - 1; i >= 0; i--)
        {
            all = (terms[i], all) switch
            {
                (NothingTerm, _) or (_, NothingTerm) => NothingTerm.Instance,
                (EmptyTerm, _) => all,
                (_, EmptyTerm) => terms[i],
                _ => new SequenceTerm(terms[i], all),
            };
        }

        return all;
    }

    /// <summary>One of several.</summary>
    public static Term Any(params ReadOnlySpan<Term> terms)
    {
        var all = new List<Term>(terms.Length);
        foreach (var term in terms)
        {
            if (term is not NothingTerm)
            {
                all.Add(term);
            }
        }

        return all switch
        {
            [] => NothingTerm.Instance,
            [var single] => single,
            _ => new ChoiceTerm([.. all]),
        };
    }

    /// <summary>Certain characters, which are not those of a string unless with their quotes.</summary>
    public static Term Text(string text) => new LiteralTerm(Encoding.UTF8.GetBytes(text), 0, hasMarkers: false);

    /// <summary>A term as often as said.</summary>
    /// <param name="item">What.</param>
    /// <param name="min">The fewest times.</param>
    /// <param name="max">The most times; <see cref="Term.Infinite"/>: no limit.</param>
    public static Term Times(Term item, int min, int max) => max == 0 ? EmptyTerm.Instance : new RepeatTerm(item, min, max);

    /// <summary>A string.</summary>
    /// <param name="min">The fewest characters: Unicode code points.</param>
    /// <param name="max">The most characters; <see cref="Term.Infinite"/>: no limit.</param>
    /// <remarks>
    /// Of at least two characters, those that must be there are single ones: some who check a string count a letter and its mark as one.
    /// </remarks>
    public static Term StringOf(int min, int max)
    {
        var singles = min > 1 ? min : 0;
        return All(
            Text("\""), Times(SingleCharacter, singles, singles),
            Times(Character, min - singles, max == Term.Infinite ? max : max - singles), Text("\""));
    }

    /// <summary>A string with these characters, as they are where they may be.</summary>
    public static string Quote(string text)
    {
        var quoted = new StringBuilder("\"");
        foreach (var c in text)
        {
            var escape = c switch { '"' => "\\\"", '\\' => "\\\\", '\n' => "\\n", '\r' => "\\r", '\t' => "\\t", _ => null };
            quoted.Append(escape ?? (c < ' ' ? $"\\u{(int)c:x4}" : c.ToString()));
        }

        return quoted.Append('"').ToString();
    }

    /// <summary>A free member's value with what stands before it.</summary>
    public static Term ColonAnd(Term value) => All(Text(":"), Space, value);

    private static Term Escapes()
    {
        static Term In(string characters) => new ByteTerm(ByteSet.Of(Encoding.ASCII.GetBytes(characters)));
        var hex = In("0123456789abcdefABCDEF");
        var d = In("dD");
        var other = In("0123456789abcefABCEF");
        var low = All(Text("\\u"), d, In("cdefCDEF"), hex, hex);
        return Any(
            In(Controls),
            All(Text("u"), Any(All(other, hex, hex, hex), All(d, In("01234567"), hex, hex), All(d, In("89abAB"), hex, hex, low))));
    }

    // Level by level from the innermost, whose values are no objects or arrays.
    private static (Term Value, Term Object) Values()
    {
        var scalars = Any(String, Number, Boolean, Null);
        var values = scalars;
        var outermost = scalars;
        for (var level = 0; level < MostLevels; level++)
        {
            outermost = All(Text("{"), new FreeMembersTerm(new FreeMembers(ColonAnd(values)), KeyNode.Empty, isFirst: true), Text("}"));
            var items = Any(EmptyTerm.Instance, All(values, Times(All(Comma, values), 0, Term.Infinite)));
            values = Any(outermost, All(Text("["), items, Text("]")), scalars);
        }

        return (values, outermost);
    }
}
