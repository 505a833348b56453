using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

public class QuantizationFormatTests
{
    private const string BlockWeights = """
        {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128], "dynamic": false, "symmetric": true,
         "actorder": null, "group_size": null, "observer": "static_minmax", "observer_kwargs": {}, "scale_dtype": null, "zp_dtype": null}
        """;

    private const string GroupActivations = """
        {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 128, "dynamic": true, "symmetric": true, "observer": null,
         "actorder": null, "block_structure": null, "observer_kwargs": {}}
        """;

    [Theory]
    [InlineData("e4m3")]
    [InlineData("E4M3")]
    [InlineData("e4m3fn")]
    [InlineData("float8_e4m3fn")]
    [InlineData("float8_e4m3")]
    [InlineData("torch.float8_e4m3fn")]
    [InlineData("FP8_E4M3")]
    [InlineData("F8_E4M3")]
    public void Every_spelling_of_the_encoding_is_the_same(string fmt) =>
        Assert.Equal(WeightFormat.Float8Block128, Fp8($$"""{"fmt": "{{fmt}}"}"""));

    [Theory]
    [InlineData("""{"fmt": null, "activation_scheme": null}""")]
    [InlineData("""{"quant_method": "FP8", "modules_to_not_convert": ["lm_head"], "ignored_layers": ["model.layers.0.mlp.gate"]}""")]
    [InlineData("""{"dequantize": false}""")]
    public void Absent_fields_and_lists_of_what_is_not_quantised_are_accepted(string changes) =>
        Assert.Equal(WeightFormat.Float8Block128, Fp8(changes));

    [Theory]
    [InlineData("""{"quant_method": null}""", "lacks the field 'quant_method'")]
    [InlineData("""{"quant_method": "awq", "bits": 4, "group_size": 64}""", "quant_method is 'awq' (bits 4, group_size 64), but only 'fp8'")]
    [InlineData("""{"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}""", "'modelopt' (quant_algo 'NVFP4', kv_cache_quant_algo 'FP8')")]
    [InlineData("""{"quant_method": "bitsandbytes", "load_in_4bit": true}""", "'bitsandbytes' (load_in_4bit true)")]
    [InlineData("""{"quant_method": "fbgemm_fp8"}""", "'fbgemm_fp8'")]
    [InlineData("""{"fmt": "e5m2"}""", "fmt is 'e5m2'")]
    [InlineData("""{"fmt": "float8_e4m3fnuz"}""", "fmt is 'float8_e4m3fnuz'")]
    [InlineData("""{"activation_scheme": "static"}""", "activation_scheme is 'static' (scales of activations fixed in the checkpoint)")]
    [InlineData("""{"weight_block_size": [64, 128]}""", "weight_block_size is [64, 128], but only [128, 128]")]
    [InlineData("""{"weight_block_size": null}""", "has no weight_block_size, so its weights have one scale per tensor or channel")]
    [InlineData("""{"scale_fmt": "ue8m0"}""", "quantization_config.scale_fmt is 'ue8m0', a field this library does not know")]
    public void Other_kind_of_quantisation_is_refused_as_what_it_is(string changes, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => Fp8(changes)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(BlockWeights, GroupActivations)]
    [InlineData("""{"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "128x128"}""", GroupActivations)]
    [InlineData(BlockWeights, """{"num_bits": 8, "type": "float", "strategy": "token", "dynamic": true}""")]
    [InlineData(BlockWeights, "null")]
    public void Compressed_tensors_in_blocks_are_the_same_format(string weights, string activations) =>
        Assert.Equal(WeightFormat.Float8Block128, CompressedTensors(weights, activations));

