using System.Text;
using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Inference.Planning;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>config.json of each architecture beside Qwen3-MoE, as published, and with what would change the computation.</summary>
public sealed class ArchitectureConfigTests
{
    private const string Qwen3 = """
        {"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
         "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
         "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
         "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
         "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true,
         "use_sliding_window": false, "vocab_size": 151936}
        """;

    private const string Mixtral = """
        {"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
         "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mixtral",
         "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
         "output_router_logits": false, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": null,
         "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": 32000}
        """;

    private const string MiniMax = """
        {"architectures": ["MiniMaxM2ForCausalLM"], "attention_dropout": 0.0, "attn_type_list": [1, 1, 1], "bos_token_id": null, "eos_token_id": null,
         "head_dim": 128, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02, "intermediate_size": 1536,
         "layernorm_full_attention_beta": 1.0, "layernorm_linear_attention_beta": 1.0, "layernorm_mlp_beta": 1.0,
         "max_position_embeddings": 196608, "mlp_intermediate_size": 8192, "model_type": "minimax", "mtp_transformer_layers": 1,
         "num_attention_heads": 48, "num_experts_per_tok": 8, "num_hidden_layers": 62, "num_key_value_heads": 8, "num_local_experts": 256,
         "num_mtp_modules": 3, "output_router_logits": false, "qk_norm_type": "per_layer", "rms_norm_eps": 1e-06, "rope_theta": 5000000,
         "rotary_dim": 64, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "scoring_func": "sigmoid", "shared_intermediate_size": 0,
         "shared_moe_mode": "sigmoid", "sliding_window": null, "tie_word_embeddings": false, "transformers_version": "4.46.1", "use_cache": true,
         "use_mtp": true, "use_qk_norm": true, "use_routing_bias": true, "vocab_size": 200064,
         "quantization_config": {"activation_scheme": "dynamic", "fmt": "float8_e4m3fn", "quant_method": "fp8", "weight_block_size": [128, 128],
         "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}}
        """;

    [Fact]
    public void Published_configs_are_read()
    {
        var qwen = Parse(Qwen3, "{}");
        Assert.Equal((0, 3072, QkNorm.Head, true, 128), (qwen.ExpertCount, qwen.IntermediateSize, qwen.QkNorm, qwen.TieWordEmbeddings, qwen.RotaryDim));
        Assert.False(qwen.IsMoeLayer(0));

        var mixtral = Parse(Mixtral, "{}");
        Assert.Equal((8, 2, 14336, QkNorm.None, 128, 1e-5), (mixtral.ExpertCount, mixtral.ExpertsPerToken, mixtral.MoeIntermediateSize, mixtral.QkNorm, mixtral.HeadDim, mixtral.RmsNormEpsilon));
        Assert.Equal((true, MoeScoring.Softmax, false), (mixtral.NormalizeTopK, mixtral.Scoring, mixtral.HasScoreBias));
        Assert.Equal(1e-5, Parse(Mixtral, """{"rms_norm_eps": null}""").RmsNormEpsilon);

        var miniMax = Parse(MiniMax, "{}");
        Assert.Equal((256, 8, 1536, QkNorm.Projection, 64, 128), (miniMax.ExpertCount, miniMax.ExpertsPerToken, miniMax.MoeIntermediateSize, miniMax.QkNorm, miniMax.RotaryDim, miniMax.HeadDim));
        Assert.Equal((true, MoeScoring.Sigmoid, true, 3), (miniMax.NormalizeTopK, miniMax.Scoring, miniMax.HasScoreBias, miniMax.PredictionLayers));
        Assert.Equal(WeightFormat.Float8Block128, miniMax.WeightFormat);

        // As newer versions of transformers write it.
        Assert.Equal(64, Parse(MiniMax, """
            {"rotary_dim": null, "model_type": "minimax_m2", "rope_theta": null,
             "rope_parameters": {"rope_type": "default", "rope_theta": 5000000, "partial_rotary_factor": 0.5}}
            """).RotaryDim);
    }

