using Octet.Inference.Loading;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>The same experts in other layouts: the logits must have the same bits.</summary>
public sealed class ExpertTensorsTests
{
    [Theory]
    [InlineData("cpu", "gate_up_proj", "_scale_inv", false)]
    [InlineData("cpu:fnuz", "gate_up_proj", "_scale_inv", false)]
    [InlineData("cpu", "gate_up_proj.weight", "_scale_inv", false)]
    [InlineData("cpu", "gate_up_proj", ".weight_scale_inv", false)]
    [InlineData("cpu", "gate_up_proj", "_weight_scale_inv", false)]
    [InlineData("cpu", "gate_up_proj.weight", "_scale", false)]
    [InlineData("cpu", "gate_up_proj", "_scale_inv", true)]
    [InlineData("cpu:fnuz", "gate_up_proj.weight", "_scale", true)]
    public void Fused_experts_give_the_logits_of_separate_ones(string device, string name, string scales, bool transposed)
    {
        using var copy = new CheckpointCopy();
        var expected = copy.Logits(device);
        Fuse(copy, CheckpointCopy.Intermediate, name, scales, transposed);
        Assert.Equal(expected, copy.Logits(device));
    }

    [Theory]
    [InlineData("cpu", false)]
    [InlineData("cpu:fnuz", false)]
    [InlineData("cpu", true)]
    public void Fused_plain_experts_give_the_logits_of_separate_ones(string device, bool transposed)
    {
        using var copy = new CheckpointCopy();
        foreach (var name in copy.Tensors.Keys.Where(name => name.Contains(".experts.", StringComparison.Ordinal) && name.EndsWith(".weight", StringComparison.Ordinal)).ToArray())
        {
            copy.Dequantize(name[..^".weight".Length]);
        }

        var expected = copy.Logits(device);
        Fuse(copy, CheckpointCopy.Intermediate, "gate_up_proj", null, transposed);
        Assert.Equal(expected, copy.Logits(device));
    }

    [Theory]
    [InlineData("cpu", false, false)]
    [InlineData("cpu:fnuz", false, false)]
    [InlineData("cpu", true, false)]
    [InlineData("cpu", false, true)]
    [InlineData("cpu:fnuz", true, true)]
    [InlineData("sim:gfx942", true, false)]
    public void Fused_experts_of_a_width_that_is_no_multiple_of_128_have_a_grid_each_or_one_over_both(string device, bool oneGrid, bool transposed)
    {
        using var copy = new CheckpointCopy();
        Narrow(copy, 64);
        if (oneGrid)
        {
            // One row of blocks covers gate and up: they have the same scales.
            foreach (var gate in copy.Tensors.Keys.Where(name => name.EndsWith("gate_proj.weight_scale_inv", StringComparison.Ordinal)).ToArray())
            {
                copy.Tensors[gate.Replace("gate_proj", "up_proj", StringComparison.Ordinal)] = copy.Tensors[gate];
            }
        }

        var expected = copy.Logits(device);
        Fuse(copy, 64, "gate_up_proj", "_scale_inv", transposed, oneGrid);
        Assert.Equal(expected, copy.Logits(device));
    }

