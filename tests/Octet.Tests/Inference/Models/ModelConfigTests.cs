using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Models;

public class ModelConfigTests
{
    [Fact]
    public void Small_checkpoint_is_read_whole()
    {
        ModelConfig config = ModelConfig.Load(TinyShakespeare.Directory);
        Assert.Equal((4, 256, 1024), (config.LayerCount, config.HiddenSize, config.VocabularySize));
        Assert.Equal((4, 2, 128), (config.QueryHeads, config.KeyValueHeads, config.HeadDim));
        Assert.Equal((16, 4, 128, 512), (config.ExpertCount, config.ExpertsPerToken, config.MoeIntermediateSize, config.IntermediateSize));
        Assert.Equal((1e-6, 1e6, 2048), (config.RmsNormEpsilon, config.RopeTheta, config.MaxContext));
        Assert.Equal((true, false, false), (config.NormalizeTopK, config.TieWordEmbeddings, config.AttentionBias));
        Assert.Equal(WeightFormat.Float8Block128, config.WeightFormat);
        Assert.Equal([1021], config.EosTokenIds);
        Assert.All(Enumerable.Range(0, 4), layer => Assert.True(config.IsMoeLayer(layer)));
    }

    [Fact]
    public void Target_model_is_accepted()
    {
        ModelConfig config = SmallConfig.Parse("""
            {"num_hidden_layers": 94, "hidden_size": 4096, "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128,
             "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "intermediate_size": 12288,
             "rope_theta": 5000000, "max_position_embeddings": 262144, "eos_token_id": 151645, "max_window_layers": 94}
            """);
        Assert.Equal((94, 128, 8, 5e6, 262144), (config.LayerCount, config.ExpertCount, config.ExpertsPerToken, config.RopeTheta, config.MaxContext));
    }

    [Fact]
    public void Absent_fields_take_their_defaults()
    {
        JsonObject json = SmallConfig.Json();
        foreach (string name in (string[])["head_dim", "num_key_value_heads", "norm_topk_prob", "quantization_config", "eos_token_id", "decoder_sparse_step", "mlp_only_layers", "rms_norm_eps", "hidden_act", "intermediate_size"])
        {
            json.Remove(name);
        }
        ModelConfig config = SmallConfig.Parse(json);
        Assert.Equal((64, 4, false, WeightFormat.Plain), (config.HeadDim, config.KeyValueHeads, config.NormalizeTopK, config.WeightFormat));
        Assert.Equal((1, 1e-6, 0), (config.DecoderSparseStep, config.RmsNormEpsilon, config.IntermediateSize));
        Assert.Empty(config.EosTokenIds);
        Assert.Empty(config.MlpOnlyLayers);
    }

    [Fact]
    public void Dense_layers_follow_the_sparse_step_and_the_list()
    {
        ModelConfig config = SmallConfig.Parse("""{"num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3]}""");
        Assert.Equal([false, true, false, false, false, true], Enumerable.Range(0, 6).Select(config.IsMoeLayer));
        Assert.Throws<ArgumentOutOfRangeException>(() => config.IsMoeLayer(6));
        Assert.False(SmallConfig.Parse("""{"num_experts": 0}""").IsMoeLayer(0));
    }

    [Theory]
    [InlineData("""{"rope_theta": null, "rope_parameters": {"rope_theta": 7e6, "rope_type": "default"}}""", 7e6)]
    [InlineData("""{"rope_theta": 1e4, "rope_parameters": {"rope_theta": 7e6}}""", 7e6)]
    [InlineData("""{"rope_theta": 1e4, "rope_scaling": {"type": "default"}}""", 1e4)]
    public void Rope_theta_is_found_in_either_place(string changes, double expected) =>
        Assert.Equal(expected, SmallConfig.Parse(changes).RopeTheta);