    [Theory]
    [InlineData(Qwen3, """{"num_experts": 8}""", "num_experts is 8, a field this library does not know")]
    [InlineData(Qwen3, """{"moe_intermediate_size": 64}""", "moe_intermediate_size is 64, a field")]
    [InlineData(Qwen3, """{"intermediate_size": null}""", "lacks 'intermediate_size'")]
    [InlineData(Qwen3, """{"use_sliding_window": true, "sliding_window": 4096}""", "use_sliding_window is true with sliding_window 4096")]
    [InlineData(Qwen3, """{"partial_rotary_factor": 0.5}""", "partial_rotary_factor is 0.5, but only 1")]
    [InlineData(Qwen3, """{"use_qk_norm": false}""", "use_qk_norm is false, but only true")]
    [InlineData(Mixtral, """{"sliding_window": 4096}""", "sliding_window is 4096, but only attention over the whole context of 32768")]
    [InlineData(Mixtral, """{"num_local_experts": null}""", "has num_experts_per_tok 2, but no number of experts")]
    [InlineData(Mixtral, """{"num_local_experts": 0}""", "has no experts")]
    [InlineData(Mixtral, """{"num_key_value_heads": null}""", "lacks 'num_key_value_heads'")]
    [InlineData(Mixtral, """{"attention_bias": true}""", "attention_bias is true")]
    [InlineData(Mixtral, """{"use_qk_norm": true}""", "use_qk_norm is true, but only false")]
    [InlineData(Mixtral, """{"norm_topk_prob": false}""", "norm_topk_prob is false, but only true")]
    [InlineData(Mixtral, """{"scoring_func": "sigmoid"}""", "scoring_func is 'sigmoid', but only 'softmax'")]
    [InlineData(Mixtral, """{"rotary_dim": 64}""", "rotary_dim is 64, a field")]
    [InlineData(Mixtral, """{"model_type": "mistral"}""", "model_type is 'mistral', but MixtralForCausalLM is of the type 'mixtral'")]
    [InlineData(MiniMax, """{"scoring_func": "softmax"}""", "scoring_func is 'softmax', but only 'sigmoid'")]
    [InlineData(MiniMax, """{"scoring_func": null}""", "scoring_func is missing, but only 'sigmoid'")]
    [InlineData(MiniMax, """{"use_qk_norm": false}""", "use_qk_norm is false, but only true")]
    [InlineData(MiniMax, """{"qk_norm_type": "per_head"}""", "qk_norm_type is 'per_head', but only 'per_layer'")]
    [InlineData(MiniMax, """{"attn_type_list": [1, 0, 1]}""", "attn_type_list[1] is 0, but only 1")]
    [InlineData(MiniMax, """{"shared_intermediate_size": 512}""", "shared_intermediate_size is 512")]
    [InlineData(MiniMax, """{"layernorm_mlp_beta": 3.5}""", "layernorm_mlp_beta is 3.5, but only 1")]
    [InlineData(MiniMax, """{"routed_scaling_factor": 2.0}""", "routed_scaling_factor is 2.0, but only 1")]
    [InlineData(MiniMax, """{"sliding_window": 1024}""", "sliding_window is 1024")]
    [InlineData(MiniMax, """{"rotary_dim": null}""", "lacks 'rotary_dim'")]
    [InlineData(MiniMax, """{"rotary_dim": 40}""", "rotary_dim is 40, but only multiples of 16 up to head_dim 128")]
    [InlineData(MiniMax, """{"partial_rotary_factor": 0.25}""", "rotary_dim is 64, but partial_rotary_factor 0.25 of head_dim 128 is 32")]
    [InlineData(MiniMax, """{"rms_norm_eps": null}""", "lacks 'rms_norm_eps'")]
    public void What_changes_the_computation_is_refused_by_name_and_value(string config, string changes, string expected) =>
        Assert.Contains($"config.json: {expected}", Assert.Throws<ModelFormatException>(() => Parse(config, changes)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(Qwen3, 0.596e9, 0.596e9)] // 0.6B: of which the head is the embedding
    [InlineData(Mixtral, 46.7e9, 12.9e9)]
    [InlineData(MiniMax, 230e9, 10e9)]
    public void Planner_counts_what_the_publishers_say(string text, double parameters, double active)
    {
        using var directory = new ModelDirectory();
        directory.Write("config.json", text);
        var shape = ModelShape.Find(directory.Path);

        // A byte for each parameter, but two for embedding and head; the publishers round to two or three digits, and count the embedding as active.
        var embedding = (double)shape.Config.VocabularySize * shape.Config.HiddenSize;
        var matrices = shape.Config.TieWordEmbeddings ? 1 : 2;
        Assert.InRange((shape.WeightBytes(1) - (matrices * embedding)) / parameters, 0.97, 1.02);
        Assert.InRange(((shape.FlopsPerToken / 2) + ((matrices - 1) * embedding)) / active, 0.97, 1.15);

        var listing = Planner.Run(shape, PlanNode.Parse("mi325x:8"), EngineCalibration.Find("octet"), new PlanWorkload(200, 50, 4));
        Assert.Contains(listing.Plans, plan => plan.Feasible);
        Assert.Equal(ModelMemory.Weights(RankShape.Whole(shape.Config), isMapped: false), shape.WeightBytes(1), 0.001 * parameters);
    }

    private static ModelConfig Parse(string text, string changes)
    {
        var json = JsonNode.Parse(text)!.AsObject();
        foreach (var (name, value) in JsonNode.Parse(changes)!.AsObject())
        {
            json[name] = value?.DeepClone();
        }

        return ModelConfig.Parse(ModelJson.Parse("config.json", Encoding.UTF8.GetBytes(json.ToJsonString())));
    }
}
