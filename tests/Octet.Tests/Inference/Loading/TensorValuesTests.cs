using System.Runtime.InteropServices;
using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public sealed class TensorValuesTests
{
    private const string Attention = "model.layers.2.self_attn.";

    [Theory]
    [InlineData(SafeTensorType.BFloat16)]
    [InlineData(SafeTensorType.Float16)]
    [InlineData(SafeTensorType.Float32)]
    public void The_first_value_that_is_not_finite_or_over_2_to_the_16_is_found_wherever_it_lies(SafeTensorType type)
    {
        float[] bad = type == SafeTensorType.Float16
            ? [float.NaN, -float.NaN, float.PositiveInfinity, float.NegativeInfinity]
            : [float.NaN, -float.NaN, float.PositiveInfinity, float.NegativeInfinity, 66000f, -1e30f];
        float[] good = type == SafeTensorType.Float16 ? [0, -0f, 65504, -65504, 1] : [0, -0f, 65536f, -65536f, 1e-40f];
        var random = new Random(3);
        for (var length = 0; length < 150; length++)
        {
            float[] elements = [.. Enumerable.Range(0, length).Select(_ => good[random.Next(good.Length)])];
            Assert.Equal(-1, TensorValues.IndexOfUnusable(type, Bytes(type, elements)));
            for (var place = length - 1; place >= 0; place -= 1 + random.Next(9))
            {
                elements[place] = bad[random.Next(bad.Length)];
                Assert.Equal(place, TensorValues.IndexOfUnusable(type, Bytes(type, elements)));
            }
        }
    }

    [Theory]
    [InlineData("model.norm.weight")]
    [InlineData("model.embed_tokens.weight")]
    [InlineData("lm_head.weight")]
    [InlineData("model.layers.0.input_layernorm.weight")]
    [InlineData("model.layers.3.post_attention_layernorm.weight")]
    [InlineData("model.layers.1.self_attn.q_norm.weight")]
    [InlineData("model.layers.1.self_attn.k_norm.weight")]
    [InlineData("model.layers.2.mlp.gate.weight")]
    public void Damage_in_any_BF16_tensor_is_refused_by_name_position_and_value(string name)
    {
        foreach (var (bits, value) in ((ushort, string)[])[(0x7FC0, "NaN"), (0xFF80, "-Infinity"), (0x7F80, "Infinity"), (0x7149, "9.953")])
        {
            using var copy = new CheckpointCopy();
            var last = (copy.Tensors[name].Bytes.Length / 2) - 1;
            copy.Set(name, last, bits);
            var message = copy.Refused();
            Assert.Contains(Path.Combine(copy.Directory, "model.safetensors") + $": tensor '{name}' (BF16 ", message, StringComparison.Ordinal);
            Assert.Contains($"holds {value}", message, StringComparison.Ordinal);
            Assert.Contains($" at position {last}; a weight must be a finite number", message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(SafeTensorType.Float32, float.NaN, "NaN")]
    [InlineData(SafeTensorType.Float32, -1e30f, "-1E+30")]
    [InlineData(SafeTensorType.Float16, float.NegativeInfinity, "-Infinity")]
    public void Damage_in_norms_of_other_types_is_refused(SafeTensorType type, float value, string expected)
    {
        using var copy = new CheckpointCopy();
        float[] elements = [.. Enumerable.Repeat(1f, CheckpointCopy.Hidden)];
        elements[77] = value;
        copy.Tensors["model.norm.weight"] = new(type, [CheckpointCopy.Hidden], Bytes(type, elements));
        Assert.Contains($"holds {expected} at position 77;", copy.Refused(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("q_proj", 512)]
    [InlineData("v_proj", 256)]
    [InlineData("o_proj", 256)]
    public void Damage_in_a_bias_is_refused(string projection, int length)
    {
        using var copy = new CheckpointCopy();
        copy.Config = copy.Config.Replace("\"attention_bias\": false", "\"attention_bias\": true", StringComparison.Ordinal);
        for (var layer = 0; layer < CheckpointCopy.Layers; layer++)
        {
            foreach (var (name, n) in ((string, int)[])[("q_proj", 512), ("k_proj", 256), ("v_proj", 256), ("o_proj", 256)])
            {
                copy.Add($"model.layers.{layer}.self_attn.{name}.bias", SafeTensorType.BFloat16, [n], new BFloat16[n]);
            }
        }

        Assert.Equal(CheckpointCopy.LogitsOf(TinyModel.Directory), copy.Logits()); // biases of 0 change nothing
        copy.Set($"{Attention}{projection}.bias", length - 3, (ushort)0xFF80);
        Assert.Contains($"'{Attention}{projection}.bias' (BF16 [{length}]) holds -Infinity at position {length - 3};", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void Damage_in_a_plain_projection_is_refused()
    {
        using var copy = new CheckpointCopy();
        copy.Dequantize("model.layers.3.mlp.experts.7.down_proj");
        copy.Set("model.layers.3.mlp.experts.7.down_proj.weight", 1000, (ushort)0x7FC0);
        Assert.Contains("'model.layers.3.mlp.experts.7.down_proj.weight' (BF16 [256, 128]) holds NaN at position 1000;", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_code_that_is_no_number_is_refused()
    {
        using var copy = new CheckpointCopy();
        copy.Set($"{Attention}k_proj.weight", 12345, (byte)0xFF);
        Assert.Contains($"'{Attention}k_proj.weight' (F8_E4M3 [256, 256]) holds the FP8 NaN 0xff at position 12345;", copy.Refused(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(float.NaN, "NaN")]
    [InlineData(float.PositiveInfinity, "Infinity")]
    [InlineData(1e30f, "1E+30")]
    [InlineData(147f, "147")]
    [InlineData(-0.001f, "-0.001")]
    public void A_scale_that_is_negative_or_makes_weights_overflow_is_refused(float scale, string expected)
    {
        foreach (var name in (string[])[$"{Attention}q_proj.weight_scale_inv", "model.layers.0.mlp.experts.15.up_proj.weight_scale_inv"])
        {
            using var copy = new CheckpointCopy();
            copy.Set(name, 1, scale);
            Assert.Contains($"'{name}' (F32 ", copy.Refused(), StringComparison.Ordinal);
            Assert.Contains($"holds {expected} at position 1; a scale must be from 0 to 146", copy.Refused(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_scale_of_zero_is_refused_but_over_a_block_of_zeros()
    {
        using var copy = new CheckpointCopy();
        copy.Set($"{Attention}q_proj.weight_scale_inv", 1, 0f); // rows 0..127, columns 128..255
        Assert.Contains($"holds 0 at position 1, but the block of '{Attention}q_proj.weight' it belongs to has codes other than 0", copy.Refused(), StringComparison.Ordinal);

        for (var row = 0; row < 128; row++)
        {
            copy.Tensors[$"{Attention}q_proj.weight"].Bytes.AsSpan((row * 256) + 128, 128).Fill(row % 2 == 0 ? (byte)0 : (byte)0x80);
        }

        var zero = copy.Logits();
        copy.Set($"{Attention}q_proj.weight_scale_inv", 1, 1f);
        Assert.Equal(copy.Logits(), zero);
    }

    private static byte[] Bytes(SafeTensorType type, float[] elements) => type switch
    {
        SafeTensorType.BFloat16 => MemoryMarshal.AsBytes<BFloat16>(Array.ConvertAll(elements, x => (BFloat16)x)).ToArray(),
        SafeTensorType.Float16 => MemoryMarshal.AsBytes<Half>(Array.ConvertAll(elements, x => (Half)x)).ToArray(),
        _ => MemoryMarshal.AsBytes<float>(elements).ToArray(),
    };
}
