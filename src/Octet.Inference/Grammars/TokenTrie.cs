using System.Buffers;
using System.Collections.Concurrent;
using System.Text;

namespace Octet.Inference.Grammars;

/// <summary>
/// The tokens of a vocabulary by their bytes, so that what tokens have in common is tried once. Made once for a tokenizer; thread-safe.
/// </summary>
public sealed class TokenTrie
{
    private readonly byte[][] _bytes;
    private readonly (int Token, int Characters)[] _plain;
    private readonly ConcurrentDictionary<int, uint[]> _plainMasks = new();

    /// <summary>Sorts the tokens; for 151,936 of them that takes some tenths of a second.</summary>
    /// <param name="tokens">The bytes of each token; none: it never follows, as special tokens.</param>
    /// <param name="markers">
    /// Tokens that are marks in a text, such as <c>&lt;tool_call&gt;</c>: they follow only where a grammar has their text as a literal.
    /// </param>
    public TokenTrie(IReadOnlyList<ReadOnlyMemory<byte>> tokens, IReadOnlyCollection<int>? markers = null)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        _bytes = [.. tokens.Select(token => token.ToArray())];
        Markers = [.. (markers ?? []).Where(token => _bytes[token].Length > 0)];
        var isMarker = Markers.ToHashSet();
        var ids = Enumerable.Range(0, _bytes.Length).Where(id => _bytes[id].Length > 0 && !isMarker.Contains(id)).ToArray();
        Array.Sort(ids, (x, y) => _bytes[x].AsSpan().SequenceCompareTo(_bytes[y]) is var order and not 0 ? order : x - y);
        LongestToken = ids.Length == 0 ? 1 : ids.Max(id => _bytes[id].Length);
        All = new TrieNodes(_bytes, ids);
        var plain = ids.Select(id => (Token: id, Characters: PlainText.Characters(_bytes[id]))).Where(token => token.Characters > 0);
        _plain = [.. plain.OrderBy(token => token.Characters)];
        LongestPlain = _plain.Length == 0 ? 0 : _plain[^1].Characters;
        var isPlain = _plain.Select(token => token.Token).ToHashSet();
        Special = new TrieNodes(_bytes, [.. ids.Where(id => !isPlain.Contains(id))]);
        Strings = new StringTokens(this, JsonTerms.Character);
        Keys = new StringTokens(this, JsonTerms.RawCharacter);
    }

    /// <summary>How many tokens there are.</summary>
    public int Count => _bytes.Length;

    /// <summary>Bytes of the longest token.</summary>
    public int LongestToken { get; }

    /// <summary>All tokens but the marks.</summary>
    internal TrieNodes All { get; }

    /// <summary>Of those the ones that are not plain: see <see cref="PlainText"/>.</summary>
    internal TrieNodes Special { get; }

    /// <summary>Within strings.</summary>
    internal StringTokens Strings { get; }

    /// <summary>Within free keys, which have no escapes.</summary>
    internal StringTokens Keys { get; }

    /// <summary>The marks.</summary>
    internal int[] Markers { get; }

    /// <summary>Characters of the longest plain token.</summary>
    internal int LongestPlain { get; }

    /// <summary>A token's bytes; none: it never follows.</summary>
    internal ReadOnlySpan<byte> Bytes(int token) => (uint)token < (uint)_bytes.Length ? _bytes[token] : [];

    /// <summary>The plain tokens of at most as many characters; not to be written to.</summary>
    internal uint[] PlainMask(int longest) => _plainMasks.GetOrAdd(Math.Min(longest, LongestPlain), limit =>
    {
        var mask = new uint[(Count + 31) / 32];
        foreach (var (token, _) in _plain.TakeWhile(token => token.Characters <= limit))
        {
            mask[token / 32] |= 1u << token;
        }

        return mask;
    });

    /// <summary>The plain tokens of so many characters, from the shortest.</summary>
    internal IEnumerable<int> Plain(int shortest, int longest) =>
        _plain.SkipWhile(token => token.Characters < shortest).TakeWhile(token => token.Characters <= longest).Select(token => token.Token);
}

/// <summary>The nodes of a trie in the order of a walk that goes to children before siblings.</summary>
internal sealed class TrieNodes
{
    /// <param name="bytes">The bytes of each token.</param>
    /// <param name="sorted">Which tokens, by their bytes.</param>
    public TrieNodes(byte[][] bytes, int[] sorted)
    {
        var (labels, depths, tokens) = (new List<byte>(), new List<ushort>(), new List<int>());
        var before = ReadOnlySpan<byte>.Empty;
        SameBytes = new Dictionary<int, int>();
        for (var i = 0; i < sorted.Length; i++)
        {
            ReadOnlySpan<byte> token = bytes[sorted[i]];
            var common = token.CommonPrefixLength(before);
            if (common == token.Length)
            {
                SameBytes.Add(sorted[i - 1], sorted[i]);
            }

            for (var depth = common; depth < token.Length; depth++)
            {
                labels.Add(token[depth]);
                depths.Add(checked((ushort)(depth + 1)));
                tokens.Add(depth + 1 == token.Length ? sorted[i] : -1);
            }

            before = token;
        }

        (Labels, Depths, Tokens) = ([.. labels], [.. depths], [.. tokens]);
        Ends = FindEnds(Depths);
    }

    /// <summary>The byte that leads to a node.</summary>
    public byte[] Labels { get; }

    /// <summary>How many bytes lead to it, from 1.</summary>
    public ushort[] Depths { get; }

    /// <summary>The token that ends at it, or -1.</summary>
    public int[] Tokens { get; }

    /// <summary>The next node that is not below it.</summary>
    public int[] Ends { get; }

    /// <summary>From a token to the next that has the same bytes.</summary>
    public Dictionary<int, int> SameBytes { get; }

    private static int[] FindEnds(ushort[] depths)
    {
        var ends = new int[depths.Length];
        var open = new Stack<int>();
        for (var i = 0; i <= depths.Length; i++)
        {
            while (open.TryPeek(out var node) && (i == depths.Length || depths[i] <= depths[node]))
            {
                ends[open.Pop()] = i;
            }

            open.Push(i);
        }

        return ends;
    }
}

/// <summary>The text that strings have as it is, whoever counts its characters.</summary>
internal static class PlainText
{
    /// <summary>How many characters the bytes are; 0: not whole ones, or not only single ones that strings have as they are.</summary>
    public static int Characters(ReadOnlySpan<byte> bytes)
    {
        var characters = 0;
        while (!bytes.IsEmpty)
        {
            if (Rune.DecodeFromUtf8(bytes, out var rune, out var length) != OperationStatus.Done
                || !CharacterTerms.IsSingle(rune.Value) || rune.Value is '"' or '\\')
            {
                return 0;
            }

            bytes = bytes[length..];
            characters++;
        }

        return characters;
    }
}
