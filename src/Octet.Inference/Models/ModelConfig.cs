using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>How a checkpoint stores its projection weights.</summary>
public enum WeightFormat
{
    /// <summary>Plain BF16, F16 or F32.</summary>
    Plain,

    /// <summary>OCP E4M3 with one scale for each block of 128 x 128, which multiplies.</summary>
    Float8Block128,
}

/// <summary>The shape of a Qwen3-MoE model: config.json, validated.</summary>
public sealed record ModelConfig
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "config.json";

    /// <summary>The architecture this library runs.</summary>
    public const string Architecture = "Qwen3MoeForCausalLM";

    // As many rows of queries as one tile of the attention kernels has.
    private const int MostQueriesPerKey = 16;

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

    /// <summary>Whether the q, k, v and o projections have a bias (<c>attention_bias</c>).</summary>
    public bool AttentionBias { get; init; }

    /// <summary>The width of the MLP of a dense layer (<c>intermediate_size</c>); 0 if the file does not say.</summary>
    public int IntermediateSize { get; init; }

    /// <summary>The width of one expert (<c>moe_intermediate_size</c>); 0 if no layer has experts.</summary>
    public int MoeIntermediateSize { get; init; }

    /// <summary>The number of experts in an MoE layer (<c>num_experts</c>); 0 if no layer has experts.</summary>
    public int ExpertCount { get; init; }

    /// <summary>The number of experts each token is routed to, the top-k (<c>num_experts_per_tok</c>).</summary>
    public int ExpertsPerToken { get; init; }

    /// <summary>Whether the top-k probabilities are scaled to a sum of 1 (<c>norm_topk_prob</c>).</summary>
    public bool NormalizeTopK { get; init; }

    /// <summary>Every how many layers there are experts (<c>decoder_sparse_step</c>).</summary>
    public int DecoderSparseStep { get; init; } = 1;

    /// <summary>The layers that are dense in any case (<c>mlp_only_layers</c>).</summary>
    public IReadOnlyList<int> MlpOnlyLayers { get; init; } = [];

    /// <summary>The epsilon of RMSNorm (<c>rms_norm_eps</c>).</summary>
    public required double RmsNormEpsilon { get; init; }

    /// <summary>The base of the rotary frequencies (<c>rope_theta</c>, there or under <c>rope_parameters</c>).</summary>
    public required double RopeTheta { get; init; }

    /// <summary>The longest context in tokens (<c>max_position_embeddings</c>).</summary>
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

    /// <summary>Reads config.json in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">The file is missing, not well-formed, of another architecture, or asks for something this library does not implement.</exception>
    public static ModelConfig Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        return Directory.Exists(directory)
            ? Parse(ModelJson.Read(Path.Combine(directory, FileName)))
            : throw new ModelFormatException($"{directory}: is not a directory; give the folder that holds {FileName} and the weights");
    }

    internal static ModelConfig Parse(ModelJson json)
    {
        CheckArchitecture(json);
        int hidden = json.Integer("hidden_size", 1, 1 << 20);
        int layers = json.Integer("num_hidden_layers", 1, 4096);
        int vocabulary = json.Integer("vocab_size", 1, 1 << 24);
        int queryHeads = json.Integer("num_attention_heads", 1, 4096);
        int experts = json.FindInteger("num_experts", 0, 512) ?? 0;
        var config = new ModelConfig
        {
            LayerCount = layers,
            HiddenSize = hidden,
            VocabularySize = vocabulary,
            QueryHeads = queryHeads,
            KeyValueHeads = json.FindInteger("num_key_value_heads", 1, queryHeads) ?? queryHeads,
            HeadDim = json.FindInteger("head_dim", 1, 1 << 20) ?? hidden / queryHeads,
            AttentionBias = json.Flag("attention_bias", absent: false),
            IntermediateSize = json.FindInteger("intermediate_size", 0, 1 << 20) ?? 0,
            MoeIntermediateSize = experts > 0 ? json.Integer("moe_intermediate_size", 1, 1 << 20) : 0,
            ExpertCount = experts,
            ExpertsPerToken = experts > 0 ? json.Integer("num_experts_per_tok", 1, Math.Min(16, experts)) : 0,
            NormalizeTopK = json.Flag("norm_topk_prob", absent: false),
            DecoderSparseStep = json.FindInteger("decoder_sparse_step", 1, int.MaxValue) ?? 1,
            MlpOnlyLayers = json.OneOrMoreIntegers("mlp_only_layers", 0, layers - 1),
            RmsNormEpsilon = json.FindNumber("rms_norm_eps", 1e-12, 0.1) ?? 1e-6,
            RopeTheta = ReadRope(json),
            MaxContext = json.Integer("max_position_embeddings", 1, 1 << 24),
            TieWordEmbeddings = json.Flag("tie_word_embeddings", absent: false),
            WeightFormat = ReadWeightFormat(json),
            EosTokenIds = json.OneOrMoreIntegers("eos_token_id", 0, vocabulary - 1),
        };
        config.CheckTogether(json);
        CheckUnsupported(json, config.MaxContext);
        return config;
    }

    private static void CheckArchitecture(ModelJson json)
    {
        List<string> found = [.. json.Get("architectures").Items().Select(item => item.AsText())];
        if (!found.Contains(Architecture))
        {
            throw json.Bad($"architectures is [{string.Join(", ", found)}], but only {Architecture} is supported");
        }
    }

    // What no single field can tell.
    private void CheckTogether(ModelJson json)
    {
        if (QueryHeads % KeyValueHeads != 0)
        {
            throw json.Bad($"num_attention_heads {QueryHeads} is not a multiple of num_key_value_heads {KeyValueHeads}");
        }
        if (QueryHeads / KeyValueHeads > MostQueriesPerKey)
        {
            throw json.Bad($"num_attention_heads {QueryHeads} over num_key_value_heads {KeyValueHeads} is {QueryHeads / KeyValueHeads} query heads for each key/value head, but at most {MostQueriesPerKey} are supported");
        }
        if (HeadDim is not (64 or 128))
        {
            throw json.Bad($"head_dim is {HeadDim} (hidden_size {HiddenSize}, num_attention_heads {QueryHeads}), but only 64 and 128 are supported");
        }
        if (IntermediateSize == 0 && Enumerable.Range(0, LayerCount).Any(layer => !IsMoeLayer(layer)))
        {
            throw json.Bad("lacks 'intermediate_size' or has it 0, but not all layers have experts");
        }
    }

    private static double ReadRope(ModelJson json)
    {
        // transformers 5 writes rope_parameters; older files have rope_theta at the top and rope_scaling for the variants.
        foreach (string name in (ReadOnlySpan<string>)["rope_scaling", "rope_parameters"])
        {
            if (json.FindObject(name) is { } rope)
            {
                string type = rope.FindText("rope_type") ?? rope.FindText("type") ?? "default";
                if (type != "default")
                {
                    throw rope.Bad($"asks for the type '{type}', but only 'default' rotary embeddings are supported; remove it to run within max_position_embeddings");
                }
            }
        }
        foreach (ModelJson? place in (ReadOnlySpan<ModelJson?>)[json, json.FindObject("rope_parameters")])
        {
            if (place?.FindNumber("partial_rotary_factor", 0, 1) is { } factor && factor != 1)
            {
                throw place.Value.Bad($"partial_rotary_factor is {factor}, but only 1 is supported");
            }
        }
        return json.FindObject("rope_parameters")?.FindNumber("rope_theta", 1, 1e12)
            ?? json.FindNumber("rope_theta", 1, 1e12)
            ?? throw json.Bad("lacks 'rope_theta', both at the top and under rope_parameters");
    }

    private static WeightFormat ReadWeightFormat(ModelJson json)
    {
        if (json.FindObject("quantization_config") is not { } quantization)
        {
            return WeightFormat.Plain;
        }
        Expect(quantization, "quant_method", "fp8", absent: null);
        Expect(quantization, "fmt", "e4m3", absent: "e4m3");
        Expect(quantization, "activation_scheme", "dynamic", absent: "dynamic");
        int[] block = [.. quantization.Get("weight_block_size").Items().Select(item => item.AsInteger(1, int.MaxValue))];
        return block is [128, 128]
            ? WeightFormat.Float8Block128
            : throw quantization.Bad($"weight_block_size is [{string.Join(", ", block)}], but only [128, 128] is supported");
    }

    private static void CheckUnsupported(ModelJson json, int maxContext)
    {
        Expect(json, "hidden_act", "silu", absent: "silu");
        if (json.Flag("use_sliding_window", absent: false) && json.FindInteger("sliding_window", 1, int.MaxValue) is { } window && window < maxContext)
        {
            throw json.Bad($"use_sliding_window is true with sliding_window {window}, but only attention over the whole context is supported");
        }
        if (json.Find("layer_types") is { } types)
        {
            foreach (ModelJson type in types.Items())
            {
                if (type.AsText() != "full_attention")
                {
                    throw type.Bad($"is '{type.AsText()}', but only 'full_attention' is supported");
                }
            }
        }
    }

    private static void Expect(ModelJson json, string name, string supported, string? absent)
    {
        string found = json.FindText(name) ?? absent ?? json.Text(name);
        if (found != supported)
        {
            throw json.Bad($"{name} is '{found}', but only '{supported}' is supported");
        }
    }
}