    [Fact]
    public void A_grid_that_may_be_two_or_one_is_refused()
    {
        using var copy = new CheckpointCopy();
        Narrow(copy, 96);
        Fuse(copy, 96, "gate_up_proj", "_scale_inv", transposed: false);
        Assert.Contains("'model.layers.0.mlp.experts.gate_up_proj_scale_inv' (F32 [16, 2, 2]) may hold a grid of scales for gate and one for up, or one over both: with 96 rows each", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void Fused_tensors_of_other_shapes_are_refused_with_both_shapes()
    {
        using var copy = new CheckpointCopy();
        Fuse(copy, CheckpointCopy.Intermediate, "gate_up_proj", "_scale_inv", transposed: false);
        copy.Tensors["model.layers.0.mlp.experts.down_proj"] = copy.Tensors["model.layers.0.mlp.experts.down_proj"] with { Shape = [16, 512, 64] };
        Assert.Contains(
            "(F8_E4M3 [16, 256, 256]) and 'model.layers.0.mlp.experts.down_proj' (F8_E4M3 [16, 512, 64]) must have the shapes [16, 256, 256] and [16, 256, 128], or [16, 256, 256] and [16, 128, 256], by config.json",
            copy.Refused(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(new long[] { 16 }, "one scale for each expert (per-tensor)")]
    [InlineData(new long[] { 16, 256, 1 }, "one scale for each output row (per-channel)")]
    public void Scales_of_fused_experts_that_are_not_of_blocks_are_named(long[] shape, string expected)
    {
        using var copy = new CheckpointCopy();
        Fuse(copy, CheckpointCopy.Intermediate, "gate_up_proj", "_scale", transposed: false);
        copy.Add("model.layers.0.mlp.experts.gate_up_proj_scale", SafeTensorType.Float32, shape, [.. Enumerable.Repeat(1f, (int)shape.Aggregate((a, b) => a * b))]);
        Assert.Contains($"holds {expected} of 'model.layers.0.mlp.experts.gate_up_proj' (F8_E4M3 [16, 256, 256]), but only one scale for each block of 128 x 128, [16, 2, 2], is supported", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void Damage_in_fused_experts_is_refused_where_it_lies()
    {
        using var copy = new CheckpointCopy();
        Fuse(copy, CheckpointCopy.Intermediate, "gate_up_proj", "_scale_inv", transposed: false);
        copy.Set("model.layers.1.mlp.experts.gate_up_proj", (5 * 65536) + 40000, (byte)0x7F);
        Assert.Contains("'model.layers.1.mlp.experts.gate_up_proj' (F8_E4M3 [16, 256, 256]) holds the FP8 NaN 0x7f at position 367680;", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_fused_tensor_without_its_partner_and_an_expert_that_is_missing_are_named()
    {
        using var copy = new CheckpointCopy();
        copy.Rename("model.layers.2.mlp.experts.3.up_proj.weight", "other");
        Assert.Contains("tensor 'model.layers.2.mlp.experts.3.up_proj.weight' is missing; of the ", copy.Refused(), StringComparison.Ordinal);
        copy.Rename("other", "model.layers.2.mlp.experts.3.up_proj.weight");
        Fuse(copy, CheckpointCopy.Intermediate, "gate_up_proj", "_scale_inv", transposed: false);
        copy.Tensors.Remove("model.layers.0.mlp.experts.down_proj");
        Assert.Contains("no 'model.layers.0.mlp.experts.down_proj' goes with it", copy.Refused(), StringComparison.Ordinal);
    }

    // Cuts the experts to fewer rows of gate and up and fewer columns of down; one block of scales is left of each.
    private static void Narrow(CheckpointCopy copy, int width)
    {
        copy.Config = copy.Config.Replace("\"moe_intermediate_size\": 128", $"\"moe_intermediate_size\": {width}", StringComparison.Ordinal);
        foreach (var name in copy.Tensors.Keys.Where(name => name.Contains(".experts.", StringComparison.Ordinal) && name.EndsWith("_proj.weight", StringComparison.Ordinal)).ToArray())
        {
            var bytes = copy.Tensors[name].Bytes;
            var down = name.EndsWith("down_proj.weight", StringComparison.Ordinal);
            copy.Tensors[name] = down
                ? new(SafeTensorType.Float8E4M3, [256, width], [.. bytes.Where((_, i) => i % 128 < width)])
                : new(SafeTensorType.Float8E4M3, [width, 256], bytes[..(width * 256)]);
        }
    }

    // Puts the fused tensors in the place of the experts': gate over up, in each expert; or each matrix transposed.
    private static void Fuse(
        CheckpointCopy copy, int width, string gateUp, string? scales, bool transposed, bool oneGrid = false)
    {
        var down = gateUp.Replace("gate_up_proj", "down_proj", StringComparison.Ordinal);
        for (var layer = 0; layer < CheckpointCopy.Layers; layer++)
        {
            var prefix = $"model.layers.{layer}.mlp.experts.";
            void Put(string name, string part, string[] projections)
            {
                var pieces = Enumerable.Range(0, CheckpointCopy.Experts)
                    .Select(expert => projections.Select(projection => copy.Tensors[$"{prefix}{expert}.{projection}.{part}"]).ToArray()).ToArray();
                var first = pieces[0][0];
                var (rows, columns) = (first.Shape[0] * projections.Length, first.Shape[1]);
                byte[][] experts = [.. pieces.Select(pair => pair.SelectMany(entry => entry.Bytes).ToArray())];
                copy.Tensors[prefix + name] = transposed
                    ? new(first.Type, [CheckpointCopy.Experts, columns, rows], [.. experts.SelectMany(bytes => Transpose(bytes, rows, columns, first.Type))])
                    : new(first.Type, [CheckpointCopy.Experts, rows, columns], [.. experts.SelectMany(bytes => bytes)]);
            }

            Put(gateUp, "weight", ["gate_proj", "up_proj"]);
            Put(down, "weight", ["down_proj"]);
            if (scales is not null)
            {
                Put(gateUp + scales, "weight_scale_inv", oneGrid ? ["gate_proj"] : ["gate_proj", "up_proj"]);
                Put(down + scales, "weight_scale_inv", ["down_proj"]);
            }

            foreach (var name in copy.Tensors.Keys.Where(name => name.StartsWith(prefix, StringComparison.Ordinal) && char.IsAsciiDigit(name[prefix.Length])).ToArray())
            {
                copy.Tensors.Remove(name);
            }
        }

        Assert.Equal(width * 2, (int)copy.Tensors[$"model.layers.0.mlp.experts.{gateUp}"].Shape[transposed ? 2 : 1]);
    }

    private static byte[] Transpose(byte[] bytes, long rows, long columns, SafeTensorType type)
    {
        var size = type.SizeInBytes();
        var result = new byte[bytes.Length];
        for (var i = 0; i < rows; i++)
        {
            for (var j = 0; j < columns; j++)
            {
                bytes.AsSpan((int)((i * columns) + j) * size, size).CopyTo(result.AsSpan((int)((j * rows) + i) * size));
            }
        }

        return result;
    }
}
