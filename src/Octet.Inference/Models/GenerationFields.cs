using System.Collections.Frozen;
using System.Globalization;
using System.Text.Json;
using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>The fields of generation_config.json that this library does not apply, and the values at which that makes no difference.</summary>
internal static class GenerationFields
{
    // Records; what is computed, kept and given out besides the tokens; and parameters of searches that other fields switch on.
    private static readonly FrozenSet<string> WithoutEffect = FrozenSet.Create(
        "_from_model_config", "_commit_hash", "_original_object_hash", "transformers_version", "bos_token_id", "pad_token_id", "decoder_start_token_id",
        "use_cache", "cache_config", "return_legacy_cache", "prefill_chunk_size", "output_attentions", "output_hidden_states", "output_scores",
        "output_logits", "return_dict_in_generate", "compile_config", "disable_compile", "low_memory", "remove_invalid_values", "renormalize_logits",
        "early_stopping", "length_penalty", "diversity_penalty", "encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "is_assistant",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind",
        "target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size", "trust_remote_code");

    // With these values, or off (null, false, 0, nothing in it), they change nothing.
    private static readonly FrozenDictionary<string, string> Neutral = new Dictionary<string, string>
    {
        ["typical_p"] = "1",
        ["top_h"] = "",
        ["epsilon_cutoff"] = "0",
        ["eta_cutoff"] = "0",
        ["no_repeat_ngram_size"] = "0",
        ["num_beams"] = "1",
        ["num_beam_groups"] = "1",
        ["num_return_sequences"] = "1",
        ["penalty_alpha"] = "0",
        ["guidance_scale"] = "1",
        ["dola_layers"] = "",
        ["bad_words_ids"] = "",
        ["force_words_ids"] = "",
        ["constraints"] = "",
        ["forced_bos_token_id"] = "",
        ["forced_eos_token_id"] = "",
        ["forced_decoder_ids"] = "",
        ["exponential_decay_length_penalty"] = "",
        ["begin_suppress_tokens"] = "",
        ["sequence_bias"] = "",
        ["watermarking_config"] = "",
        ["token_healing"] = "",
        ["max_time"] = "",
        ["max_length"] = "20",
        ["max_new_tokens"] = "",
        ["cache_implementation"] = "",
    }.ToFrozenDictionary();

    // Ids of tokens: 0 is one of them.
    private static readonly FrozenSet<string> ZeroMeansSomething = FrozenSet.Create("forced_bos_token_id", "forced_eos_token_id");

    /// <summary>The fields that <see cref="GenerationConfig"/> applies.</summary>
    public static readonly FrozenSet<string> Applied = FrozenSet.Create(
        "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "suppress_tokens",
        "min_length", "min_new_tokens", "stop_strings", "eos_token_id");

    /// <summary>Whether it is a field of generation_config.json, which older versions of transformers wrote into config.json.</summary>
    public static bool IsKnown(string name) => Applied.Contains(name) || Neutral.ContainsKey(name) || WithoutEffect.Contains(name);

    /// <summary>Whether this value of a field makes a difference that is not made here; so does every value of an unknown field, unless it is off.</summary>
    public static bool IsMissed(string name, ModelJson value)
    {
        if (Applied.Contains(name) || WithoutEffect.Contains(name) || value.Element.ValueKind == JsonValueKind.Null)
        {
            return false;
        }
        if (ConfigFields.IsOff(value.Element))
        {
            // 0 is off for most, but no penalty of 0: it divides.
            return value.Element.ValueKind == JsonValueKind.Number && (ZeroMeansSomething.Contains(name) || Neutral.GetValueOrDefault(name) == "1");
        }
        return name switch
        {
            // Where keys and values are kept, not what they are, but for a quantised cache.
            "cache_implementation" => value.AsText() == "quantized",
            _ => !Neutral.TryGetValue(name, out string? neutral)
                || !(value.Element.ValueKind == JsonValueKind.Number && value.Element.TryGetDouble(out double number) && number.ToString(CultureInfo.InvariantCulture) == neutral),
        };
    }
}
