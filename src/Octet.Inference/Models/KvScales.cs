using Octet.Inference.Loading;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models;

/// <summary>The scales of a layer's FP8 KV cache in OCP encoding, value = code * scale: one each, or one for each KV head.</summary>
internal sealed record KvScales(float[] K, float[] V)
{
    // 2^-64 and 2^64: values up to 2^63 over the one and codes times the other are finite.
    private const float Least = 1 / Most;
    private const float Most = 18446744073709551616f;

    private static readonly string[] KeyNames = ["k_scale", "attn.k_scale", "k_proj.k_scale", "qkv_proj.k_scale", "k_proj.output_scale"];
    private static readonly string[] ValueNames = ["v_scale", "attn.v_scale", "v_proj.v_scale", "qkv_proj.v_scale", "v_proj.output_scale"];
    private static readonly string[] CommonNames = ["kv_scale", "attn.kv_scale"];

    /// <summary>The scales under any of the names in use, <paramref name="prefix"/> ending in "self_attn."; null: there are none.</summary>
    /// <exception cref="ModelFormatException">Only one of the two is there, or one by two names; a shape is neither one scale nor one for each head; a value is not a positive number or too large.</exception>
    public static KvScales? Take(ITensorSource tensors, string prefix, int kvHeads)
    {
        var common = Find(tensors, prefix, CommonNames);
        var key = Find(tensors, prefix, [.. KeyNames, .. common is null ? Array.Empty<string>() : CommonNames]);
        var value = Find(tensors, prefix, [.. ValueNames, .. common is null ? Array.Empty<string>() : CommonNames]);
        if (key is null && value is null)
        {
            return null;
        }

        if (key is null || value is null)
        {
            var there = (key ?? value)!;
            throw new ModelFormatException($"{there.File}: has the KV cache scale {there}, but none for the {(key is null ? "keys" : "values")} of that layer");
        }

        var (k, v) = (Read(key, kvHeads), Read(value, kvHeads));
        var count = Math.Max(k.Length, v.Length);
        return new(Spread(k, count), Spread(v, count));
    }

    /// <summary>Those of some of the KV heads.</summary>
    /// <param name="heads">Which heads, where there is one scale for each.</param>
    public KvScales Of(ShardSpec heads) => K.Length == 1 ? this : new(heads.Of(K), heads.Of(V));

    private static SafeTensor? Find(ITensorSource tensors, string prefix, string[] names)
    {
        SafeTensor[] found = [.. names.Select(name => tensors.Find(prefix + name)).OfType<SafeTensor>()];
        return found.Length < 2
            ? found.FirstOrDefault()
            : throw new ModelFormatException($"{found[0].File}: a KV cache scale goes by two names, '{found[0].Name}' and '{found[1].Name}'; remove one");
    }

    private static float[] Read(SafeTensor tensor, int kvHeads)
    {
        if (tensor.ElementCount != 1 && (tensor.ElementCount != kvHeads || !tensor.Shape.ToArray().Contains(kvHeads)))
        {
            throw new ModelFormatException(
                $"{tensor.File}: tensor {tensor} must be one KV cache scale, or one for each of the {kvHeads} KV heads: [], [1] or [{kvHeads}]");
        }

        var scales = TensorValues.ToSingles(tensor, tensor.ReadAll());
        for (var i = 0; i < scales.Length; i++)
        {
            TensorValues.CheckScale(tensor, i, scales[i], Least, Most);
        }

        return scales;
    }

    private static float[] Spread(float[] scales, int count) => scales.Length == count ? scales : [.. Enumerable.Repeat(scales[0], count)];
}
