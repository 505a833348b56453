using System.Collections.Frozen;
using Octet.Inference.Loading;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models.Architectures;

/// <summary>
/// MiniMax-M2: q and k are normed over their whole projection before it is split into heads, the first rotary_dim values of a head are
/// rotated, experts in every layer. Scores are sigmoids of the router's logits; score + correction bias chooses, and the chosen scores
/// without it are divided by their sum.
/// </summary>
internal static class MiniMaxM2
{
    /// <summary>Its entry in the registry.</summary>
    public static Architecture Architecture { get; } = new()
    {
        Name = "MiniMaxM2ForCausalLM",
        ModelTypes = ["minimax_m2", "minimax"],
        Configure = Configure,
        Create = Create,
        RotatesPart = true,
        WindowHasSwitch = false,
        OneValue = new Dictionary<string, string[]>
        {
            ["qk_norm_type"] = ["per_layer"],
            ["norm_topk_prob"] = ["true"],
            ["decoder_sparse_step"] = ["1"],

            // Of the residual stream in the models before it.
            ["layernorm_full_attention_alpha"] = ["1"],
            ["layernorm_full_attention_beta"] = ["1"],
            ["layernorm_linear_attention_alpha"] = ["1"],
            ["layernorm_linear_attention_beta"] = ["1"],
            ["layernorm_mlp_alpha"] = ["1"],
            ["layernorm_mlp_beta"] = ["1"],
        }.ToFrozenDictionary(),

        // Of the modules that predict further tokens; of a shared expert, whose width must be 0; of dense layers, of which there are none.
        WithoutEffect = FrozenSet.Create("use_mtp", "num_mtp_modules", "mtp_transformer_layers", "shared_moe_mode", "mlp_intermediate_size"),
    };

    private static ModelConfig Configure(ModelJson json, ModelConfig config)
    {
        foreach (var kind in json.Find("attn_type_list")?.Items() ?? [])
        {
            if (kind.AsInteger(int.MinValue, int.MaxValue) != 1)
            {
                throw kind.Bad($"is {kind.Brief()}, but only 1, attention over the whole context, is supported");
            }
        }

        // A checkpoint that says nothing of one of these is not known to be this model.
        Require(json, json.Flag("use_qk_norm", absent: false), "use_qk_norm", "true");
        Require(json, json.FindText("scoring_func") == "sigmoid", "scoring_func", "'sigmoid'");
        _ = json.Get("num_key_value_heads");
        _ = json.Get("rms_norm_eps");
        return config.WithExperts(json, "intermediate_size", areRequired: true) with
        {
            QkNorm = QkNorm.Projection,
            NormalizeTopK = true,
            Scoring = MoeScoring.Sigmoid,
            HasScoreBias = json.Flag("use_routing_bias", absent: false),
            PredictionLayers = json.FindInteger("num_mtp_modules", 0, 4096) ?? 0,
        };
    }

    private static void Require(ModelJson json, bool condition, string field, string value)
    {
        if (!condition)
        {
            throw json.Bad($"{field} is {json.Find(field)?.Brief() ?? "missing"}, but only {value} is supported");
        }
    }

    private static Decoder Create(LayerSource source) =>
        Decoders.Create(source, (_, prefix) => new Experts(source, $"{prefix}block_sparse_moe.", MlpNames.Numbers));
}
