using System.Buffers;
using System.Text;
using System.Text.Unicode;
using Octet.Inference.Grammars;
using Octet.Inference.Loading.Templates;

namespace Octet.Inference.Loading;

/// <summary>The tokenizer in a model's tokenizer.json: byte-level BPE with NFC normalisation, a split pattern and added tokens.</summary>
/// <remarks>
/// <c>ids = BPE(split(NFC(text between added tokens)))</c>. It gives the ids that Hugging Face tokenizers gives for the same file; a file that asks for
/// anything else than the above is refused. How texts are cut or padded in batches (<c>truncation</c>, <c>padding</c>) is no part of it. One difference
/// is known: ignoring case, .NET does not take U+017F (long s) for an s. Thread-safe.
/// </remarks>
public sealed partial class ModelTokenizer
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "tokenizer.json";

    /// <summary>The name of the file with the settings around it, which may be absent.</summary>
    public const string ConfigurationFileName = "tokenizer_config.json";

    internal const int LargestId = (1 << 20) - 1;
    private const int MostAddedTokens = 8192;

    private readonly BytePairEncoding _model;
    private readonly bool _composes;
    private readonly List<SplitPattern> _splits = [];
    private readonly Dictionary<int, AddedToken> _added = [];
    private readonly AddedTokenFinder _rawTokens;
    private readonly AddedTokenFinder _normalizedTokens;
    private readonly byte[]?[] _bytes;
    private readonly string?[] _texts;
    private readonly Lazy<TokenTrie> _trie;

    /// <summary>Reads tokenizer.json, and tokenizer_config.json if there is one.</summary>
    internal ModelTokenizer(ModelJson file, ModelJson? settings = null)
    {
        _composes = ReadNormalizer(file);
        ReadPreTokenizer(file);
        CheckDecoder(file.Object("decoder"));
        CheckPostProcessor(file.FindObject("post_processor"));
        _model = new BytePairEncoding(ReadModel(file));
        ReadAddedTokens(file);
        ReadSettings(settings);
        if (_added.Count > MostAddedTokens)
        {
            throw file.Bad($"has {_added.Count} added tokens, more than {MostAddedTokens}");
        }
        _rawTokens = new AddedTokenFinder(_added.Values.Where(token => !token.Normalized));
        _normalizedTokens = new AddedTokenFinder(_added.Values.Where(token => token.Normalized).Select(token => token with { Text = Normalize(token.Text) }));
        _bytes = ReadBytes(file);
        _texts = new string?[_bytes.Length];
        _trie = new(CreateTrie);
    }

    private sealed record AddedToken(string Text, int Id, bool Special, bool Normalized)
    {
        // Some models have markers of turns that their file does not call special.
        public bool IsMarker => Special || (Text.Length > 4 && Text[0] == '<' && Text[^1] == '>' && Text[1] == Text[^2] && Text[1] is '|' or '\uFF5C');
    }

    /// <summary>One more than the largest id that has a token; a model's logits may be wider.</summary>
    public int VocabularySize => _bytes.Length;

    /// <summary>The tokens by their bytes, for grammars; made when first used. Special tokens are no part of it, and other added tokens are its marks.</summary>
    public TokenTrie Trie => _trie.Value;

    /// <summary>Reads tokenizer.json, and tokenizer_config.json if present, in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">The file is missing, not well-formed, or describes a tokenizer that is not supported.</exception>
    public static ModelTokenizer Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string path = Path.Combine(directory, FileName);
        if (!Path.Exists(path) && Path.Exists(Path.Combine(directory, "vocab.json")) && Path.Exists(Path.Combine(directory, "merges.txt")))
        {
            throw new ModelFormatException($"{path}: is missing; vocab.json and merges.txt are there, from which AutoTokenizer of transformers makes it with save_pretrained");
        }
        string configuration = Path.Combine(directory, ConfigurationFileName);
        ModelJson? settings = Path.Exists(configuration) ? ModelJson.Read(configuration) : null;
        return new ModelTokenizer(ModelJson.Read(path), settings);
    }

    /// <summary>The token ids of <paramref name="text"/>; added tokens that occur in it, such as <c>&lt;|im_start|&gt;</c>, are recognised. Half surrogate pairs count as U+FFFD.</summary>
    /// <param name="text">What to encode.</param>
    /// <param name="allowSpecial">
    /// False: the text of a special token is ordinary text, for what a user wrote must not begin or end a turn. Special is what tokenizer.json says is, and whatever
    /// is written like a marker, <c>&lt;|...|&gt;</c>. Other added tokens, such as <c>&lt;think&gt;</c>, are words of the vocabulary and recognised all the same.
    /// </param>
    /// <exception cref="ModelFormatException">The split pattern takes too long on this text.</exception>
    public int[] Encode(string text, bool allowSpecial = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Encode(new TemplateText(text, allowSpecial ? TextOrigin.Template : TextOrigin.Data));
    }

    /// <summary>As <see cref="Encode(string, bool)"/>, with special tokens only where a template wrote them: it began and ended them, and put at most a role between.</summary>
    internal int[] Encode(TemplateText text)
    {
        var ids = new List<int>(text.Units / 3 + 1);
        _rawTokens.Split(
            ReplaceHalfPairs(text),
            ids.Add,
            between => _normalizedTokens.Split(Normalize(between), ids.Add, plain => EncodePlain(plain.Value, 0, ids)));
        return [.. ids];
    }

    /// <summary>The text of <paramref name="ids"/>: their bytes as UTF-8, with U+FFFD for what is not; an id without a token has no text.</summary>
    /// <exception cref="ArgumentOutOfRangeException">An id is negative.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        TokenTextStream stream = Stream(skipSpecialTokens);
        var text = new StringBuilder();
        foreach (int id in ids)
        {
            text.Append(stream.Push(id));
        }
        return text.Append(stream.Flush()).ToString();
    }

    /// <summary>A decoder for tokens that come one by one.</summary>
    public TokenTextStream Stream(bool skipSpecialTokens = false) => new(this, skipSpecialTokens);

    /// <summary>The id of the added token with exactly this text, for instance <c>&lt;|im_end|&gt;</c>, or null.</summary>
    public int? FindAddedToken(string text) => _added.Values.FirstOrDefault(token => token.Text == text)?.Id;

    /// <summary>Whether <paramref name="id"/> is a special token, such as the end of a text, rather than text.</summary>
    public bool IsSpecial(int id) => _added.TryGetValue(id, out AddedToken? token) && token.Special;

    /// <summary>The bytes of a token, of which several tokens' together are UTF-8; none where the id has no token.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is negative.</exception>
    public ReadOnlySpan<byte> BytesOf(int id) => TokenBytes(id, skipSpecialTokens: false);

    internal ReadOnlySpan<byte> TokenBytes(int id, bool skipSpecialTokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        return id >= _bytes.Length || (skipSpecialTokens && IsSpecial(id)) ? [] : _bytes[id];
    }

    // The text of a token whose bytes are whole characters, the same string every time; null: they are not.
    internal string? WholeText(int id, bool skipSpecialTokens)
    {
        ReadOnlySpan<byte> bytes = TokenBytes(id, skipSpecialTokens);
        if (bytes.IsEmpty)
        {
            return "";
        }

        return _texts[id] ??= Utf8.IsValid(bytes) ? Encoding.UTF8.GetString(bytes) : null;
    }

    private TokenTrie CreateTrie()
    {
        bool IsHidden(int id) => _added.TryGetValue(id, out AddedToken? token) && token.IsMarker;
        return new TokenTrie(
            [.. _bytes.Select((bytes, id) => IsHidden(id) ? ReadOnlyMemory<byte>.Empty : bytes)],
            [.. _added.Values.Where(token => !token.IsMarker).Select(token => token.Id)]);
    }

    private void EncodePlain(ReadOnlySpan<char> text, int split, List<int> ids)
    {
        if (split == _splits.Count)
        {
            _model.Encode(text, ids);
            return;
        }
        foreach (Range piece in _splits[split].Split(text))
        {
            EncodePlain(text[piece], split + 1, ids);
        }
    }

    private string Normalize(string text) => _composes ? UnicodeComposition.Compose(text) : text;

    // A character of ASCII is composed with nothing before it, so that what begins with one can be composed by itself.
    private TemplateText Normalize(TemplateText text)
    {
        string normalized = Normalize(text.Value);
        if (normalized == text.Value || text.IsUniform)
        {
            return normalized == text.Value ? text : new TemplateText(normalized, text.Origin);
        }
        var pieces = new TemplateTextBuilder();
        for (int begin = 0; begin < text.Units;)
        {
            int next = text.Value.AsSpan(begin + 1).IndexOfAnyInRange('\0', '\x7f');
            int end = next < 0 ? text.Units : begin + 1 + next;
            TemplateText piece = text.Slice(begin, end);
            pieces.Append(Normalize(piece.Value), piece.Origin);
            begin = end;
        }
        return pieces.Build();
    }

    private static TemplateText ReplaceHalfPairs(TemplateText text)
    {
        if (!text.Value.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            return text;
        }
        var whole = new StringBuilder(text.Units);
        foreach (Rune rune in text.Value.EnumerateRunes())
        {
            whole.Append(rune);
        }
        return text.WithUnits(whole.ToString());
    }

    /// <summary>Finds added tokens in a text: the leftmost first, of several that begin there the longest.</summary>
    private sealed class AddedTokenFinder
    {
        private readonly AddedToken[] _tokens;
        private readonly SearchValues<string> _texts;

        public AddedTokenFinder(IEnumerable<AddedToken> tokens)
        {
            _tokens = [.. tokens.OrderByDescending(token => token.Text.Length)];
            _texts = SearchValues.Create([.. _tokens.Select(token => token.Text)], StringComparison.Ordinal);
        }

        /// <summary>Calls <paramref name="token"/> for each token in <paramref name="text"/> and <paramref name="between"/> for each text before, between and behind them, in order.</summary>
        public void Split(TemplateText text, Action<int> token, Action<TemplateText> between)
        {
            int plain = 0;
            for (int at = 0; text.Value.AsSpan(at).IndexOfAny(_texts) is var skipped && skipped >= 0;)
            {
                at += skipped;
                AddedToken? found = Array.Find(_tokens, candidate => text.Value.AsSpan(at).StartsWith(candidate.Text, StringComparison.Ordinal) && IsAllowed(candidate, text, at));
                if (found is null)
                {
                    at++;
                    continue;
                }
                if (at > plain)
                {
                    between(text.Slice(plain, at));
                }
                token(found.Id);
                at += found.Text.Length;
                plain = at;
            }
            if (plain < text.Units)
            {
                between(text.Slice(plain));
            }
        }

        private static bool IsAllowed(AddedToken token, TemplateText text, int at)
        {
            int last = at + token.Text.Length - 1;
            return !token.IsMarker
                || (text.OriginAt(at) == TextOrigin.Template && text.OriginAt(last) == TextOrigin.Template && text.Slice(at, last + 1).Origin != TextOrigin.Data);
        }
    }
}
