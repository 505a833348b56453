using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

public sealed class KvScalesTests
{
    [Theory]
    [InlineData("k_scale", "v_scale")]
    [InlineData("attn.k_scale", "attn.v_scale")]
    [InlineData("k_proj.k_scale", "v_proj.v_scale")]
    [InlineData("qkv_proj.k_scale", "qkv_proj.v_scale")]
    [InlineData("k_proj.output_scale", "v_proj.output_scale")]
    [InlineData("kv_scale", null)]
    public void Scales_by_any_name_and_of_any_rank_reach_the_cache_of_their_layer(string key, string? value)
    {
        using var copy = new CheckpointCopy();
        foreach (var shape in (long[][])[[], [1], [1, 1]])
        {
            Add(copy, 1, key, SafeTensorType.Float32, shape, 0.25f);
            if (value is not null)
            {
                Add(copy, 1, value, SafeTensorType.Float32, shape, 0.5f);
            }

            foreach (var (name, factor) in ((string, float)[])[("cpu", 1), ("cpu:fnuz", 2)])
            {
                Assert.Equal([([factor], [factor]), ([0.25f * factor], [(value is null ? 0.25f : 0.5f) * factor])], Uploaded(copy, name, KvEncoding.Float8).Take(2));
            }

            Assert.Equal((null, null), Uploaded(copy, "cpu", KvEncoding.BFloat16)[1]);
        }
    }

    [Fact]
    public void Scales_of_heads_reach_the_cache_and_one_scale_stands_for_all_beside_them()
    {
        using var copy = new CheckpointCopy();
        Add(copy, 2, "k_scale", SafeTensorType.BFloat16, [2], (BFloat16)0.5f, (BFloat16)2f);
        Add(copy, 2, "v_scale", SafeTensorType.Float32, [1], 0.125f);
        Assert.Equal([([1f, 4f], [0.25f, 0.25f])], Uploaded(copy, "cpu:fnuz", KvEncoding.Float8).Skip(2).Take(1));
        Add(copy, 2, "k_scale", SafeTensorType.Float32, [2, 1, 1], 0.5f, 2f);
        Assert.Equal([([0.5f, 2f], [0.125f, 0.125f])], Uploaded(copy, "cpu", KvEncoding.Float8).Skip(2).Take(1));
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("cpu:fnuz")]
    public void Scales_change_the_logits_as_their_rounding_does_and_a_BF16_cache_has_none(string device)
    {
        var plain = CheckpointCopy.LogitsOf(TinyModel.Directory, device);
        var exact = CheckpointCopy.LogitsOf(TinyModel.Directory, device, KvEncoding.BFloat16);
        using var copy = new CheckpointCopy();
        float[] Scaled(KvEncoding kv, SafeTensorType type, params float[] scales)
        {
            for (var layer = 0; layer < CheckpointCopy.Layers; layer++)
            {
                Add(copy, layer, "k_scale", type, [scales.Length], scales);
                Add(copy, layer, "v_scale", type, [scales.Length], scales);
            }

            return copy.Logits(device, kv);
        }

        // A power of two moves no code but those at the ends of the range: only those round differently.
        var half = Scaled(KvEncoding.Float8, SafeTensorType.Float32, 0.5f);
        Assert.NotEqual(plain, half);
        Assert.InRange(TinyModel.Difference(half, exact), double.NegativeInfinity, 2e-3);
        Assert.Equal(half, Scaled(KvEncoding.Float8, SafeTensorType.Float32, 0.5f, 0.5f));

        // The second head's scale alone: its values saturate at 448 / 4096, its neighbour's do not.
        var saturated = Scaled(KvEncoding.Float8, SafeTensorType.Float32, 1f, 1f / 4096);
        var both = Scaled(KvEncoding.Float8, SafeTensorType.Float32, 1f / 4096);
        var (one, two) = (TinyModel.Difference(saturated, exact), TinyModel.Difference(both, exact));
        Assert.InRange(one, 5e-3, two);
        Assert.True(two > one);
        Assert.Equal(exact, Scaled(KvEncoding.BFloat16, SafeTensorType.Float32, 1f / 4096));
    }

    [Theory]
    [InlineData(0f, "holds 0 at position 0; a scale must be from 5.42e-20 to 1.84e+19")]
    [InlineData(-1f, "holds -1 at position 0; a scale must be")]
    [InlineData(float.NaN, "holds NaN at position 0; a scale must be")]
    [InlineData(float.PositiveInfinity, "holds Infinity at position 0; a scale must be")]
    [InlineData(1e30f, "holds 1E+30 at position 0; a scale must be")]
    public void A_scale_that_is_no_positive_number_is_refused(float scale, string expected)
    {
        using var copy = new CheckpointCopy();
        Add(copy, 3, "k_scale", SafeTensorType.Float32, [], scale);
        Add(copy, 3, "v_scale", SafeTensorType.Float32, [], 1f);
        Assert.Contains($"tensor 'model.layers.3.self_attn.k_scale' (F32 []) {expected}", copy.Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void One_of_the_two_two_names_for_one_and_other_shapes_are_refused()
    {
        using var copy = new CheckpointCopy();
        Add(copy, 0, "k_scale", SafeTensorType.Float32, [1], 1f);
        Assert.Contains("has the KV cache scale 'model.layers.0.self_attn.k_scale' (F32 [1]), but none for the values of that layer", copy.Refused(), StringComparison.Ordinal);
        Add(copy, 0, "v_scale", SafeTensorType.Float32, [3], 1f, 1f, 1f);
        Assert.Contains("'model.layers.0.self_attn.v_scale' (F32 [3]) must be one KV cache scale, or one for each of the 2 KV heads: [], [1] or [2]", copy.Refused(), StringComparison.Ordinal);
        Add(copy, 0, "v_scale", SafeTensorType.Float32, [1], 1f);
        Add(copy, 0, "v_proj.v_scale", SafeTensorType.Float32, [1], 1f);
        Assert.Contains("a KV cache scale goes by two names, 'model.layers.0.self_attn.v_scale' and 'model.layers.0.self_attn.v_proj.v_scale'", copy.Refused(), StringComparison.Ordinal);
    }

    private static void Add<T>(CheckpointCopy copy, int layer, string name, SafeTensorType type, long[] shape, params T[] scales) where T : unmanaged =>
        copy.Add($"model.layers.{layer}.self_attn.{name}", type, shape, scales);

    // What the caches of the layers are given.
    private static (float[]? K, float[]? V)[] Uploaded(CheckpointCopy copy, string deviceName, KvEncoding encoding)
    {
        copy.Write();
        var config = ModelConfig.Load(copy.Directory);
        using var device = Device.Open(deviceName);
        using var files = CheckpointFiles.Open(copy.Directory);
        using var cache = new PagedKvCache(device, RankShape.Whole(config).Kv, encoding, 16, 2, ModelRegistry.Create(files, config, Sharding.One).KvScales);
        return [.. cache.Layers.Select(layer => (ToArray(layer.KScales), ToArray(layer.VScales)))];

        static float[]? ToArray(TensorView scales) => scales.IsNull ? null : scales.ToArray<float>();
    }
}
