using Octet.Inference.Loading;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models.Architectures;

/// <summary>
/// Qwen3-MoE: each q and k head is normed, the softmax of the router's logits chooses and weighs; layers without experts have one MLP.
/// </summary>
internal static class Qwen3Moe
{
    /// <summary>Its entry in the registry.</summary>
    public static Architecture Architecture { get; } = new()
    {
        Name = "Qwen3MoeForCausalLM",
        ModelTypes = ["qwen3_moe"],
        Configure = Configure,
        Create = Create,
    };

    private static ModelConfig Configure(ModelJson json, ModelConfig config) => config.WithExperts(json, "moe_intermediate_size") with
    {
        QkNorm = QkNorm.Head,
        AttentionBias = json.Flag("attention_bias", absent: false),
        IntermediateSize = json.FindInteger("intermediate_size", 0, 1 << 20) ?? 0,
        NormalizeTopK = json.Flag("norm_topk_prob", absent: false),
        DecoderSparseStep = json.FindInteger("decoder_sparse_step", 1, int.MaxValue) ?? 1,
        MlpOnlyLayers = json.OneOrMoreIntegers("mlp_only_layers", 0, config.LayerCount - 1),
    };

    private static Decoder Create(LayerSource source) => Decoders.Create(source, (layer, prefix) => source.Config.IsMoeLayer(layer)
        ? new Experts(source, $"{prefix}mlp.", MlpNames.Projections)
        : new DenseMlp(source, $"{prefix}mlp.", MlpNames.Projections));
}