    [Theory]
    [InlineData("""{"num_bits": 8, "type": "float", "strategy": "channel"}""", GroupActivations, "config_groups.group_0.weights have the strategy 'channel', so one scale for each channel")]
    [InlineData("""{"num_bits": 8, "type": "float", "strategy": "tensor"}""", GroupActivations, "one scale for each tensor")]
    [InlineData("""{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}""", "null", "are 4 bits of type int, by group")]
    [InlineData("""{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}""", "null", "are 4 bits of type float, by tensor_group")]
    [InlineData("""{"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [64, 64]}""", GroupActivations, "block_structure is [64,64], but only [128, 128]")]
    [InlineData("""{"num_bits": 8, "type": "float", "strategy": "block"}""", GroupActivations, "lacks the field 'block_structure'")]
    [InlineData(BlockWeights, """{"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false}""", "static (scales of activations fixed in the checkpoint)")]
    [InlineData(BlockWeights, """{"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": true}""", "have the strategy 'tensor'")]
    [InlineData(BlockWeights, """{"num_bits": 8, "type": "float", "strategy": "group", "group_size": 64, "dynamic": true}""", "group_size is 64")]
    [InlineData("null", GroupActivations, "has no weights")]
    public void Compressed_tensors_of_other_kinds_are_refused_as_what_they_are(string weights, string activations, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => CompressedTensors(weights, activations)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(""", "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false}""", null)]
    [InlineData(""", "sparsity_config": {}, "transform_config": {"config_groups": {}}""", null)]
    [InlineData(""", "kv_cache_scheme": {"num_bits": 8, "type": "int"}""", "kv_cache_scheme is 8 bits of type int")]
    [InlineData(""", "sparsity_config": {"format": "sparse-bitmask"}""", "sparsity_config has the format 'sparse-bitmask'")]
    [InlineData(""", "transform_config": {"config_groups": {"R1": {"type": "hadamard"}}}""", "quantization_config.transform_config is")]
    public void Rest_of_compressed_tensors_is_accepted_only_where_it_changes_nothing(string fields, string? refusal)
    {
        if (refusal is null)
        {
            Assert.Equal(WeightFormat.Float8Block128, CompressedTensors(BlockWeights, GroupActivations, fields));
            return;
        }
        Assert.Contains(refusal, Assert.Throws<ModelFormatException>(() => CompressedTensors(BlockWeights, GroupActivations, fields)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Empty_quantisation_is_none_and_the_older_name_is_read()
    {
        Assert.Equal(WeightFormat.Plain, SmallConfig.Parse("""{"quantization_config": {}}""").WeightFormat);
        Assert.Equal(WeightFormat.Plain, SmallConfig.Parse("""{"quantization_config": null}""").WeightFormat);
        Assert.Contains("compression_config", SmallConfig.Refusal("""{"quantization_config": null, "compression_config": {"quant_method": "gptq"}}"""), StringComparison.Ordinal);
    }

    [Fact]
    public void Quantisation_of_mlx_is_named() =>
        Assert.Contains("as MLX writes", SmallConfig.Refusal("""{"quantization_config": null, "quantization": {"group_size": 64, "bits": 4}}"""), StringComparison.Ordinal);

    [Theory]
    [InlineData("hf_quant_config.json", """{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}""", "hf_quant_config.json: says that the weights were quantised by TensorRT Model Optimizer (modelopt) (quant_algo 'FP8', kv_cache_quant_algo 'FP8')")]
    [InlineData("quantize_config.json", """{"bits": 4, "group_size": 128, "desc_act": false}""", "quantize_config.json: says that the weights were quantised by GPTQ or AWQ (bits 4, group_size 128)")]
    [InlineData("quant_config.json", """{"w_bit": 4, "q_group_size": 128, "zero_point": true}""", "(w_bit 4)")]
    public void File_of_another_tool_beside_config_is_named(string name, string content, string expected)
    {
        using var directory = new ModelDirectory();
        directory.Write(name, content);
        directory.Write("config.json", SmallConfig.With("""{"quantization_config": null}""").ToJsonString());
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => ModelConfig.Load(directory.Path)).Message, StringComparison.Ordinal);

        // config.json has the last word where it says something.
        directory.Write("config.json", SmallConfig.Json().ToJsonString());
        Assert.Equal(WeightFormat.Float8Block128, ModelConfig.Load(directory.Path).WeightFormat);
    }

    private static WeightFormat Fp8(string changes)
    {
        JsonObject json = SmallConfig.Json();
        foreach (var (name, value) in JsonNode.Parse(changes)!.AsObject())
        {
            json["quantization_config"]![name] = value?.DeepClone();
        }
        return SmallConfig.Parse(json).WeightFormat;
    }

    private static WeightFormat CompressedTensors(string weights, string activations, string fields = "") => SmallConfig.Parse($$"""
        {"quantization_config": {
          "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "global_compression_ratio": null,
          "ignore": ["lm_head", "re:.*mlp.gate$"], "version": "0.12.2",
          "config_groups": {"group_0": {"targets": ["Linear"], "format": "float-quantized", "output_activations": null, "weights": {{weights}}, "input_activations": {{activations}} } }
          {{fields}} } }
        """).WeightFormat;
}
