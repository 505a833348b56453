using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Models;

public class GenerationConfigTests
{
    [Fact]
    public void Small_checkpoint_samples_by_its_file()
    {
        GenerationConfig config = GenerationConfig.Load(TinyShakespeare.Directory);
        Assert.Equal((true, 0.8, 40, 0.95), (config.Sample, config.Temperature, config.TopK, config.TopP));
        Assert.Equal([1021], config.EosTokenIds);
    }

    [Fact]
    public void Fields_of_penalties_length_and_stops_are_taken()
    {
        var config = Parse("""
            {"min_p": 0.1, "repetition_penalty": 1.05, "presence_penalty": 1.5, "frequency_penalty": -0.5, "suppress_tokens": [295, 3],
             "min_length": 10, "min_new_tokens": 4, "stop_strings": ["\n\n", "", "END"], "do_sample": true}
            """);
        Assert.Equal((0.1, 1.05, 1.5, -0.5), (config.MinP, config.RepetitionPenalty, config.PresencePenalty, config.FrequencyPenalty));
        Assert.Equal((10, 4), (config.MinLength, config.MinNewTokens));
        Assert.Equal([295, 3], config.SuppressTokens);
        Assert.Equal(["\n\n", "END"], config.StopStrings);
        Assert.Empty(config.NotApplied);
        Assert.Equal(["END"], Parse("""{"stop_strings": "END"}""").StopStrings);
        Assert.Empty(Parse("""{"stop_strings": null, "suppress_tokens": null}""").StopStrings);
    }

    [Fact]
    public void Absent_file_means_greedy()
    {
        using var directory = new ModelDirectory();
        GenerationConfig config = GenerationConfig.Load(directory.Path);
        Assert.Equal((false, 1.0, 0, 1.0), (config.Sample, config.Temperature, config.TopK, config.TopP));
        Assert.Empty(config.EosTokenIds);
    }

