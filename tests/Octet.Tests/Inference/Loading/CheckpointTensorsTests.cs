using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public sealed class CheckpointTensorsTests
{
    private const string Projection = "model.layers.1.self_attn.q_proj";

    [Theory]
    [InlineData("cpu")]
    [InlineData("cpu:fnuz")]
    public void Block_scales_by_their_name_in_compressed_tensors_give_the_same_logits(string device)
    {
        using var copy = new CheckpointCopy();
        foreach (var name in copy.Tensors.Keys.Where(name => name.EndsWith("weight_scale_inv", StringComparison.Ordinal)).ToArray())
        {
            copy.Rename(name, name[..^"_inv".Length]);
        }

        Assert.Equal(CheckpointCopy.LogitsOf(TinyModel.Directory, device), copy.Logits(device));
    }

    [Fact]
    public void Scales_that_are_powers_of_two_in_8_bits_give_the_logits_of_the_same_in_F32()
    {
        using var copy = new CheckpointCopy();
        byte[] exponents = [118, 119, 120, 121, 122, 118, 119, 120]; // 2^-9 to 2^-5
        copy.Add($"{Projection}.weight_scale_inv", SafeTensorType.Float32, [4, 2], [.. exponents.Select(e => MathF.Pow(2, e - 127))]);
        var expected = copy.Logits();
        copy.Add($"{Projection}.weight_scale_inv", SafeTensorType.Float8E8M0, [4, 2], exponents);
        Assert.Equal(expected, copy.Logits());
        copy.Set($"{Projection}.weight_scale_inv", 2, (byte)255);
        Assert.Contains("holds NaN at position 2; a scale must be", copy.Refused(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("weight_scale", new long[] { }, "holds one scale for the whole tensor (per-tensor)")]
    [InlineData("weight_scale", new long[] { 1 }, "holds one scale for the whole tensor (per-tensor)")]
    [InlineData("weight_scale", new long[] { 512, 1 }, "holds one scale for each output row (per-channel)")]
    [InlineData("weight_scale_inv", new long[] { 512 }, "holds one scale for each output row (per-channel)")]
    [InlineData("weight_scale", new long[] { 2, 4 }, "holds the scales of")]
    [InlineData("weight_scale_inv", new long[] { 8, 2 }, "holds the scales of")]
    public void Scales_that_are_not_of_blocks_are_named_as_what_they_are(string name, long[] shape, string expected)
    {
        using var copy = new CheckpointCopy();
        copy.Tensors.Remove($"{Projection}.weight_scale_inv");
        copy.Add($"{Projection}.{name}", SafeTensorType.Float32, shape, [.. Enumerable.Repeat(0.01f, (int)shape.Aggregate(1L, (a, b) => a * b))]);
        var message = copy.Refused();
        Assert.Contains($"tensor '{Projection}.{name}' (F32 [{string.Join(", ", shape)}]) {expected}", message, StringComparison.Ordinal);
        Assert.Contains($"'{Projection}.weight' (F8_E4M3 [512, 256])", message, StringComparison.Ordinal);
        Assert.Contains("one scale for each block of 128 x 128, [4, 2]", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_weight_without_scales_and_one_with_two_are_refused()
    {
        using var copy = new CheckpointCopy();
        copy.Tensors[$"{Projection}.weight_scale"] = copy.Tensors[$"{Projection}.weight_scale_inv"];
        Assert.Contains($"has scales by 2 names, '{Projection}.weight_scale_inv' and '{Projection}.weight_scale'; remove one", copy.Refused(), StringComparison.Ordinal);
        copy.Tensors.Remove($"{Projection}.weight_scale");
        copy.Tensors.Remove($"{Projection}.weight_scale_inv");
        Assert.Contains($"tensor '{Projection}.weight' (F8_E4M3 [512, 256]) has no scales: neither", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_tensor_of_another_shape_or_type_is_refused_with_both()
    {
        using var copy = new CheckpointCopy();
        copy.Tensors[$"{Projection}.weight"] = copy.Tensors[$"{Projection}.weight"] with { Shape = [256, 512] };
        Assert.Contains($"'{Projection}.weight' (F8_E4M3 [256, 512]) must have the shape [512, 256] by config.json", copy.Refused(), StringComparison.Ordinal);
        copy.Tensors[$"{Projection}.weight"] = copy.Tensors[$"{Projection}.weight"] with { Shape = [512, 256], Type = SafeTensorType.Int8 };
        Assert.Contains($"'{Projection}.weight' (I8 [512, 256]) must be F8_E4M3, BF16, F16 or F32", copy.Refused(), StringComparison.Ordinal);
    }
}
