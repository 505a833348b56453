using System.Globalization;
using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>The shape of a made-up model; what a field means in its architecture is said there.</summary>
internal sealed record RandomShape
{
    public required string Architecture { get; init; }

    public int Hidden { get; init; } = 256;

    public int Heads { get; init; } = 4;

    public int KvHeads { get; init; } = 2;

    public int HeadDim { get; init; } = 64;

    public int RotaryDim { get; init; }

    public int Layers { get; init; } = 2;

    public int Vocabulary { get; init; } = 300;

    public int Experts { get; init; }

    public int TopK { get; init; } = 2;

    public int Width { get; init; } = 128;

    public int Dense { get; init; }

    public int[] DenseLayers { get; init; } = [];

    public bool Bias { get; init; }

    public bool ScoreBias { get; init; } = true;

    public bool NormalizeTopK { get; init; } = true;

    public bool Tied { get; init; }

    /// <summary>Of the projections: FP8 with block scales, or plain.</summary>
    public SafeTensorType Type { get; init; } = SafeTensorType.BFloat16;

    public int Seed { get; init; } = 1;

    /// <summary>The embedding's values lie between this and its negative.</summary>
    public double Embedding { get; init; } = 1;

    public bool IsMixtral => Architecture == "MixtralForCausalLM";

    public bool IsMiniMax => Architecture == "MiniMaxM2ForCausalLM";

    public bool IsMoeLayer(int layer) => Experts > 0 && !DenseLayers.Contains(layer);

    /// <summary>config.json.</summary>
    public string Config()
    {
        var fp8 = Type == SafeTensorType.Float8E4M3
            ? ""","quantization_config":{"quant_method":"fp8","fmt":"float8_e4m3fn","activation_scheme":"dynamic","weight_block_size":[128,128]}"""
            : "";
        var own = Architecture switch
        {
            "Qwen3MoeForCausalLM" => string.Create(
                CultureInfo.InvariantCulture,
                $""" "model_type":"qwen3_moe","attention_bias":{Json(Bias)},"intermediate_size":{Dense},"moe_intermediate_size":{Width},"num_experts":{Experts},"num_experts_per_tok":{TopK},"norm_topk_prob":{Json(NormalizeTopK)},"decoder_sparse_step":1,"mlp_only_layers":[{string.Join(",", DenseLayers)}] """),
            "Qwen3ForCausalLM" => $""" "model_type":"qwen3","attention_bias":{Json(Bias)},"intermediate_size":{Dense},"use_sliding_window":false,"max_window_layers":{Layers} """,
            "MixtralForCausalLM" => $""" "model_type":"mixtral","intermediate_size":{Width},"num_local_experts":{Experts},"num_experts_per_tok":{TopK},"sliding_window":null,"output_router_logits":false,"router_aux_loss_coef":0.02 """,
            _ => $""" "model_type":"minimax_m2","intermediate_size":{Width},"num_local_experts":{Experts},"num_experts_per_tok":{TopK},"rotary_dim":{RotaryDim},"use_qk_norm":true,"qk_norm_type":"per_layer","scoring_func":"sigmoid","use_routing_bias":{Json(ScoreBias)},"use_mtp":true,"num_mtp_modules":3,"mtp_transformer_layers":1,"attn_type_list":[{string.Join(",", Enumerable.Repeat(1, Layers))}],"shared_intermediate_size":0,"shared_moe_mode":"sigmoid","mlp_intermediate_size":8192,"layernorm_mlp_beta":1.0 """,
        };
        return string.Create(
            CultureInfo.InvariantCulture,
            $$"""
            {"architectures":["{{Architecture}}"],"hidden_size":{{Hidden}},"num_hidden_layers":{{Layers}},"vocab_size":{{Vocabulary}},
             "num_attention_heads":{{Heads}},"num_key_value_heads":{{KvHeads}},"head_dim":{{HeadDim}},"hidden_act":"silu","rms_norm_eps":1e-6,
             "rope_theta":10000.0,"max_position_embeddings":64,"tie_word_embeddings":{{Json(Tied)}},{{own}}{{fp8}}}
            """);
    }