    [Theory]
    [InlineData("""{"temperature": -0.5}""", "temperature is -0.5")]
    [InlineData("""{"temperature": 1e400}""", "temperature")]
    [InlineData("""{"top_k": -1}""", "top_k is -1")]
    [InlineData("""{"top_p": 1.5}""", "top_p is 1.5, expected a number from 0 to 1")]
    [InlineData("""{"min_p": -0.1}""", "min_p is -0.1, expected a number from 0 to 1")]
    [InlineData("""{"repetition_penalty": -1}""", "repetition_penalty is -1")]
    [InlineData("""{"presence_penalty": 3}""", "presence_penalty is 3, expected a number from -2 to 2")]
    [InlineData("""{"suppress_tokens": ["a"]}""", "suppress_tokens[0] is the string 'a'")]
    [InlineData("""{"stop_strings": 5}""", "stop_strings is 5")]
    [InlineData("""{"do_sample": "yes"}""", "do_sample is the string 'yes'")]
    [InlineData("""{"eos_token_id": {}}""", "eos_token_id is an object")]
    [InlineData("""nothing""", "not valid JSON")]
    public void Bad_value_is_refused(string text, string expected)
    {
        using var directory = new ModelDirectory();
        directory.Write("generation_config.json", text);
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => GenerationConfig.Load(directory.Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"typical_p": 0.9}""", "typical_p 0.9")]
    [InlineData("""{"num_beams": 4}""", "num_beams 4")]
    [InlineData("""{"no_repeat_ngram_size": 3}""", "no_repeat_ngram_size 3")]
    [InlineData("""{"bad_words_ids": [[1]]}""", "bad_words_ids [[1]]")]
    [InlineData("""{"max_new_tokens": 512}""", "max_new_tokens 512")]
    [InlineData("""{"max_length": 4096}""", "max_length 4096")]
    [InlineData("""{"forced_eos_token_id": 0}""", "forced_eos_token_id 0")]
    [InlineData("""{"forced_bos_token_id": 7}""", "forced_bos_token_id 7")]
    [InlineData("""{"penalty_alpha": 0.6}""", "penalty_alpha 0.6")]
    [InlineData("""{"epsilon_cutoff": 3e-4}""", "epsilon_cutoff 3e-4")]
    [InlineData("""{"guidance_scale": 1.5}""", "guidance_scale 1.5")]
    [InlineData("""{"sequence_bias": {"5": 2.0}}""", "sequence_bias {\"5\":2.0}")]
    [InlineData("""{"cache_implementation": "quantized"}""", "cache_implementation 'quantized'")]
    [InlineData("""{"dola_layers": "high"}""", "dola_layers 'high'")]
    [InlineData("""{"some_new_field": "fast"}""", "some_new_field 'fast'")]
    [InlineData("""{"some_new_field": 2, "repetition_penalty": 5, "no_repeat_ngram_size": 5}""", "some_new_field 2;no_repeat_ngram_size 5")]
    public void Field_that_is_not_applied_is_named_with_its_value(string text, string expected) =>
        Assert.Equal(expected, string.Join(";", Parse(text).NotApplied));

    [Theory]
    [InlineData("""{"repetition_penalty": 1.0, "typical_p": 1, "num_beams": 1, "guidance_scale": 1, "max_length": 20, "num_beam_groups": 1}""")]
    [InlineData("""{"min_p": 0.0, "min_p_": null, "suppress_tokens": [], "bad_words_ids": null, "no_repeat_ngram_size": 0, "min_length": 0, "stop_strings": ""}""")]
    [InlineData("""{"transformers_version": "4.51.0", "_from_model_config": true, "bos_token_id": 1, "pad_token_id": 1021, "use_cache": false}""")]
    [InlineData("""{"length_penalty": 2.0, "early_stopping": true, "cache_implementation": "static", "output_scores": true, "renormalize_logits": true}""")]
    [InlineData("""{"some_new_field": false, "another": 0, "third": [], "fourth": {}}""")]
    [InlineData("""{"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643], "pad_token_id": 151643, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "transformers_version": "4.51.0"}""")]
    public void Neutral_values_and_records_are_not_named(string text) => Assert.Empty(Parse(text).NotApplied);

    [Fact]
    public void Null_is_as_good_as_absent_and_one_token_as_good_as_a_list()
    {
        GenerationConfig config = Parse("""{"do_sample": null, "temperature": null, "top_k": null, "top_p": null, "eos_token_id": null}""");
        Assert.Equal((false, 1.0, 0, 1.0), (config.Sample, config.Temperature, config.TopK, config.TopP));
        Assert.Empty(config.EosTokenIds);
        Assert.Equal([7], Parse("""{"eos_token_id": 7}""").EosTokenIds);
        Assert.Equal([7, 8], Parse("""{"eos_token_id": [7, 8]}""").EosTokenIds);
        Assert.Equal(0, Parse("""{"temperature": 0}""").Temperature);
    }

    [Fact]
    public void Without_the_file_the_fields_in_config_are_taken()
    {
        using var directory = new ModelDirectory();
        directory.Write("config.json", """{"hidden_size": 256, "do_sample": true, "top_p": 0.9, "repetition_penalty": 1.2, "typical_p": 0.9, "eos_token_id": 5}""");
        GenerationConfig config = GenerationConfig.Load(directory.Path);
        Assert.Equal((true, 0.9), (config.Sample, config.TopP));
        Assert.Equal([5], config.EosTokenIds);
        Assert.Equal(1.2, config.RepetitionPenalty);
        Assert.Equal(["typical_p 0.9"], config.NotApplied);

        directory.Write("generation_config.json", "{}");
        Assert.Equal((false, 1.0), (GenerationConfig.Load(directory.Path).Sample, GenerationConfig.Load(directory.Path).TopP));
    }

    private static GenerationConfig Parse(string text)
    {
        using var directory = new ModelDirectory();
        directory.Write("generation_config.json", text);
        return GenerationConfig.Load(directory.Path);
    }
}
