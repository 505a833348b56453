using System.Collections.Frozen;
using Octet.Inference.Loading;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models.Architectures;

/// <summary>
/// Mixtral: no norms of q and k, experts in every layer; the softmax of the router's logits chooses, and the chosen weights are divided by
/// their sum. Source: Jiang et al., "Mixtral of Experts", 2024.
/// </summary>
internal static class Mixtral
{
    /// <summary>Its entry in the registry.</summary>
    public static Architecture Architecture { get; } = new()
    {
        Name = "MixtralForCausalLM",
        ModelTypes = ["mixtral"],
        Configure = Configure,
        Create = Create,
        WindowHasSwitch = false,
        OneValue = new Dictionary<string, string[]>
        {
            ["norm_topk_prob"] = ["true"],
            ["decoder_sparse_step"] = ["1"],
            ["use_qk_norm"] = ["false"],
            ["qk_norm"] = ["false"],
            ["qk_layernorm"] = ["false"],
            ["use_qk_layernorm"] = ["false"],
            ["qk_layer_norm"] = ["false"],
        }.ToFrozenDictionary(),
    };

    private static ModelConfig Configure(ModelJson json, ModelConfig config)
    {
        // Where the field is absent, transformers takes 8.
        _ = json.Get("num_key_value_heads");
        return config.WithExperts(json, "intermediate_size", areRequired: true) with
        {
            NormalizeTopK = true,
            RmsNormEpsilon = json.Find("rms_norm_eps") is null ? 1e-5 : config.RmsNormEpsilon,
        };
    }

    private static Decoder Create(LayerSource source) =>
        Decoders.Create(source, (_, prefix) => new Experts(source, $"{prefix}block_sparse_moe.", MlpNames.Numbers));
}
