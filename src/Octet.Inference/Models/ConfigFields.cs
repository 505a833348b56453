using System.Collections.Frozen;
using System.Globalization;
using System.Text.Json;
using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>
/// What becomes of the fields of config.json that nothing was built from. A field passes if it is one that never changes what the model computes,
/// if it has the one value by which this library computes, or if it is unknown and off; the rest is refused by name.
/// </summary>
internal static class ConfigFields
{
    // Records, numerics, training, caches, and the ids of tokens that a generator has no use for.
    private static readonly FrozenSet<string> WithoutEffect = FrozenSet.Create(
        "_name_or_path", "name_or_path", "_commit_hash", "_from_model_config", "transformers_version", "transformers.js_config", "transformers_weights",
        "auto_map", "trust_remote_code", "model_name", "base_model", "base_model_name_or_path", "license", "unsloth_fixed", "unsloth_version", "torch_dtype", "dtype", "use_bfloat16", "torchscript", "return_dict",
        "use_return_dict", "use_cache", "keys_to_ignore_at_inference", "_attn_implementation", "_attn_implementation_internal",
        "_attn_implementation_autoset", "attn_implementation", "_flash_attn_2_enabled", "use_flash_attn", "_experts_implementation",
        "experts_implementation", "_moe_implementation", "moe_implementation", "gradient_checkpointing", "chunk_size_feed_forward", "pretraining_tp",
        "ep_size", "initializer_range", "init_std", "router_jitter_noise", "neftune_noise_alpha", "bos_token_id", "pad_token_id", "sep_token_id",
        "unk_token_id", "cls_token_id", "mask_token_id", "decoder_start_token_id", "tokenizer_class", "model_max_length", "max_sequence_length",
        "max_seq_len", "seq_length", "id2label", "label2id", "num_labels", "finetuning_task", "task_specific_params", "problem_type", "prefix", "is_decoder",
        "tf_legacy_loss", "max_window_layers", "original_max_position_embeddings", "num_nextn_predict_layers");

    // Known to mean something, of which this library computes one case; the first value is the one to name.
    private static readonly FrozenDictionary<string, string[]> OneValue = new Dictionary<string, string[]>
    {
        ["hidden_act"] = ["silu", "swish"],
        ["hidden_activation"] = ["silu", "swish"],
        ["use_qk_norm"] = ["true"],
        ["qk_norm"] = ["true"],
        ["qk_layernorm"] = ["true"],
        ["use_qk_layernorm"] = ["true"],
        ["qk_layer_norm"] = ["true"],
        ["use_rope"] = ["true"],
        ["is_causal"] = ["true"],
        ["causal"] = ["true"],
        ["use_causal_mask"] = ["true"],
        ["scale_attn_weights"] = ["true"],
        ["partial_rotary_factor"] = ["1"],
        ["rotary_pct"] = ["1"],
        ["rotary_percent"] = ["1"],
        ["residual_multiplier"] = ["1"],
        ["embedding_multiplier"] = ["1"],
        ["logits_scaling"] = ["1"],
        ["logit_scale"] = ["1"],
        ["scoring_func"] = ["softmax"],
        ["score_func"] = ["softmax"],
        ["score_function"] = ["softmax"],
        ["topk_method"] = ["greedy"],
        ["n_group"] = ["1", "0"],
        ["topk_group"] = ["1", "0"],
        ["routed_scaling_factor"] = ["1"],
        ["moe_routed_scaling_factor"] = ["1"],
        ["moe_layer_freq"] = ["1"],
        ["interleave_moe_layer_step"] = ["1"],
        ["full_attention_interval"] = ["1"],
    }.ToFrozenDictionary();

    // Known to mean something that this library has only off.
    private static readonly FrozenSet<string> OnlyOff = FrozenSet.Create(
        "attention_chunk_size", "logit_softcapping", "final_logit_softcapping", "attn_logit_softcapping", "router_logit_softcapping", "clip_qkv",
        "num_shared_experts", "n_shared_experts", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "shared_intermediate_size", "first_k_dense_replace", "mlp_bias", "qkv_bias", "use_bias", "use_expert_bias", "moe_router_enable_expert_bias",
        "attn_output_gate", "use_attention_sinks", "no_rope_layers", "no_rope_layer_interval", "rope_interleave", "rope_interleaved", "use_mrope",
        "q_lora_rank", "kv_lora_rank", "alibi", "num_kv_shared_layers", "is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder",
        "sparse_attention_config", "sliding_window_pattern", "per_layer_config", "pruned_heads", "vision_config", "audio_config");

    private static readonly FrozenSet<string> RopeWithoutEffect = FrozenSet.Create(
        "rope_type", "type", "rope_theta", "original_max_position_embeddings", "finetuned");

