using System.Text;
using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>Byte-level BPE: a piece of text starts as its UTF-8 bytes, then the adjacent pair of the lowest merge rank is joined, leftmost first, until no pair has a rank.</summary>
/// <remarks>
/// Written here rather than taken from Microsoft.ML.Tokenizers, whose BPE gives the same ids but takes time quadratic in the length of a piece
/// (one word of a megabyte: minutes) and has no <c>ignore_merges</c>. This one takes n log n.
/// </remarks>
internal sealed class BytePairEncoding
{
    private readonly Dictionary<string, int> _vocabulary = [];
    private readonly Dictionary<(int Left, int Right), (int Rank, int Id)> _merges = [];
    private readonly int[] _byteIds = new int[256];
    private readonly bool _ignoreMerges;

    /// <summary>Reads the <c>model</c> object of a tokenizer.json.</summary>
    public BytePairEncoding(ModelJson model)
    {
        // NOTE: unk_token, fuse_unk and byte_fallback are for characters without a token; every byte has one here.
        foreach (string name in (ReadOnlySpan<string>)["dropout", "continuing_subword_prefix", "end_of_word_suffix"])
        {
            // Off is written as false, null, 0 or "".
            if (model.Find(name) is { } value && value.Element.ToString() is not ("False" or "" or "0" or "0.0"))
            {
                throw value.Bad($"is {value.Brief()}, which is not supported for a byte-level vocabulary");
            }
        }
        _ignoreMerges = model.Flag("ignore_merges", absent: false);
        foreach (var (token, id) in model.Object("vocab").Members())
        {
            _vocabulary.Add(token, id.AsInteger(0, ModelTokenizer.LargestId));
        }
        for (int b = 0; b < 256; b++)
        {
            string symbol = ByteAlphabet.Symbol((byte)b);
            _byteIds[b] = _vocabulary.TryGetValue(symbol, out int id) ? id : throw model.Bad($"vocab lacks '{symbol}', the token of byte {b}: not a byte-level vocabulary");
        }
        int rank = 0;
        foreach (ModelJson merge in model.Get("merges").Items())
        {
            AddMerge(merge, rank++);
        }
    }

    public IReadOnlyDictionary<string, int> Vocabulary => _vocabulary;

    /// <summary>Appends the ids of one piece of text.</summary>
    public void Encode(ReadOnlySpan<char> piece, List<int> ids)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(piece)];
        Encoding.UTF8.GetBytes(piece, bytes);
        if (_ignoreMerges && _vocabulary.TryGetValue(string.Concat(bytes.Select(ByteAlphabet.Symbol)), out int whole))
        {
            ids.Add(whole);
            return;
        }

        // A linked list of symbols in arrays: joining two makes the left one the pair and unlinks the right one (id -1).
        int count = bytes.Length;
        int[] symbols = new int[count];
        int[] previous = new int[count];
        int[] next = new int[count];
        var candidates = new PriorityQueue<int, long>();
        for (int i = 0; i < count; i++)
        {
            symbols[i] = _byteIds[bytes[i]];
            previous[i] = i - 1;
            next[i] = i + 1;
        }
        for (int i = 0; i < count; i++)
        {
            Offer(i);
        }
        while (candidates.TryDequeue(out int left, out long priority))
        {
            // A candidate is stale if one of its symbols has been joined with another since.
            if (symbols[left] < 0 || next[left] >= count || !_merges.TryGetValue((symbols[left], symbols[next[left]]), out var merge) || merge.Rank != priority >> 32)
            {
                continue;
            }
            int right = next[left];
            symbols[left] = merge.Id;
            symbols[right] = -1;
            next[left] = next[right];
            if (next[left] < count)
            {
                previous[next[left]] = left;
            }
            Offer(left);
            Offer(previous[left]);
        }
        for (int i = 0; i < count; i = next[i])
        {
            ids.Add(symbols[i]);
        }

        void Offer(int left)
        {
            if (left >= 0 && next[left] < count && _merges.TryGetValue((symbols[left], symbols[next[left]]), out var merge))
            {
                candidates.Enqueue(left, (long)merge.Rank << 32 | (uint)left);
            }
        }
    }

    // A merge is "left right" in files of older versions and ["left", "right"] in newer ones.
    private void AddMerge(ModelJson merge, int rank)
    {
        string[] pair = merge.Element.ValueKind == JsonValueKind.String
            ? merge.AsText().Split(' ')
            : [.. merge.Items().Select(part => part.AsText())];
        if (pair.Length != 2)
        {
            throw merge.Bad($"has {pair.Length} parts, expected 2");
        }
        if (!_vocabulary.TryGetValue(pair[0], out int left) || !_vocabulary.TryGetValue(pair[1], out int right) || !_vocabulary.TryGetValue(pair[0] + pair[1], out int joined))
        {
            throw merge.Bad($"joins '{pair[0]}' and '{pair[1]}', but one of them or the result is not in the vocabulary");
        }
        if (!_merges.TryAdd((left, right), (rank, joined)))
        {
            throw merge.Bad($"joins '{pair[0]}' and '{pair[1]}' a second time");
        }
    }
}
