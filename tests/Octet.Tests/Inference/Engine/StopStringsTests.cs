using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Engine;

public sealed class StopStringsTests : IDisposable
{
    private readonly Device _device = Device.Open("cpu");
    private readonly LanguageModel _model;

    public StopStringsTests() => _model = TinyModel.Load(_device);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _model.Dispose();
        _device.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_text_in_any_pieces_ends_where_the_first_stop_string_is_complete(bool include)
    {
        var random = new Random(1);
        var found = 0;
        for (var run = 0; run < 3000; run++)
        {
            // Two letters, so that strings overlap themselves and one another.
            string Letters(int length) => string.Concat(Enumerable.Range(0, length).Select(_ => random.Next(2) == 0 ? 'a' : 'b'));
            var text = Letters(random.Next(30));
            string[] stops = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Letters(random.Next(1, 7)))];
            var ends = stops.Where(text.Contains).Select(stop => (End: text.IndexOf(stop, StringComparison.Ordinal) + stop.Length, Stop: stop)).ToArray();
            var (end, first) = ends.Length == 0 ? (text.Length, null) : ends.OrderBy(e => e.End).ThenByDescending(e => e.Stop.Length).First();
            var expected = include || first is null ? text[..end] : text[..(end - first.Length)];

            var scanner = new StopStrings(stops, include);
            var (given, stopped, place) = ("", (string?)null, 0);
            while (place < text.Length && stopped is null)
            {
                var length = Math.Min(random.Next(4), text.Length - place);
                (var piece, stopped) = scanner.Push(text.Substring(place, length));
                given += piece;
                place += length;
                Assert.StartsWith(given, expected, StringComparison.Ordinal);
            }