    [Theory]
    [InlineData("""{"architectures": ["LlamaForCausalLM"]}""", "[LlamaForCausalLM], but only Qwen3MoeForCausalLM, Qwen3ForCausalLM, MixtralForCausalLM and MiniMaxM2ForCausalLM are supported")]
    [InlineData("""{"architectures": null}""", "lacks 'architectures'")]
    [InlineData("""{"architectures": "Qwen3MoeForCausalLM"}""", "expected an array")]
    [InlineData("""{"architectures": [3]}""", "architectures[0] is 3, expected a string")]
    [InlineData("""{"hidden_size": null}""", "lacks 'hidden_size'")]
    [InlineData("""{"hidden_size": 0}""", "hidden_size is 0, expected an integer from 1")]
    [InlineData("""{"hidden_size": "256"}""", "hidden_size is the string '256'")]
    [InlineData("""{"hidden_size": 256.5}""", "256.5")]
    [InlineData("""{"hidden_size": 1e99}""", "1e99")]
    [InlineData("""{"num_hidden_layers": -1}""", "num_hidden_layers is -1")]
    [InlineData("""{"num_key_value_heads": 3}""", "num_attention_heads 4 is not a multiple of num_key_value_heads 3")]
    [InlineData("""{"num_key_value_heads": 8}""", "num_key_value_heads is 8, expected an integer from 1 to 4")]
    [InlineData("""{"num_attention_heads": 68}""", "34 query heads for each key/value head, but at most 16")]
    [InlineData("""{"head_dim": 96}""", "head_dim is 96")]
    [InlineData("""{"head_dim": null, "hidden_size": 100}""", "head_dim is 25")]
    [InlineData("""{"num_experts": 513}""", "num_experts is 513")]
    [InlineData("""{"num_experts_per_tok": 17}""", "num_experts_per_tok is 17, expected an integer from 1 to 16")]
    [InlineData("""{"num_experts": 2}""", "num_experts_per_tok is 4, expected an integer from 1 to 2")]
    [InlineData("""{"moe_intermediate_size": null}""", "lacks 'moe_intermediate_size'")]
    [InlineData("""{"mlp_only_layers": [4]}""", "mlp_only_layers[0] is 4")]
    [InlineData("""{"mlp_only_layers": [0], "intermediate_size": null}""", "lacks 'intermediate_size'")]
    [InlineData("""{"decoder_sparse_step": 0}""", "decoder_sparse_step is 0")]
    [InlineData("""{"norm_topk_prob": 1}""", "norm_topk_prob is 1, expected true or false")]
    [InlineData("""{"rms_norm_eps": 0}""", "rms_norm_eps is 0")]
    [InlineData("""{"rope_theta": null}""", "lacks 'rope_theta'")]
    [InlineData("""{"rope_scaling": "yarn"}""", "rope_scaling is the string 'yarn', expected an object")]
    [InlineData("""{"use_sliding_window": true, "sliding_window": 1024}""", "sliding_window 1024")]
    [InlineData("""{"model_type": "qwen2_moe"}""", "model_type is 'qwen2_moe'")]
    [InlineData("""{"num_experts": null}""", "has moe_intermediate_size 128, but no number of experts")]
    [InlineData("""{"num_experts": null, "moe_intermediate_size": null}""", "has num_experts_per_tok 4, but no number of experts")]
    [InlineData("""{"num_local_experts": 8}""", "num_experts is 16, but num_local_experts, which means the same, is 8")]
    [InlineData("""{"num_experts": null, "n_routed_experts": 600}""", "n_routed_experts is 600, expected an integer from 0 to 512")]
    [InlineData("""{"moe_topk": 8}""", "num_experts_per_tok is 4, but moe_topk, which means the same, is 8")]
    [InlineData("""{"layer_types": ["full_attention", "sliding_attention"]}""", "layer_types[1] is 'sliding_attention'")]
    [InlineData("""{"eos_token_id": 1024}""", "eos_token_id is 1024")]
    [InlineData("""{"eos_token_id": [1, -1]}""", "eos_token_id[1] is -1")]
    public void Bad_value_is_refused_with_field_and_value(string changes, string expected)
    {
        string message = Assert.Throws<ModelFormatException>(() => SmallConfig.Parse(changes)).Message;
        Assert.Contains("config.json", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"num_experts": null, "num_local_experts": 16}""")]
    [InlineData("""{"num_experts": null, "n_routed_experts": 16}""")]
    [InlineData("""{"num_local_experts": 16, "n_routed_experts": 16}""")]
    [InlineData("""{"num_experts_per_tok": null, "moe_topk": 4}""")]
    [InlineData("""{"torch_dtype": null, "dtype": "bfloat16"}""")]
    public void Fields_are_found_under_the_names_of_other_versions(string changes)
    {
        ModelConfig config = SmallConfig.Parse(changes);
        Assert.Equal((16, 4, 128), (config.ExpertCount, config.ExpertsPerToken, config.MoeIntermediateSize));
        Assert.True(config.IsMoeLayer(0));
    }

    [Fact]
    public void Sliding_window_that_is_off_or_longer_than_the_context_is_no_window()
    {
        SmallConfig.Parse("""{"sliding_window": 512, "max_window_layers": 2}""");
        SmallConfig.Parse("""{"use_sliding_window": true, "sliding_window": 2048}""");
        SmallConfig.Parse("""{"use_sliding_window": true, "sliding_window": null}""");

        // Where the field is absent, transformers takes 4,096.
        JsonObject json = SmallConfig.With("""{"use_sliding_window": true, "max_position_embeddings": 8192}""");
        json.Remove("sliding_window");
        Assert.Contains("sliding_window 4096", Assert.Throws<ModelFormatException>(() => SmallConfig.Parse(json)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("not json")]
    [InlineData("[1]")]
    [InlineData("""{"architectures": ["\udc00"]}""")]
    [InlineData("""{"a": 1, "a": 2}""")]
    public void File_that_is_no_json_object_is_refused(string text)
    {
        using var directory = new ModelDirectory();
        directory.Write("config.json", text);
        Assert.Throws<ModelFormatException>(() => ModelConfig.Load(directory.Path));
    }

    [Fact]
    public void Missing_file_directory_and_deep_nesting_are_refused()
    {
        using var directory = new ModelDirectory();
        Assert.Contains("config.json", Assert.Throws<ModelFormatException>(() => ModelConfig.Load(directory.Path)).Message, StringComparison.Ordinal);
        Assert.Contains("not a directory", Assert.Throws<ModelFormatException>(() => ModelConfig.Load(directory.Path + "x")).Message, StringComparison.Ordinal);
        string file = directory.Write("config.json", new string('[', 1_000_000));
        Assert.Contains("is a file, not a directory", Assert.Throws<ModelFormatException>(() => ModelConfig.Load(file)).Message, StringComparison.Ordinal);
        Assert.Throws<ModelFormatException>(() => ModelConfig.Load(directory.Path));
    }
}
