using System.Text;
using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Models;

/// <summary>config.json of models of this family as they are published, field for field.</summary>
public class PublicConfigsTests
{
    private const string Fp8 = """
        {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128],
         "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate", "model.layers.0.input_layernorm"]}
        """;

    [Theory]
    [InlineData(94, 4096, 64, 4, 128, 1536, 12288, 262144, "5000000", "")]
    [InlineData(94, 4096, 64, 4, 128, 1536, 12288, 40960, "1000000.0", "")]
    [InlineData(48, 2048, 32, 4, 128, 768, 6144, 40960, "1000000.0", "")]
    [InlineData(48, 2048, 32, 4, 128, 768, 6144, 262144, "10000000", "")]
    [InlineData(62, 6144, 96, 8, 160, 2560, 8192, 262144, "10000000", ", \"qkv_bias\": false, \"use_qk_norm\": true, \"shared_expert_intermediate_size\": 0")]
    [InlineData(48, 2048, 32, 4, 128, 768, 5472, 262144, "10000000", ", \"qkv_bias\": false, \"use_qk_norm\": true, \"shared_expert_intermediate_size\": 0")]
    public void Published_config_is_read(int layers, int hidden, int heads, int keyHeads, int experts, int moe, int dense, int context, string theta, string more)
    {
        foreach (string quantization in (string[])[$", \"quantization_config\": {Fp8}", ""])
        {
            ModelConfig config = Parse($$"""
                {"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
                 "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": {{hidden}},
                 "initializer_range": 0.02, "intermediate_size": {{dense}}, "max_position_embeddings": {{context}}, "max_window_layers": {{layers}},
                 "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": {{moe}}, "norm_topk_prob": true,
                 "num_attention_heads": {{heads}}, "num_experts": {{experts}}, "num_experts_per_tok": 8, "num_hidden_layers": {{layers}},
                 "num_key_value_heads": {{keyHeads}}, "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_scaling": null,
                 "rope_theta": {{theta}}, "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
                 "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
                 "vocab_size": 151936{{more}}{{quantization}} }
                """);
            Assert.Equal((layers, experts, 8, moe), (config.LayerCount, config.ExpertCount, config.ExpertsPerToken, config.MoeIntermediateSize));
            Assert.Equal((context, RotaryType.Default), (config.MaxContext, config.RopeScaling.Type));
            Assert.Equal(quantization.Length > 0 ? WeightFormat.Float8Block128 : WeightFormat.Plain, config.WeightFormat);
        }
    }

    [Fact]
    public void Config_of_transformers_5_is_read()
    {
        ModelConfig config = Parse("""
            {"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": null,
             "decoder_sparse_step": 1, "dtype": "bfloat16", "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
             "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 262144, "mlp_only_layers": [],
             "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
             "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "num_local_experts": 128, "output_router_logits": false,
             "pad_token_id": null, "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 10000000, "rope_type": "default"},
             "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false, "transformers_version": "5.0.0",
             "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}
            """);
        Assert.Equal((128, 1e7), (config.ExpertCount, config.RopeTheta));
    }

    [Fact]
    public void Million_token_variant_is_refused_with_the_way_back()
    {
        JsonObject json = SmallConfig.With("""
            {"max_position_embeddings": 1010000, "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192,
             "original_max_position_embeddings": 262144, "sparse_attention_enabled": true, "sparse_attention_config": {}}}
            """);
        string message = Assert.Throws<ModelFormatException>(() => SmallConfig.Parse(json)).Message;
        Assert.Contains("dual_chunk_attention_config is not supported", message, StringComparison.Ordinal);
        Assert.Contains("max_position_embeddings (1010000) back to its original_max_position_embeddings, 262144", message, StringComparison.Ordinal);

        // The remedy works.
        json.Remove("dual_chunk_attention_config");
        json["max_position_embeddings"] = 262144;
        Assert.Equal(262144, SmallConfig.Parse(json).MaxContext);
    }

    private static ModelConfig Parse(string text) => ModelConfig.Parse(ModelJson.Parse("config.json", Encoding.UTF8.GetBytes(text)));
}
