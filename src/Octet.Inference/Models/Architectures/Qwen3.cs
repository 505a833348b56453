using Octet.Inference.Loading;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models.Architectures;

/// <summary>Qwen3 without experts: each q and k head is normed, one MLP in every layer.</summary>
internal static class Qwen3
{
    /// <summary>Its entry in the registry.</summary>
    public static Architecture Architecture { get; } = new()
    {
        Name = "Qwen3ForCausalLM",
        ModelTypes = ["qwen3"],
        Configure = Configure,
        Create = Create,
    };

    private static ModelConfig Configure(ModelJson json, ModelConfig config) => config with
    {
        QkNorm = QkNorm.Head,
        AttentionBias = json.Flag("attention_bias", absent: false),
        IntermediateSize = json.Integer("intermediate_size", 1, 1 << 20),
    };

    private static Decoder Create(LayerSource source) =>
        Decoders.Create(source, (_, prefix) => new DenseMlp(source, $"{prefix}mlp.", MlpNames.Projections));
}