            given += stopped is null ? scanner.Flush() : "";
            Assert.Equal((expected, first), (given, stopped));
            found += first is null ? 0 : 1;
        }

        Assert.InRange(found, 500, 2900);
    }

    [Fact]
    public async Task A_stop_string_that_spans_tokens_ends_the_text_before_it_and_nothing_of_it_is_given()
    {
        var whole = await _model.CompleteAsync("ROMEO:", new() { MaxTokens = 40, Temperature = 0, IgnoreEndOfText = true }, Cancellation);
        for (var start = 3; start < 60; start += 7)
        {
            foreach (var length in (int[])[1, 4, 11])
            {
                var stop = whole.Text.Substring(start, length);
                var expected = whole.Text[..whole.Text.IndexOf(stop, StringComparison.Ordinal)];
                var options = new GenerationOptions
                {
                    MaxTokens = 40, Temperature = 0, IgnoreEndOfText = true, StopStrings = ["never so", stop], Logprobs = 0,
                };
                var given = "";
                await foreach (var token in _model.GenerateAsync("ROMEO:", options, Cancellation))
                {
                    Assert.Equal(token.StopString is null ? null : FinishReason.Stop, token.FinishReason);
                    given += token.Text;
                    Assert.StartsWith(given, expected, StringComparison.Ordinal);
                }

                Assert.Equal(expected, given);
                var completion = await _model.CompleteAsync("ROMEO:", options with { IncludeStopString = true }, Cancellation);
                Assert.Equal((expected + stop, stop, FinishReason.Stop), (completion.Text, completion.StopString, completion.FinishReason));
                Assert.Equal(whole.Ids.Take(completion.Ids.Count), completion.Ids);
                Assert.Equal(completion.Ids.Count, completion.Logprobs.Count);
                Assert.Contains(stop, _model.Tokenizer.Decode([.. completion.Ids]), StringComparison.Ordinal);
            }
        }
    }

    // The engine itself ends a text with the token that completes its stop string, also amid the proposals of a step.
    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public async Task No_token_is_drawn_behind_a_stop_string(int proposals)
    {
        // Prompts that repeat themselves, so that proposals are accepted.
        int[][] prompts = [.. Enumerable.Range(0, 12).Select(i => (int[])[.. Enumerable.Range(0, 96).Select(at => 40 + (at + i) % 8)])];
        var options = new GenerationOptions { MaxTokens = 40, Temperature = 0, IgnoreEndOfText = true };
        var whole = await Task.WhenAll(prompts.Select(prompt => _model.CompleteAsync(prompt, options, Cancellation)));

        using var model = LanguageModel.Load(TinyModel.Directory, _device, new() { KvCacheTokens = 4096, Speculate = proposals });
        var texts = await Task.WhenAll(prompts.Select((prompt, i) => model.GenerateAsync(
            prompt, options with { StopStrings = [whole[i].Text.Substring(20 + i, 3)] }, Cancellation).ToListAsync(Cancellation).AsTask()));
        Assert.All(texts, text => Assert.NotNull(text[^1].StopString));
        Assert.Equal(texts.Sum(text => text.Count), model.Statistics.GeneratedTokens);
    }

    [Fact]
    public async Task What_was_held_back_for_a_stop_string_is_given_at_the_end()
    {
        var options = new GenerationOptions { MaxTokens = 20, Temperature = 0, IgnoreEndOfText = true };
        var whole = await _model.CompleteAsync("ROMEO:", options, Cancellation);
        var completion = await _model.CompleteAsync("ROMEO:", options with { StopStrings = [whole.Text[^6..] + "~"] }, Cancellation);
        Assert.Equal((whole.Text, FinishReason.Length, null), (completion.Text, completion.FinishReason, completion.StopString));
    }

    [Fact]
    public async Task Stop_tokens_and_strings_wait_for_the_least_number_of_tokens()
    {
        var options = new GenerationOptions { MaxTokens = 30, Temperature = 0, IgnoreEndOfText = true };
        var whole = await _model.CompleteAsync("ROMEO:", options, Cancellation);
        var ended = await _model.CompleteAsync("ROMEO:", options with { StopTokenIds = [whole.Ids[4]] }, Cancellation);
        Assert.Equal(whole.Ids.TakeWhile(id => id != whole.Ids[4]), ended.Ids);
        Assert.Equal((FinishReason.Stop, null), (ended.FinishReason, ended.StopString));

        var later = await _model.CompleteAsync("ROMEO:", options with { StopTokenIds = [whole.Ids[4]], MinTokens = 10 }, Cancellation);
        Assert.InRange(later.Ids.Count, 10, 30);
        Assert.DoesNotContain(whole.Ids[4], later.Ids);

        var stop = whole.Text[2..4];
        var late = await _model.CompleteAsync("ROMEO:", options with { StopStrings = [stop], MinTokens = 12 }, Cancellation);
        Assert.StartsWith(_model.Tokenizer.Decode([.. whole.Ids.Take(11)]), late.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_character_whose_first_half_is_the_end_of_the_prompt_is_given_whole_by_the_token_that_completes_it()
    {
        int[] halves = [.. _model.Tokenizer.Encode("\u00e9")];
        Assert.Equal(2, halves.Length);
        int[] prompt = [.. _model.Tokenizer.Encode("ROMEO:"), halves[0]];
        var options = new GenerationOptions { MaxTokens = 1, Temperature = 0, LogitBias = new Dictionary<int, float> { [halves[1]] = 1000 } };
        Assert.Equal("\u00e9", (await _model.CompleteAsync(prompt, options, Cancellation)).Text);

        // And one whose first half is the end of the text.
        options = options with { LogitBias = new Dictionary<int, float> { [halves[0]] = 1000 } };
        Assert.Equal("\uFFFD", (await _model.CompleteAsync("ROMEO:", options, Cancellation)).Text);
    }

    [Fact]
    public async Task Defaults_of_the_checkpoint_are_those_of_its_generation_config()
    {
        using var directory = new ModelDirectory();
        foreach (var file in (string[])["config.json", "tokenizer.json", "tokenizer_config.json"])
        {
            File.Copy(Path.Combine(TinyModel.Directory, file), Path.Combine(directory.Path, file));
        }

        File.CreateSymbolicLink(Path.Combine(directory.Path, "model.safetensors"), Path.Combine(TinyModel.Directory, "model.safetensors"));
        directory.Write("generation_config.json", """
            {"do_sample": true, "temperature": 0.9, "top_k": 30, "min_p": 0.05, "repetition_penalty": 1.2, "presence_penalty": 0.5,
             "frequency_penalty": 0.25, "suppress_tokens": [295, 299], "min_length": 20, "eos_token_id": [198, 11], "stop_strings": "and"}
            """);
        using var model = TinyModel.Load(_device, directory: directory.Path);
        int[] prompt = [.. _model.Tokenizer.Encode("ROMEO:")];
        var same = new GenerationOptions
        {
            MaxTokens = 60, Temperature = 0.9f, TopK = 30, TopP = 1, MinP = 0.05f, RepetitionPenalty = 1.2f, PresencePenalty = 0.5f, FrequencyPenalty = 0.25f,
            LogitBias = new Dictionary<int, float> { [295] = float.NegativeInfinity, [299] = float.NegativeInfinity }, MinTokens = 20 - prompt.Length,
            IgnoreEndOfText = true, StopTokenIds = [198, 11], StopStrings = ["and"],
        };
        for (var seed = 0; seed < 8; seed++)
        {
            var expected = await _model.CompleteAsync(prompt, same with { Seed = seed }, Cancellation);
            var completion = await model.CompleteAsync(prompt, new() { MaxTokens = 60, Seed = seed }, Cancellation);
            Assert.Equal(expected.Ids, completion.Ids);
            Assert.Equal((expected.Text, expected.FinishReason, expected.StopString), (completion.Text, completion.FinishReason, completion.StopString));
        }

        // And what is given stands in their place.
        var plain = new GenerationOptions
        {
            MaxTokens = 10, Temperature = 0, TopK = 0, MinP = 0, RepetitionPenalty = 1, PresencePenalty = 0, FrequencyPenalty = 0, MinTokens = 0, StopStrings = [], IgnoreEndOfText = true,
        };
        Assert.DoesNotContain(295, (await model.CompleteAsync(prompt, plain, Cancellation)).Ids);
    }
}
