using System.Buffers;
using System.Text;
using System.Text.Unicode;

namespace Octet.Inference.Loading;

/// <summary>The tokenizer in a model's tokenizer.json: byte-level BPE with NFC normalisation, a split pattern and added tokens.</summary>
/// <remarks>
/// <c>ids = BPE(split(NFC(text between added tokens)))</c>. It gives the ids that Hugging Face tokenizers gives for the same file; a file that asks for
/// anything else than the above is refused. One difference is known: ignoring case, .NET does not take U+017F (long s) for an s. Thread-safe.
/// </remarks>
public sealed class ModelTokenizer
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

    internal ModelTokenizer(ModelJson file)
    {
        _composes = ReadNormalizer(file);
        ReadPreTokenizer(file);
        CheckRest(file);
        _model = new BytePairEncoding(file.Object("model"));
        ReadAddedTokens(file);
        _rawTokens = new AddedTokenFinder(_added.Values.Where(token => !token.Normalized).Select(token => (token.Text, token.Id)));
        _normalizedTokens = new AddedTokenFinder(_added.Values.Where(token => token.Normalized).Select(token => (Normalize(token.Text), token.Id)));
        _bytes = ReadBytes(file);
        _texts = new string?[_bytes.Length];
    }

    private sealed record AddedToken(string Text, int Id, bool Special, bool Normalized);

    /// <summary>One more than the largest id that has a token; a model's logits may be wider.</summary>
    public int VocabularySize => _bytes.Length;

    /// <summary>Reads tokenizer.json, and tokenizer_config.json if present, in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">The file is missing, not well-formed, or describes a tokenizer that is not supported.</exception>
    public static ModelTokenizer Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string configuration = Path.Combine(directory, ConfigurationFileName);
        if (Path.Exists(configuration))
        {
            ModelJson settings = ModelJson.Read(configuration);
            foreach (string name in (ReadOnlySpan<string>)["add_bos_token", "add_eos_token"])
            {
                if (settings.Flag(name, absent: false))
                {
                    throw settings.Bad($"sets {name}, which is not supported");
                }
            }
        }
        return new ModelTokenizer(ModelJson.Read(Path.Combine(directory, FileName)));
    }

    /// <summary>The token ids of <paramref name="text"/>; added tokens that occur in it, such as <c>&lt;|im_start|&gt;</c>, are recognised. Half surrogate pairs count as U+FFFD.</summary>
    /// <exception cref="ModelFormatException">The split pattern takes too long on this text.</exception>
    public int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>(text.Length / 3 + 1);
        _rawTokens.Split(
            ReplaceHalfPairs(text),
            ids.Add,
            between => _normalizedTokens.Split(Normalize(between), ids.Add, plain => EncodePlain(plain, 0, ids)));
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

    private static string ReplaceHalfPairs(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            return text;
        }
        var whole = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            whole.Append(rune);
        }
        return whole.ToString();
    }

    private static bool ReadNormalizer(ModelJson file)
    {
        if (file.FindObject("normalizer") is not { } normalizer)
        {
            return false;
        }
        string type = normalizer.Text("type");
        return type == "NFC" ? true : throw normalizer.Bad($"has the type '{type}', but only 'NFC' is supported");
    }

    private void ReadPreTokenizer(ModelJson file)
    {
        const int MostSteps = 8;
        ModelJson preTokenizer = file.Object("pre_tokenizer");
        List<ModelJson> steps = preTokenizer.Text("type") == "Sequence" ? [.. preTokenizer.Get("pretokenizers").Items()] : [preTokenizer];
        if (steps.Count is 0 or > MostSteps)
        {
            throw preTokenizer.Bad($"has {steps.Count} steps, expected 1 to {MostSteps}");
        }
        for (int i = 0; i < steps.Count; i++)
        {
            string type = steps[i].Text("type");
            if (type == "Split")
            {
                _splits.Add(new SplitPattern(steps[i]));
            }
            else if (type != "ByteLevel")
            {
                throw steps[i].Bad($"has the type '{type}', but only 'Split' and 'ByteLevel' are supported");
            }
            else if (steps[i].Flag("add_prefix_space", absent: true) || steps[i].Flag("use_regex", absent: true))
            {
                throw steps[i].Bad("sets add_prefix_space or use_regex, which is not supported");
            }
            else if (i != steps.Count - 1)
            {
                throw steps[i].Bad("is not the last step, as 'ByteLevel' must be");
            }
        }
        if (steps[^1].Text("type") != "ByteLevel")
        {
            throw preTokenizer.Bad("does not end with 'ByteLevel': only byte-level vocabularies are supported");
        }
    }

    private static void CheckRest(ModelJson file)
    {
        foreach (var (name, type) in (ReadOnlySpan<(string, string)>)[("model", "BPE"), ("decoder", "ByteLevel"), ("post_processor", "ByteLevel")])
        {
            // Only the post-processor is optional. Of type ByteLevel it changes offsets, never ids.
            ModelJson? part = name == "post_processor" ? file.FindObject(name) : file.Object(name);
            if (part?.Text("type") is { } found && found != type)
            {
                throw part.Value.Bad($"has the type '{found}', but only '{type}' is supported");
            }
        }
        foreach (string name in (ReadOnlySpan<string>)["truncation", "padding"])
        {
            if (file.Find(name) is { } part)
            {
                throw part.Bad("is set, but a generator needs every token: make it null");
            }
        }
    }

    private void ReadAddedTokens(ModelJson file)
    {
        if (file.Find("added_tokens") is not { } list)
        {
            return;
        }
        var texts = new HashSet<string>();
        foreach (ModelJson item in list.Items())
        {
            var token = new AddedToken(
                item.Text("content"), item.Integer("id", 0, LargestId), item.Flag("special", absent: false), item.Flag("normalized", absent: true));
            foreach (string name in (ReadOnlySpan<string>)["single_word", "lstrip", "rstrip"])
            {
                if (item.Flag(name, absent: false))
                {
                    throw item.Bad($"('{token.Text}') sets {name}, which is not supported");
                }
            }
            if (token.Text.Length == 0 || !texts.Add(token.Text) || !_added.TryAdd(token.Id, token))
            {
                throw item.Bad($"('{token.Text}', id {token.Id}) is empty or repeats the text or id of another added token");
            }
            if (_model.Vocabulary.TryGetValue(token.Text, out int id) && id != token.Id)
            {
                throw item.Bad($"('{token.Text}') has id {token.Id}, but id {id} in the vocabulary");
            }
        }
        if (_added.Count > MostAddedTokens)
        {
            throw list.Bad($"has {_added.Count} tokens, more than {MostAddedTokens}");
        }
    }

    private byte[]?[] ReadBytes(ModelJson file)
    {
        int largest = Math.Max(_model.Vocabulary.Values.Max(), _added.Keys.Append(0).Max());
        var bytes = new byte[]?[largest + 1];
        var tokens = _model.Vocabulary.Select(entry => (Text: entry.Key, Id: entry.Value))
            .Concat(_added.Values.Where(token => !_model.Vocabulary.ContainsKey(token.Text)).Select(token => (token.Text, token.Id)));
        foreach (var (text, id) in tokens)
        {
            if (bytes[id] is not null)
            {
                throw file.Bad($"gives id {id} to '{text}' and to another token");
            }
            bytes[id] = ByteAlphabet.Bytes(text);
        }
        return bytes;
    }

    /// <summary>Finds added tokens in a text: the leftmost first, of several that begin there the longest.</summary>
    private sealed class AddedTokenFinder
    {
        private readonly (string Text, int Id)[] _tokens;
        private readonly SearchValues<string> _texts;

        public AddedTokenFinder(IEnumerable<(string Text, int Id)> tokens)
        {
            _tokens = [.. tokens.OrderByDescending(token => token.Text.Length)];
            _texts = SearchValues.Create([.. _tokens.Select(token => token.Text)], StringComparison.Ordinal);
        }

        /// <summary>Calls <paramref name="token"/> for each token in <paramref name="text"/> and <paramref name="between"/> for each text before, between and behind them, in order.</summary>
        public void Split(string text, Action<int> token, Action<string> between)
        {
            int begin = 0;
            while (begin < text.Length)
            {
                int length = text.AsSpan(begin).IndexOfAny(_texts);
                if (length != 0)
                {
                    length = length < 0 ? text.Length - begin : length;
                    between(text.Substring(begin, length));
                    begin += length;
                    continue;
                }
                var (found, id) = Array.Find(_tokens, candidate => text.AsSpan(begin).StartsWith(candidate.Text, StringComparison.Ordinal));
                token(id);
                begin += found.Length;
            }
        }
    }
}