    private static string Json(bool flag) => flag ? "true" : "false";
}

/// <summary>A checkpoint of random values, as it is stored and as a model must understand it.</summary>
internal sealed class RandomCheckpoint
{
    private const float CodesPerUnit = 2048;

    private readonly Dictionary<string, (SafeTensorType Type, long[] Shape, float[] Elements)> _tensors = [];
    private readonly Random _random;

    public RandomCheckpoint(RandomShape shape)
    {
        Shape = shape;
        _random = new Random(shape.Seed);
        var (hidden, queries, keys) = (shape.Hidden, shape.Heads * shape.HeadDim, shape.KvHeads * shape.HeadDim);
        AddPlain("model.embed_tokens.weight", shape.Embedding, 0, shape.Vocabulary, hidden);
        AddPlain("model.norm.weight", 0.1, 1, hidden);
        if (!shape.Tied)
        {
            AddPlain("lm_head.weight", 1.7 / Math.Sqrt(hidden), 0, shape.Vocabulary, hidden);
        }

        for (var layer = 0; layer < shape.Layers; layer++)
        {
            var prefix = $"model.layers.{layer}.";
            AddPlain($"{prefix}input_layernorm.weight", 0.1, 1, hidden);
            AddPlain($"{prefix}post_attention_layernorm.weight", 0.1, 1, hidden);
            if (!shape.IsMixtral)
            {
                AddPlain($"{prefix}self_attn.q_norm.weight", 0.1, 1, shape.IsMiniMax ? queries : shape.HeadDim);
                AddPlain($"{prefix}self_attn.k_norm.weight", 0.1, 1, shape.IsMiniMax ? keys : shape.HeadDim);
            }

            foreach (var (name, n, k) in ((string, int, int)[])[("q_proj", queries, hidden), ("k_proj", keys, hidden), ("v_proj", keys, hidden), ("o_proj", hidden, queries)])
            {
                AddProjection($"{prefix}self_attn.{name}", n, k);
                if (shape.Bias)
                {
                    AddPlain($"{prefix}self_attn.{name}.bias", 0.1, 0, n);
                }
            }

            if (shape.IsMoeLayer(layer))
            {
                AddPlain($"{prefix}{Mlp}gate.weight", 3 / Math.Sqrt(hidden), 0, shape.Experts, hidden);
                if (shape.IsMiniMax && shape.ScoreBias)
                {
                    Add($"{prefix}{Mlp}e_score_correction_bias", SafeTensorType.Float32, 0.4, 0, shape.Experts);
                }

                for (var expert = 0; expert < shape.Experts; expert++)
                {
                    AddMlp($"{prefix}{Mlp}experts.{expert}.", shape.Width);
                }
            }
            else
            {
                AddMlp($"{prefix}mlp.", shape.Dense);
            }
        }
    }

    public RandomShape Shape { get; }

    /// <summary>What the names of an MLP's tensors have behind the layer's prefix.</summary>
    public string Mlp => Shape.IsMixtral || Shape.IsMiniMax ? "block_sparse_moe." : "mlp.";

    /// <summary>The names of gate, up and down.</summary>
    public (string Gate, string Up, string Down) Names => Shape.IsMixtral || Shape.IsMiniMax ? ("w1", "w3", "w2") : ("gate_proj", "up_proj", "down_proj");

    /// <summary>Adds a tensor that belongs to no part of the model.</summary>
    public void AddOther(string name, params long[] shape) => AddPlain(name, 1, 0, shape);

