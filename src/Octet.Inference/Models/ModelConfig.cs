namespace Octet.Inference.Models;

/// <summary>Which norms q and k have before they are rotated.</summary>
public enum QkNorm
{
    /// <summary>None.</summary>
    None,

    /// <summary>Each head by itself, with a weight of [head_dim].</summary>
    Head,

    /// <summary>All heads of a token together, with a weight of [heads * head_dim].</summary>
    Projection,
}

/// <summary>The shape of a model: config.json, validated.</summary>
public sealed partial record ModelConfig
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "config.json";

    /// <summary>The architectures this library runs, by their names in <c>architectures</c>: "A, B and C".</summary>
    public static string Architectures => ModelRegistry.Names;

    /// <summary>The model's architecture: the first of <c>architectures</c> that this library runs.</summary>
    public required string Architecture { get; init; }

    /// <summary>The number of decoder layers (<c>num_hidden_layers</c>).</summary>
    public required int LayerCount { get; init; }

    /// <summary>The width of the residual stream (<c>hidden_size</c>).</summary>
    public required int HiddenSize { get; init; }

    /// <summary>The number of token ids, the width of the logits (<c>vocab_size</c>).</summary>
    public required int VocabularySize { get; init; }

    /// <summary>The number of query heads (<c>num_attention_heads</c>), a multiple of <see cref="KeyValueHeads"/>.</summary>
    public required int QueryHeads { get; init; }

    /// <summary>The number of key/value heads (<c>num_key_value_heads</c>).</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>The values per head, 64 or 128 (<c>head_dim</c>, by default hidden size / query heads).</summary>
    public required int HeadDim { get; init; }

    /// <summary>The norms of q and k, which the architecture has.</summary>
    public QkNorm QkNorm { get; init; }

    /// <summary>The first values of each head that are rotated: all of them, or <c>rotary_dim</c> or <c>partial_rotary_factor</c> of them.</summary>
    public required int RotaryDim { get; init; }

    /// <summary>Whether the q, k, v and o projections have a bias (<c>attention_bias</c>).</summary>
    public bool AttentionBias { get; init; }

    /// <summary>The width of the MLP of a dense layer (<c>intermediate_size</c>); 0 if the file does not say.</summary>
    public int IntermediateSize { get; init; }

    /// <summary>The width of one expert (<c>moe_intermediate_size</c>, in models whose layers all have experts <c>intermediate_size</c>); 0 if no layer has experts.</summary>
    public int MoeIntermediateSize { get; init; }

    /// <summary>The number of experts in an MoE layer (<c>num_experts</c>, <c>num_local_experts</c> or <c>n_routed_experts</c>); 0 if no layer has experts.</summary>
    public int ExpertCount { get; init; }

    /// <summary>The number of experts each token is routed to, the top-k (<c>num_experts_per_tok</c>).</summary>
    public int ExpertsPerToken { get; init; }

    /// <summary>Whether the top-k probabilities are scaled to a sum of 1 (<c>norm_topk_prob</c>).</summary>
    public bool NormalizeTopK { get; init; }

    /// <summary>What the router makes of its logits, which the architecture has.</summary>
    public MoeScoring Scoring { get; init; }

    /// <summary>Whether a bias is added to the router's scores where they choose, not where they weigh (<c>use_routing_bias</c>).</summary>
    public bool HasScoreBias { get; init; }

    /// <summary>Layers the checkpoint may have behind the last that predict further tokens, which are left out (<c>num_mtp_modules</c>).</summary>
    public int PredictionLayers { get; init; }

    /// <summary>Every how many layers there are experts (<c>decoder_sparse_step</c>).</summary>
    public int DecoderSparseStep { get; init; } = 1;

    /// <summary>The layers that are dense in any case (<c>mlp_only_layers</c>).</summary>
    public IReadOnlyList<int> MlpOnlyLayers { get; init; } = [];

    /// <summary>The epsilon of RMSNorm (<c>rms_norm_eps</c>).</summary>
    public required double RmsNormEpsilon { get; init; }

    /// <summary>The base of the rotary frequencies (<c>rope_theta</c>, there or under <c>rope_parameters</c>).</summary>
    public required double RopeTheta { get; init; }

    /// <summary>How the rotary frequencies are scaled (<c>rope_scaling</c> or <c>rope_parameters</c>).</summary>
    public RotaryScaling RopeScaling { get; init; } = RotaryScaling.None;

    /// <summary>The longest context in tokens: <c>max_position_embeddings</c>; with YaRN the original context times its factor.</summary>
    public required int MaxContext { get; init; }

    /// <summary>Whether the LM head is the embedding table (<c>tie_word_embeddings</c>).</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>How the projections are stored (<c>quantization_config</c>).</summary>
    public WeightFormat WeightFormat { get; init; }

    /// <summary>The tokens that end a text (<c>eos_token_id</c>); empty if the file names none.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>Whether <paramref name="layer"/> has experts: <c>(layer + 1) mod decoder_sparse_step = 0</c>, not in <c>mlp_only_layers</c>, and there are experts.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    public bool IsMoeLayer(int layer)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(layer, LayerCount);
        return ExpertCount > 0 && (layer + 1) % DecoderSparseStep == 0 && !MlpOnlyLayers.Contains(layer);
    }
}
