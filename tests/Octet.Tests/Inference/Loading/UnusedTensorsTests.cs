using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public sealed class UnusedTensorsTests
{
    private const string Layer = "model.layers.1.";

    [Theory]
    [InlineData("self_attn.q_proj.bias", 1)] // attention_bias is false
    [InlineData("self_attn.sinks", 1)]
    [InlineData("mlp.shared_expert.gate_proj.weight", 1)]
    [InlineData("mlp.gate.e_score_correction_bias", 1)]
    [InlineData("mlp.gate.weight_scale_inv", 1)]
    [InlineData("something.else", 9)]
    public void Tensors_that_nobody_reads_are_refused_with_names_and_number(string name, int count)
    {
        using var copy = new CheckpointCopy();
        for (var i = 0; i < count; i++)
        {
            copy.Add(count == 1 ? Layer + name : $"{Layer}{name}.{i}", SafeTensorType.BFloat16, [1], (BFloat16)1f);
        }

        var message = copy.Refused();
        Assert.Contains($"{count} of the {copy.Tensors.Count} tensors are not used by the model that config.json describes: {Layer}{name}", message, StringComparison.Ordinal);
        Assert.Equal(count > 5, message.Contains($" and {count - 5} more;", StringComparison.Ordinal));
    }

    [Fact]
    public void Layers_beyond_those_of_the_config_are_refused()
    {
        using var copy = new CheckpointCopy();
        copy.Config = copy.Config.Replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3", StringComparison.Ordinal);
        Assert.Contains("tensors are not used by the model that config.json describes: model.layers.3.input_layernorm.weight,", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void What_changes_nothing_is_ignored()
    {
        using var copy = new CheckpointCopy();
        copy.Add("model.rotary_emb.inv_freq", SafeTensorType.Float32, [64], new float[64]);
        copy.Add($"{Layer}self_attn.rotary_emb.inv_freq", SafeTensorType.Float32, [64], new float[64]);
        copy.Add("mtp.layers.0.self_attn.q_proj.weight", SafeTensorType.BFloat16, [2], new BFloat16[2]);
        copy.Add("mtp.layers.0.self_attn.q_proj.input_scale", SafeTensorType.BFloat16, [2], new BFloat16[2]);
        copy.Add($"{Layer}self_attn._extra_state", SafeTensorType.UInt8, [0], Array.Empty<byte>());
        Assert.Equal(CheckpointCopy.LogitsOf(TinyModel.Directory), copy.Logits());
    }

    [Theory]
    [InlineData("self_attn.q_proj.input_scale", "a static scale of activations")]
    [InlineData("mlp.experts.0.gate_proj.activation_scale", "a static scale of activations")]
    [InlineData("self_attn.q_scale", "a scale for quantised queries")]
    [InlineData("self_attn.attn.q_scale", "a scale for quantised queries")]
    [InlineData("self_attn.prob_scale", "a scale for quantised attention probabilities")]
    [InlineData("self_attn.q_proj.weight_zero_point", "the zero point of an asymmetric quantisation")]
    [InlineData("self_attn.k_zero_point", "the zero point of an asymmetric quantisation")]
    [InlineData("self_attn.q_proj.weight_scale_2", "the second scale of a format of 4 bits")]
    [InlineData("self_attn.q_proj.lora_A.weight", "part of a LoRA adapter")]
    [InlineData("self_attn.q_proj.output_scale", "a static scale of activations")]
    public void Tensors_of_other_quantisations_are_refused_as_what_they_are(string name, string expected)
    {
        using var copy = new CheckpointCopy();
        copy.Add(Layer + name, SafeTensorType.Float32, [1], 1f);
        Assert.Contains($"tensor '{Layer}{name}' (F32 [1]) is {expected}", copy.Refused(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("qweight", "packed integer weights of GPTQ or AWQ")]
    [InlineData("weight_packed", "packed weights of 4 or 8 bits (compressed-tensors)")]
    public void Packed_weights_are_named_and_not_said_to_be_missing(string ending, string expected)
    {
        using var copy = new CheckpointCopy();
        copy.Tensors.Remove($"{Layer}self_attn.q_proj.weight");
        copy.Tensors.Remove($"{Layer}self_attn.q_proj.weight_scale_inv");
        copy.Add($"{Layer}self_attn.q_proj.{ending}", SafeTensorType.Int32, [1], 1);
        copy.Add($"{Layer}self_attn.q_proj.weight_scale", SafeTensorType.BFloat16, [1], (BFloat16)1f);
        Assert.Contains($"'{Layer}self_attn.q_proj.{ending}' (I32 [1]) is {expected}", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_head_stored_beside_a_tied_embedding_is_ignored_only_where_it_is_the_same()
    {
        using var copy = new CheckpointCopy();
        copy.Config = copy.Config.Replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", StringComparison.Ordinal);
        Assert.Contains("tensor 'lm_head.weight' (BF16 [1024, 256]) differs from 'model.embed_tokens.weight' (BF16 [1024, 256]), but config.json has tie_word_embeddings true", copy.Refused(), StringComparison.Ordinal);
        copy.Tensors["lm_head.weight"] = copy.Tensors["model.embed_tokens.weight"];
        var stored = copy.Logits();
        copy.Tensors.Remove("lm_head.weight");
        Assert.Equal(copy.Logits(), stored);
    }
}
