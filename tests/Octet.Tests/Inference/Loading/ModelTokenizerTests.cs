using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public class ModelTokenizerTests
{
    private static readonly ModelTokenizer Small = ModelTokenizer.Load(TinyShakespeare.Directory);

    [Fact]
    public void Golden_texts_give_the_golden_ids_and_back()
    {
        using JsonDocument golden = JsonDocument.Parse(File.ReadAllBytes(TinyShakespeare.Golden("tokenizer.json")));
        foreach (JsonElement entry in golden.RootElement.EnumerateArray())
        {
            string text = entry.GetProperty("text").GetString()!;
            int[] ids = [.. entry.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
            Assert.Equal(ids, Small.Encode(text));
            Assert.Equal(text, Small.Decode(ids));
        }
        Assert.True(golden.RootElement.GetArrayLength() > 5);
    }

    [Fact]
    public void Vocabulary_and_special_tokens_of_the_small_checkpoint_are_known()
    {
        Assert.Equal(1024, Small.VocabularySize);
        Assert.Equal(1023, Small.FindAddedToken("<|im_end|>"));
        Assert.Null(Small.FindAddedToken("<|absent|>"));
        Assert.True(Small.IsSpecial(1021));
        Assert.False(Small.IsSpecial(5));
    }

    [Theory]
    [InlineData("a\r\n\r\n b\t\t\u00a0c\u2028d\u0085e")]
    [InlineData("0123456789 ٠١٢ Ⅷ ½ ²")]
    [InlineData("👩‍👩‍👧‍👦 🇫🇷 e\u0338 \u200b\u200d\ufeff\0\u007f")]
    [InlineData("𝐀𝒃𝟗 𠀀𠀁 𐐷 \U0001F1E6 \U0010FFFF")]
    [InlineData("don'T I'LL 'S 's'")]
    [InlineData("<|im_start|><|im_start|>x<|im_end|><|im_sta<|endoftext|>")]
    public void Text_in_normal_form_survives_the_round_trip(string text) => Assert.Equal(text, Small.Decode(Small.Encode(text)));

    [Fact]
    public void Every_character_survives_the_round_trip_as_its_normal_form()
    {
        var text = new StringBuilder();
        for (int c = 0; c < 0x110000; c++)
        {
            // Kept apart by a letter, so that no two of them compose.
            text.Append(Rune.IsValid(c) ? new Rune(c) : Rune.ReplacementChar).Append('x');
        }
        Assert.Equal(UnicodeComposition.Compose(text.ToString()), Small.Decode(Small.Encode(text.ToString())));
    }

    [Fact]
    public void Text_is_normalised_but_special_tokens_are_not_looked_for_inside_it()
    {
        Assert.Equal(Small.Encode("é"), Small.Encode("e\u0301"));
        Assert.Equal("a\ufffdb\ufffd", Small.Decode(Small.Encode("a\ud800b\udc00")));
    }

    [Fact]
    public void Special_tokens_are_left_out_of_the_text_on_request()
    {
        int[] ids = Small.Encode("<|im_start|>hi<|im_end|>");
        Assert.Equal("<|im_start|>hi<|im_end|>", Small.Decode(ids));
        Assert.Equal("hi", Small.Decode(ids, skipSpecialTokens: true));
    }

    [Fact]
    public void Ids_without_a_token_have_no_text_and_negative_ones_are_refused()
    {
        Assert.Equal("", Small.Decode([1024, int.MaxValue]));
        Assert.Throws<ArgumentOutOfRangeException>(() => Small.Decode([-1]));
    }

    [Fact]
    public void Merges_are_applied_in_order_of_rank_leftmost_first()
    {
        // Against the definition, word for word: join the first pair of lowest rank until there is none.
        JsonNode model = JsonNode.Parse(File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "tokenizer.json")))!["model"]!;
        var ranks = model["merges"]!.AsArray().Select((merge, rank) => (Pair: (merge![0]!.GetValue<string>(), merge[1]!.GetValue<string>()), rank)).ToDictionary();
        var random = new Random(3);
        for (int i = 0; i < 2000; i++)
        {
            string word = string.Concat(Enumerable.Range(0, random.Next(1, 40)).Select(_ => "etaoinshrdluETA"[random.Next(15)]));
            List<string> symbols = [.. word.Select(c => c.ToString())];
            while (symbols.Zip(symbols.Skip(1)).Select((pair, at) => (Rank: ranks.GetValueOrDefault(pair, int.MaxValue), at)).DefaultIfEmpty((int.MaxValue, 0)).Min() is var (rank, at) && rank < int.MaxValue)
            {
                symbols[at] += symbols[at + 1];
                symbols.RemoveAt(at + 1);
            }
            Assert.Equal(symbols.Select(symbol => model["vocab"]![symbol]!.GetValue<int>()), Small.Encode(word));
        }
    }

    [Fact]
    public void One_word_of_a_megabyte_takes_no_quadratic_time()
    {
        string word = string.Concat(Enumerable.Repeat("the", 350_000));
        Assert.Equal(word, Small.Decode(Small.Encode(word)));
    }

    [Fact]
    public void Characters_beyond_16_bits_are_classified_as_the_pattern_means()
    {
        // Letters: one piece, so that "a" and the first byte of the bold A may merge. In UTF-16 units the latter would not be a letter.
        ModelTokenizer tokenizer = Parse(json => json["model"]!["merges"]!.AsArray().Insert(0, new JsonArray("a", "ð")), "að");
        Assert.Equal("að", TokenText(tokenizer, tokenizer.Encode("a𝐀")[0]));
        Assert.NotEqual("að", TokenText(tokenizer, tokenizer.Encode("a🙂")[0]));
        Assert.NotEqual("að", TokenText(tokenizer, tokenizer.Encode("a𝟗")[0]));
    }

    [Fact]
    public void Merges_may_be_strings_and_may_be_ignored_for_whole_words()
    {
        ModelTokenizer strings = Parse(json =>
        {
            JsonArray merges = json["model"]!["merges"]!.AsArray();
            json["model"]!["merges"] = new JsonArray([.. merges.Select(merge => (JsonNode)$"{merge![0]} {merge[1]}")]);
        });
        Assert.Equal(Small.Encode("Now is the winter"), strings.Encode("Now is the winter"));

        ModelTokenizer ignoring = Parse(json => json["model"]!["ignore_merges"] = true, "zqzqz");
        Assert.Equal([1024], ignoring.Encode("zqzqz"));
        Assert.Equal(5, Parse(_ => { }, "zqzqz").Encode("zqzqz").Length);
    }

    [Fact]
    public void Longest_added_token_wins_and_normalized_ones_are_sought_in_the_normal_form()
    {
        ModelTokenizer tokenizer = Parse(json =>
        {
            JsonArray added = json["added_tokens"]!.AsArray();
            added.Add(JsonNode.Parse("""{"id":1030,"content":"<|im_start|>!","normalized":false,"special":false}"""));
            added.Add(JsonNode.Parse("""{"id":1031,"content":"é é","normalized":true,"special":false}"""));
        });
        Assert.Equal([1030], tokenizer.Encode("<|im_start|>!"));
        Assert.Equal([1031, 1022], tokenizer.Encode("e\u0301 e\u0301<|im_start|>"));
        Assert.Equal("é é", tokenizer.Decode([1031]));
        Assert.Equal("", tokenizer.Decode([1025]));
    }

    [Theory]
    [InlineData("normalizer", """{"type":"NFKC"}""", "normalizer has the type 'NFKC'")]
    [InlineData("pre_tokenizer", """{"type":"Whitespace"}""", "'Whitespace'")]
    [InlineData("pre_tokenizer", "null", "lacks 'pre_tokenizer'")]
    [InlineData("pre_tokenizer", """{"type":"Sequence","pretokenizers":[]}""", "has 0 steps")]
    [InlineData("pre_tokenizer", """{"type":"Sequence","pretokenizers":[7]}""", "pretokenizers[0] is 7, expected an object")]
    [InlineData("pre_tokenizer", """{"type":"ByteLevel"}""", "sets add_prefix_space")]
    [InlineData("normalizer", """{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Lowercase"}]}""", "normalizers[1] has the type 'Lowercase'")]
    [InlineData("decoder", """{"type":"Sequence","decoders":[{"type":"ByteLevel"},{"type":"Strip"}]}""", "'ByteLevel, Strip'")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"a"},"behavior":"Isolated"}""", "does not end with 'ByteLevel'")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"a"},"behavior":"Removed"}""", "behavior 'Removed'")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"a"},"behavior":"Isolated","invert":true}""", "inverted")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"String":"a"},"behavior":"Isolated"}""", "lacks the field 'Regex'")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated"}""", "not a regular expression")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"[[:alpha:]]"},"behavior":"Isolated"}""", "contains '[['")]
    [InlineData("decoder", """{"type":"Metaspace"}""", "decoder has the type 'Metaspace'")]
    [InlineData("post_processor", """{"type":"BertProcessing"}""", "has the type 'BertProcessing'")]
    [InlineData("post_processor", """{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]}""", "adds '<s>' to every text")]
    [InlineData("post_processor", """{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"</s>"}}]}]}""", "processors[1] adds '</s>'")]
    [InlineData("model", """{"type":"Unigram"}""", "model has the type 'Unigram', but only 'BPE'")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":0},"merges":[]}""", "vocab lacks 'Ā', the token of byte 0")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":-1},"merges":[]}""", "vocab.a is -1")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":99999999},"merges":[]}""", "vocab.a is 99999999")]
    [InlineData("model", """{"type":"BPE","end_of_word_suffix":"</w>"}""", "end_of_word_suffix is '</w>'")]
    [InlineData("model", """{"type":"BPE","dropout":0.1}""", "dropout is 0.1")]
    [InlineData("added_tokens", """[{"id":3,"content":"<x>"}]""", "gives id 3 to")]
    [InlineData("added_tokens", """[{"id":1021,"content":"<x>"},{"id":1021,"content":"<y>"}]""", "repeats the text or id")]
    [InlineData("added_tokens", """[{"id":1021,"content":""}]""", "is empty")]
    [InlineData("added_tokens", """[{"id":1021,"content":"the"}]""", "in the vocabulary")]
    [InlineData("added_tokens", """[{"id":1021,"content":"<x>","lstrip":true}]""", "sets lstrip")]
    [InlineData("added_tokens", """{}""", "expected an array")]
    public void Unsupported_or_damaged_part_is_refused_by_name(string part, string value, string expected)
    {
        string message = Assert.Throws<ModelFormatException>(() => Parse(json => json[part] = JsonNode.Parse(value))).Message;
        Assert.StartsWith("tokenizer.json: ", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""["a"]""", "has 1 parts")]
    [InlineData("\"a b c\"", "has 3 parts")]
    [InlineData("""["q","zzz"]""", "not in the vocabulary")]
    [InlineData("""["Ġ","t"]""", "a second time")]
    [InlineData("5", "expected an array")]
    public void Bad_merge_is_refused(string merge, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => Parse(json => json["model"]!["merges"]!.AsArray().Add(JsonNode.Parse(merge)))).Message, StringComparison.Ordinal);

    [Fact]
    public void Pattern_that_backtracks_without_end_is_stopped()
    {
        ModelTokenizer tokenizer = Parse(json => json["pre_tokenizer"]!["pretokenizers"]![0]!["pattern"]!["Regex"] = "(a+)+b");
        Assert.Contains("takes more than", Assert.Throws<ModelFormatException>(() => tokenizer.Encode(new string('a', 100))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Leftovers_that_change_no_id_are_accepted()
    {
        const string Text = "Now is the winter,  don't <|im_start|>\n\n 123";
        foreach (Action<JsonNode> change in (Action<JsonNode>[])
        [
            json => json["truncation"] = JsonNode.Parse("""{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}"""),
            json => json["padding"] = JsonNode.Parse("""{"strategy":{"Fixed":512},"direction":"Left","pad_to_multiple_of":8,"pad_id":0,"pad_type_id":0,"pad_token":"!"}"""),
            json => json["post_processor"] = JsonNode.Parse("""{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}}"""),
            json => json["post_processor"] = JsonNode.Parse("""{"type":"Sequence","processors":[{"type":"ByteLevel"}]}"""),
            json => json["post_processor"] = null,
            json => json["normalizer"] = JsonNode.Parse("""{"type":"Sequence","normalizers":[{"type":"NFC"}]}"""),
            json => json["decoder"] = JsonNode.Parse("""{"type":"Sequence","decoders":[{"type":"ByteLevel"},{"type":"Fuse"}]}"""),
            json => json["model"]!["unk_token"] = "<|endoftext|>",
            json => (json["model"]!["byte_fallback"], json["model"]!["fuse_unk"], json["model"]!["dropout"]) = (true, true, 0.0),
            json => json["model"]!.AsObject().Remove("type"),
            json => json["added_tokens"]!.AsArray().Add(json["added_tokens"]![0]!.DeepClone()),
            json => json["version"] = "2.0",
        ])
        {
            ModelTokenizer tokenizer = Parse(change);
            Assert.Equal(Small.Encode(Text), tokenizer.Encode(Text));
            Assert.Equal(Text, tokenizer.Decode(tokenizer.Encode(Text)));
        }
    }

    [Fact]
    public void Byte_level_that_splits_itself_does_so_as_gpt_2()
    {
        // Digits in a run, letters without a sign before them: unlike the small checkpoint's own pattern.
        const string Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        ModelTokenizer own = Parse(json => json["pre_tokenizer"] = JsonNode.Parse("""{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}"""));
        ModelTokenizer split = Parse(json => json["pre_tokenizer"]!["pretokenizers"]![0]!["pattern"]!["Regex"] = Pattern);
        const string Text = "I'll say 'tis 1234 of (the) winter's\n\n  don't\t\tre've  end ";
        Assert.Equal(split.Encode(Text), own.Encode(Text));
        Assert.Equal(Text, own.Decode(own.Encode(Text)));
    }

    [Fact]
    public void Tokens_added_in_the_settings_are_added_and_others_stay_as_they_are()
    {
        ModelTokenizer tokenizer = ParseSettings("""
            {"added_tokens_decoder": {"1021": {"content": "<|endoftext|>", "special": true}, "5000": {"content": "<|im_end|>"},
             "1024": {"content": "<|tool|>", "special": true, "normalized": false}}}
            """);
        Assert.Equal([1024, 1023], tokenizer.Encode("<|tool|><|im_end|>"));
        Assert.True(tokenizer.IsSpecial(1024));
        Assert.Equal("<|tool|>", tokenizer.Decode([1024]));
    }

    [Theory]
    [InlineData("""{"add_bos_token": true, "bos_token": "<|endoftext|>"}""", "has add_bos_token true: '<|endoftext|>' would be added to every text")]
    [InlineData("""{"add_eos_token": true, "eos_token": {"content": "<|endoftext|>"}}""", "has add_eos_token true")]
    [InlineData("""{"added_tokens_decoder": {"1021": {"content": "<new>"}}}""", "added_tokens_decoder.1021 ('<new>', id 1021) is empty or repeats")]
    [InlineData("""{"added_tokens_decoder": {"x": {"content": "<new>"}}}""", "added_tokens_decoder.x ('<new>') should be the id of a token")]
    [InlineData("""{"added_tokens_decoder": {"1030": {"content": "<new>", "rstrip": true}}}""", "sets rstrip")]
    public void Setting_that_is_not_supported_is_refused(string settings, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => ParseSettings(settings)).Message, StringComparison.Ordinal);

    [Fact]
    public void Flag_without_its_token_adds_nothing() =>
        Assert.Equal(Small.Encode("x"), ParseSettings("""{"add_bos_token": true, "bos_token": null, "add_eos_token": false}""").Encode("x"));

    [Fact]
    public void Missing_file_is_told_from_the_older_pair_of_files()
    {
        using var directory = new ModelDirectory();
        Assert.DoesNotContain("vocab.json", Assert.Throws<ModelFormatException>(() => ModelTokenizer.Load(directory.Path)).Message, StringComparison.Ordinal);
        directory.Write("vocab.json", "{}");
        directory.Write("merges.txt", "a b");
        Assert.Contains("vocab.json and merges.txt are there", Assert.Throws<ModelFormatException>(() => ModelTokenizer.Load(directory.Path)).Message, StringComparison.Ordinal);
    }

    private static ModelTokenizer ParseSettings(string settings)
    {
        using var directory = new ModelDirectory();
        File.Copy(Path.Combine(TinyShakespeare.Directory, "tokenizer.json"), Path.Combine(directory.Path, "tokenizer.json"));
        directory.Write("tokenizer_config.json", settings);
        return ModelTokenizer.Load(directory.Path);
    }

    /// <summary>The small tokenizer with <paramref name="change"/> applied and, if given, one more token of id 1024.</summary>
    private static ModelTokenizer Parse(Action<JsonNode> change, string? token = null)
    {
        JsonNode json = JsonNode.Parse(File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "tokenizer.json")))!;
        if (token is not null)
        {
            json["model"]!["vocab"]![token] = 1024;
        }
        change(json);
        return new ModelTokenizer(ModelJson.Parse("tokenizer.json", Encoding.UTF8.GetBytes(json.ToJsonString())));
    }

    private static string TokenText(ModelTokenizer tokenizer, int id) => Encoding.Latin1.GetString(tokenizer.TokenBytes(id, skipSpecialTokens: false));
}
