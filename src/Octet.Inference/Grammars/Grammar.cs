using System.Collections.Frozen;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Octet.Inference.Engine;

namespace Octet.Inference.Grammars;

/// <summary>
/// The texts that a model may write: JSON of a schema, literal text, and what these make together. Immutable and thread-safe. Texts of the
/// same grammar share what is found out about it, so it pays to keep one that is used again.
/// </summary>
public sealed class Grammar
{
    private readonly Term _root;
    private readonly ConditionalWeakTable<TokenTrie, GrammarAutomaton> _automata = [];

    internal Grammar(Term root) => _root = root;

    /// <summary>Any value of JSON, in which objects and arrays nest up to 32 deep.</summary>
    public static Grammar JsonValue { get; } = new(JsonTerms.Value);

    /// <summary>Any object of JSON, in which objects and arrays nest up to 32 deep.</summary>
    public static Grammar JsonObject { get; } = new(JsonTerms.Object);

    /// <summary>The values that a JSON Schema allows.</summary>
    /// <param name="schema">The schema; nothing of it is kept.</param>
    /// <exception cref="GrammarException">
    /// It has a keyword that is not supported, nothing satisfies it, or it is too large; the message has the place.
    /// </exception>
    public static Grammar FromJsonSchema(JsonElement schema) => new(SchemaCompiler.Compile(schema));

    /// <summary>Just this text.</summary>
    public static Grammar Literal(string text)
    {
        ArgumentException.ThrowIfNullOrEmpty(text);
        return new(new LiteralTerm(System.Text.Encoding.UTF8.GetBytes(text), 0, hasMarkers: true));
    }

    /// <summary>One after the other.</summary>
    public static Grammar Sequence(params ReadOnlySpan<Grammar> parts) => new(JsonTerms.All(TermsOf(parts)));

    /// <summary>One of several, at least one.</summary>
    public static Grammar Choice(params ReadOnlySpan<Grammar> alternatives) => alternatives.IsEmpty
        ? throw new ArgumentException("there are no alternatives: at least one is needed", nameof(alternatives))
        : new(JsonTerms.Any(TermsOf(alternatives)));

    /// <summary>The same several times.</summary>
    /// <param name="item">What; it must not have the empty text.</param>
    /// <param name="min">The fewest times.</param>
    /// <param name="max">The most times, at least 1; null: no limit.</param>
    public static Grammar Repeat(Grammar item, int min = 0, int? max = null)
    {
        ArgumentNullException.ThrowIfNull(item);
        ArgumentOutOfRangeException.ThrowIfNegative(min);
        ArgumentOutOfRangeException.ThrowIfLessThan(max ?? Term.Infinite, Math.Max(min, 1), nameof(max));
        return item._root.IsNullable
            ? throw new ArgumentException("what is repeated has the empty text, so that it could be repeated for ever", nameof(item))
            : new(JsonTerms.Times(item._root, min, max ?? Term.Infinite));
    }

    /// <summary>A reader of one text.</summary>
    /// <param name="trie">The vocabulary: <see cref="Loading.ModelTokenizer.Trie"/>.</param>
    /// <param name="endTokens">
    /// Tokens that end the text: they may follow where it is complete, and nothing else where nothing else can.
    /// </param>
    public IGrammarMatcher CreateMatcher(TokenTrie trie, IReadOnlyCollection<int> endTokens) => CreateMatcherOf(trie, endTokens);

    /// <summary>The tokens that may follow each continuation, as <see cref="GenerationOptions.AllowedTokens"/> asks for them.</summary>
    /// <param name="trie">The vocabulary: <see cref="Loading.ModelTokenizer.Trie"/>.</param>
    /// <param name="endTokens">Tokens that end the text.</param>
    /// <param name="maxTokens">
    /// The most tokens of a continuation, within which the text is to be complete; null: however long it is.
    /// </param>
    /// <exception cref="ArgumentException">There are no end tokens.</exception>
    public AllowedTokens ToAllowedTokens(TokenTrie trie, IReadOnlyCollection<int> endTokens, int? maxTokens = null)
    {
        ArgumentNullException.ThrowIfNull(endTokens);
        return endTokens.Count == 0
            ? throw new ArgumentException(
                "a grammar needs a token that ends the text, but there is none: the checkpoint has none, or IgnoreEndOfText is set",
                nameof(endTokens))
            : new GrammarTokens(CreateMatcherOf(trie, endTokens), maxTokens).Allow;
    }

    /// <summary>Whether all its texts begin with a character of ASCII.</summary>
    internal bool BeginsWith(char first) => _root.First == ByteSet.Of((byte)first);

    /// <summary>Of a vocabulary; what it has found out, all its texts share.</summary>
    internal GrammarAutomaton Automaton(TokenTrie trie) => _automata.GetValue(trie, key => new GrammarAutomaton(_root, key));

    private GrammarMatcher CreateMatcherOf(TokenTrie trie, IReadOnlyCollection<int> endTokens)
    {
        ArgumentNullException.ThrowIfNull(trie);
        ArgumentNullException.ThrowIfNull(endTokens);
        return new(Automaton(trie), endTokens.ToFrozenSet());
    }

    private static Term[] TermsOf(ReadOnlySpan<Grammar> grammars)
    {
        var terms = new Term[grammars.Length];
        for (var i = 0; i < terms.Length; i++)
        {
            terms[i] = grammars[i]._root;
        }

        return terms;
    }
}