    private static readonly FrozenDictionary<string, string[]> RopeOneValue = new Dictionary<string, string[]>
    {
        ["factor"] = ["1"],
        ["attention_factor"] = ["1"],
        ["attn_factor"] = ["1"],
        ["extrapolation_factor"] = ["1"],
        ["partial_rotary_factor"] = ["1"],
    }.ToFrozenDictionary();

    /// <summary>Refuses what is left of config.json if it would change what the model computes.</summary>
    /// <param name="json">The file, of which everything that is used was asked for.</param>
    /// <param name="headDim">Values per head.</param>
    /// <param name="architecture">Whose own rules go first.</param>
    public static void Check(ModelJson json, int headDim, Architecture architecture)
    {
        foreach (var (name, value) in json.NotAskedFor())
        {
            if (architecture.OneValue.TryGetValue(name, out string[]? supported) || OneValue.TryGetValue(name, out supported))
            {
                CheckOneValue(value, supported);
            }
            else if (architecture.WithoutEffect.Contains(name))
            {
                continue;
            }
            else if (OnlyOff.Contains(name))
            {
                if (!IsOff(value.Element))
                {
                    throw value.Bad($"is {value.Brief()}, which changes what the model computes and is not supported");
                }
            }
            else if (!WithoutEffect.Contains(name) && !IsTraining(name) && !GenerationFields.IsKnown(name) && !IsOff(value.Element) && !IsUsualScale(name, value, headDim))
            {
                throw value.Bad($"is {value.Brief()}, a field this library does not know: the model would be computed as if it were not there; remove it if that is right");
            }
        }
    }

    /// <summary>Refuses what is left of the parameters of rotary embeddings.</summary>
    public static void CheckRope(ModelJson rope, string type)
    {
        foreach (var (name, value) in rope.NotAskedFor())
        {
            bool known = RopeOneValue.TryGetValue(name, out string[]? supported);
            if (known && supported!.Contains(ValueText(value.Element)) || !known && (RopeWithoutEffect.Contains(name) || IsOff(value.Element)))
            {
                continue;
            }
            throw value.Bad($"is {value.Brief()}, which rotary embeddings of the type '{type}' do not use; remove it, or name the type it belongs to as rope_type");
        }
    }

    /// <summary>Refuses what is left of an object but for some members.</summary>
    public static void CheckMembers(ModelJson value, IReadOnlySet<string> withoutEffect)
    {
        foreach (var (name, member) in value.NotAskedFor())
        {
            if (!withoutEffect.Contains(name) && !IsOff(member.Element))
            {
                throw member.Bad($"is {member.Brief()}, a field this library does not know: the model would be computed as if it were not there; remove it if that is right");
            }
        }
    }

    /// <summary>Whether a value says that there is nothing: null, false, 0, an empty text, or a list or object of nothing else.</summary>
    public static bool IsOff(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Null or JsonValueKind.False => true,
        JsonValueKind.Number => value.TryGetDouble(out double number) && number == 0,
        JsonValueKind.String => value.GetString()!.Length == 0,
        JsonValueKind.Array => value.GetArrayLength() == 0,
        JsonValueKind.Object => value.EnumerateObject().All(member => IsOff(member.Value)),
        _ => false,
    };

    private static void CheckOneValue(ModelJson value, string[] supported)
    {
        if (!supported.Contains(ValueText(value.Element)))
        {
            throw value.Bad($"is {value.Brief()}, but only {(value.Element.ValueKind == JsonValueKind.String ? $"'{supported[0]}'" : supported[0])} is supported");
        }
    }

    private static string ValueText(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Number => value.TryGetDouble(out double number) ? number.ToString(CultureInfo.InvariantCulture) : value.GetRawText(),
        JsonValueKind.String => value.GetString()!,
        _ => value.GetRawText(),
    };

    // Dropout, the terms of a training loss, and what a call of transformers should give out besides the logits.
    private static bool IsTraining(string name) =>
        name.Contains("dropout", StringComparison.Ordinal) || name.Contains("_loss", StringComparison.Ordinal) || name.EndsWith("_pdrop", StringComparison.Ordinal)
        || name.StartsWith("output_", StringComparison.Ordinal);

    // Scores are divided by the root of the head's width here.
    private static bool IsUsualScale(string name, ModelJson value, int headDim) => value.Element.ValueKind == JsonValueKind.Number && name switch
    {
        "attention_multiplier" => Math.Abs(value.Element.GetDouble() * Math.Sqrt(headDim) - 1) < 1e-6,
        "query_pre_attn_scalar" => value.Element.GetDouble() == headDim,
        _ => false,
    };
}
