using System.Text;
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
        ModelConfig config = Parse("""
            {"num_hidden_layers": 94, "hidden_size": 4096, "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128,
             "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "intermediate_size": 12288,
             "rope_theta": 5000000, "max_position_embeddings": 262144, "eos_token_id": 151645, "max_window_layers": 94}
            """);
        Assert.Equal((94, 128, 8, 5e6, 262144), (config.LayerCount, config.ExpertCount, config.ExpertsPerToken, config.RopeTheta, config.MaxContext));
    }

    [Fact]
    public void Absent_fields_take_their_defaults()
    {
        JsonObject json = SmallConfig();
        foreach (string name in (string[])["head_dim", "num_key_value_heads", "norm_topk_prob", "quantization_config", "eos_token_id", "decoder_sparse_step", "mlp_only_layers", "rms_norm_eps", "hidden_act", "intermediate_size"])
        {
            json.Remove(name);
        }
        ModelConfig config = Parse(json);
        Assert.Equal((64, 4, false, WeightFormat.Plain), (config.HeadDim, config.KeyValueHeads, config.NormalizeTopK, config.WeightFormat));
        Assert.Equal((1, 1e-6, 0), (config.DecoderSparseStep, config.RmsNormEpsilon, config.IntermediateSize));
        Assert.Empty(config.EosTokenIds);
        Assert.Empty(config.MlpOnlyLayers);
    }

    [Fact]
    public void Dense_layers_follow_the_sparse_step_and_the_list()
    {
        ModelConfig config = Parse("""{"num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3]}""");
        Assert.Equal([false, true, false, false, false, true], Enumerable.Range(0, 6).Select(config.IsMoeLayer));
        Assert.Throws<ArgumentOutOfRangeException>(() => config.IsMoeLayer(6));
        Assert.False(Parse("""{"num_experts": 0}""").IsMoeLayer(0));
    }

    [Theory]
    [InlineData("""{"rope_theta": null, "rope_parameters": {"rope_theta": 7e6, "rope_type": "default"}}""", 7e6)]
    [InlineData("""{"rope_theta": 1e4, "rope_parameters": {"rope_theta": 7e6}}""", 7e6)]
    [InlineData("""{"rope_theta": 1e4, "rope_scaling": {"type": "default"}}""", 1e4)]
    public void Rope_theta_is_found_in_either_place(string changes, double expected) =>
        Assert.Equal(expected, Parse(changes).RopeTheta);

    [Theory]
    [InlineData("""{"architectures": ["LlamaForCausalLM"]}""", "[LlamaForCausalLM], but only Qwen3MoeForCausalLM")]
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
    [InlineData("""{"rope_scaling": {"type": "yarn", "factor": 4}}""", "rope_scaling asks for the type 'yarn'")]
    [InlineData("""{"rope_parameters": {"rope_type": "linear"}}""", "'linear'")]
    [InlineData("""{"rope_scaling": "yarn"}""", "rope_scaling is the string 'yarn', expected an object")]
    [InlineData("""{"partial_rotary_factor": 0.5}""", "0.5")]
    [InlineData("""{"hidden_act": "gelu"}""", "hidden_act is 'gelu'")]
    [InlineData("""{"use_sliding_window": true, "sliding_window": 1024}""", "sliding_window 1024")]
    [InlineData("""{"layer_types": ["full_attention", "sliding_attention"]}""", "layer_types[1] is 'sliding_attention'")]
    [InlineData("""{"eos_token_id": 1024}""", "eos_token_id is 1024")]
    [InlineData("""{"eos_token_id": [1, -1]}""", "eos_token_id[1] is -1")]
    [InlineData("""{"quantization_config": {"quant_method": "awq"}}""", "quant_method is 'awq', but only 'fp8'")]
    [InlineData("""{"quantization_config": {}}""", "quantization_config lacks the field 'quant_method'")]
    [InlineData("""{"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}}""", "fmt is 'e5m2'")]
    [InlineData("""{"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}}""", "activation_scheme is 'static'")]
    [InlineData("""{"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 128]}}""", "[64, 128]")]
    [InlineData("""{"quantization_config": {"quant_method": "fp8"}}""", "lacks the field 'weight_block_size'")]
    public void Bad_value_is_refused_with_field_and_value(string changes, string expected)
    {
        string message = Assert.Throws<ModelFormatException>(() => Parse(changes)).Message;
        Assert.Contains("config.json", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
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
        directory.Write("config.json", new string('[', 1_000_000));
        Assert.Throws<ModelFormatException>(() => ModelConfig.Load(directory.Path));
    }

    private static JsonObject SmallConfig() =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "config.json")))!.AsObject();

    private static ModelConfig Parse(string changes)
    {
        JsonObject json = SmallConfig();
        foreach (var (name, value) in JsonNode.Parse(changes)!.AsObject())
        {
            json[name] = value?.DeepClone();
        }
        return Parse(json);
    }

    private static ModelConfig Parse(JsonObject json) =>
        ModelConfig.Parse(ModelJson.Parse("config.json", Encoding.UTF8.GetBytes(json.ToJsonString())));
}