    /// <summary>Writes config.json and the weights.</summary>
    public void Write(string folder)
    {
        File.WriteAllText(Path.Combine(folder, "config.json"), Shape.Config());
        using var writer = SafeTensorsWriter.Create(
            Path.Combine(folder, "model.safetensors"), [.. _tensors.Select(tensor => new SafeTensorSpec(tensor.Key, tensor.Value.Type, tensor.Value.Shape))]);
        foreach (var (type, _, elements) in _tensors.Values)
        {
            switch (type)
            {
                case SafeTensorType.BFloat16:
                    writer.Write<BFloat16>(Array.ConvertAll(elements, x => (BFloat16)x));
                    break;
                case SafeTensorType.Float8E4M3:
                    writer.Write<byte>(Array.ConvertAll(elements, x => ((Float8E4M3)x).Code));
                    break;
                default:
                    writer.Write<float>(elements);
                    break;
            }
        }

        writer.Commit();
    }

    /// <summary>The elements of a tensor that stays BF16, or is f32 for good.</summary>
    public double[] Plain(string name) => Array.ConvertAll(
        _tensors[name].Elements, x => name.EndsWith("correction_bias", StringComparison.Ordinal) ? x : (double)(float)(BFloat16)x);

    /// <summary>The elements [n, k] of a projection as FP8 with a scale for each 128 x 128 block: the stored ones, or quantised as the model does.</summary>
    public double[] Projection(string name)
    {
        var (type, shape, elements) = _tensors[$"{name}.weight"];
        var (n, k) = ((int)shape[0], (int)shape[1]);
        var columns = (k + 127) / 128;
        var result = new double[n * k];
        for (var top = 0; top < n; top += 128)
        {
            for (var left = 0; left < k; left += 128)
            {
                int[] places =
                [
                    .. from row in Enumerable.Range(top, Math.Min(128, n - top))
                       from column in Enumerable.Range(left, Math.Min(128, k - left))
                       select (row * k) + column,
                ];
                if (type == SafeTensorType.Float8E4M3)
                {
                    var stored = _tensors[$"{name}.weight_scale_inv"].Elements[(top / 128 * columns) + (left / 128)];
                    Array.ForEach(places, place => result[place] = (double)elements[place] * stored);
                    continue;
                }

                float[] plain = [.. places.Select(place => (float)(BFloat16)elements[place])];
                var scale = ReferenceDecoder.ScaleOf(plain);
                for (var i = 0; i < places.Length; i++)
                {
                    result[places[i]] = (double)(float)(Float8E4M3)(plain[i] / scale) * scale;
                }
            }
        }

        return result;
    }

    private void AddMlp(string prefix, int width)
    {
        AddProjection(prefix + Names.Gate, width, Shape.Hidden);
        AddProjection(prefix + Names.Up, width, Shape.Hidden);
        AddProjection(prefix + Names.Down, Shape.Hidden, width);
    }

    private void AddProjection(string name, int n, int k)
    {
        Add($"{name}.weight", Shape.Type, 1.7 / Math.Sqrt(k), 0, n, k);
        if (Shape.Type == SafeTensorType.Float8E4M3)
        {
            Add($"{name}.weight_scale_inv", SafeTensorType.Float32, 0.5 / CodesPerUnit, 1 / CodesPerUnit, (n + 127) / 128, (k + 127) / 128);
        }
    }

    private void AddPlain(string name, double deviation, double mean, params long[] shape) =>
        Add(name, Shape.Type == SafeTensorType.Float8E4M3 ? SafeTensorType.BFloat16 : Shape.Type, deviation, mean, shape);

    // FP8 elements are kept as the values of their codes.
    private void Add(string name, SafeTensorType type, double deviation, double mean, params long[] shape)
    {
        var elements = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < elements.Length; i++)
        {
            var x = (float)((((_random.NextDouble() * 2) - 1) * deviation) + mean);
            elements[i] = type == SafeTensorType.Float8E4M3 ? (float)(Float8E4M3)(x * CodesPerUnit) : x;
        }

        _tensors[name] = (type, shape, elements);
    }
}
