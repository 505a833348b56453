using System.Text;
using Octet.Inference.Grammars;
using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Grammars;

/// <summary>Vocabularies to constrain.</summary>
internal static class Vocabularies
{
    private static readonly Lazy<TokenTrie> s_mixed = new(() => new TokenTrie(MixedTokens()));

    /// <summary>Every byte, what is often in JSON, and tokens that cut characters, escapes and values anywhere; the last has no text: <see cref="End"/>.</summary>
    public static TokenTrie Mixed => s_mixed.Value;

    /// <summary>The token of <see cref="Mixed"/> that ends a text.</summary>
    public static int End => Mixed.Count - 1;

    /// <summary>The small checkpoint's.</summary>
    public static ModelTokenizer Small { get; } = ModelTokenizer.Load(TinyModel.Directory);

    /// <summary>As many tokens as large models have, of their lengths: words, pieces of words, code, and pieces of characters.</summary>
    public static ReadOnlyMemory<byte>[] Large(int count)
    {
        // The last has no text, as what ends a text.
        var random = new Random(11);
        var tokens = new HashSet<string>();
        string[] code = ["\"", "\":", "\": ", "\": \"", "\",", "\", \"", "\"}", "\"]", "\"}]", "{\"", "[{\"", "},", "}, {\"", ", ", ",", ":", "[", "]", "{", "}", "\\n", "\\\"", "\\u", "\n", "\t", "  "];
        for (var length = 1; tokens.Count < count - 301; length = length % 14 + 1)
        {
            var word = new StringBuilder(random.Next(3) == 0 ? " " : "");
            for (var i = 0; i < length; i++)
            {
                word.Append(random.Next(40) switch
                {
                    0 => code[random.Next(code.Length)],
                    1 => char.ConvertFromUtf32(0x4E00 + random.Next(5000)),
                    2 => ((char)('0' + random.Next(10))).ToString(),
                    3 => char.ConvertFromUtf32(0x400 + random.Next(100)),
                    _ => ((char)('a' + random.Next(26))).ToString(),
                });
            }

            tokens.Add(word.ToString());
        }

        var bytes = Enumerable.Range(0, 256).Select(value => new ReadOnlyMemory<byte>([(byte)value]));
        var halves = Enumerable.Range(0, 44).Select(i => new ReadOnlyMemory<byte>([(byte)(0xE4 + i % 5), (byte)(0x90 + i)]));
        return [.. bytes, .. halves, .. tokens.Order(StringComparer.Ordinal).Select(token => new ReadOnlyMemory<byte>(Encoding.UTF8.GetBytes(token))), default];
    }

    private static ReadOnlyMemory<byte>[] MixedTokens()
    {
        string[] texts =
        [
            "{\"", "\": ", "\":", "\":\"", "\": \"", "\",", "\", \"", "\"}", "\"}}", "\"]", "]}", "}}", "}]", "[[", "[{\"", "},", "}, {\"", ", ", ", \"", "\"\"", "\":{\"", "{}", "[]",
            "true", "false", "null", "tru", "e}", "ull", "12", "00", "0.", ".5", "-1", "1e", "99", "1,", "1]", "1}", "255", "25", "T0", "-0", "\\\"", "\\\\", "\\n", "\\u", "\\ud83d",
            "\\ud83d\\ude00", "d8", "name", "\"name\"", "age\"", "value\": ", "child", "ren", " the", "hello", "abc", "é", "日本", "😀", "é\"", "a\"", "xyz\"", "\n", "\n  ", "  ", " ",
            "id\"", "i", "id", "x\": ", "kind\": \"", "circle", "square\"", "a\": 1", "a\":1,\"b", "\":1,\"", "\":[", "\", \"x\": \"",
        ];
        byte[][] pieces = [[0xF0, 0x9F], [0x98, 0x80], [0x80, (byte)'"'], [0xC3], [(byte)'a', 0xC3], [0xA9, (byte)'"'], [0xE6, 0x97], [0xA5, 0xE6], [0xED, 0xA0], [0xC0, 0x80], [(byte)'"', 0xE6]];
        return
        [
            .. Enumerable.Range(0, 256).Select(value => new ReadOnlyMemory<byte>([(byte)value])),
            .. texts.Select(text => new ReadOnlyMemory<byte>(Encoding.UTF8.GetBytes(text))),
            .. pieces.Select(piece => new ReadOnlyMemory<byte>(piece)),
            "true"u8.ToArray(), // twice in the vocabulary
            ReadOnlyMemory<byte>.Empty,
        ];
    }
}
