using System.Text.Json;
using Octet.Inference.Loading;

namespace Octet.Inference.Models;

public sealed partial record ModelConfig
{
    // As many rows of queries as one tile of the attention kernels has.
    private const int MostQueriesPerKey = 16;

    // What transformers takes for sliding_window where a file says that it is used and not how long it is.
    private const int DefaultSlidingWindow = 4096;

    internal const int LargestContext = 1 << 24;

    /// <summary>Reads config.json in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">The file is missing, not well-formed, of another architecture, or has a field that changes what the model computes and is not implemented.</exception>
    public static ModelConfig Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        if (!Directory.Exists(directory))
        {
            throw new ModelFormatException($"{directory}: {(File.Exists(directory) ? "is a file, not a directory" : "is not a directory, nothing of that name exists")}; give the folder that holds {FileName} and the weights");
        }
        return Parse(ModelJson.Read(Path.Combine(directory, FileName)), directory);
    }

    /// <summary>Reads the file, and what other tools may have put beside it if <paramref name="directory"/> is given.</summary>
    internal static ModelConfig Parse(ModelJson file, string? directory = null)
    {
        ModelJson json = file.Remembering();
        Architecture architecture = ModelRegistry.Find(json);
        int hidden = json.Integer("hidden_size", 1, 1 << 20);
        int layers = json.Integer("num_hidden_layers", 1, 4096);
        int vocabulary = json.Integer("vocab_size", 1, 1 << 24);
        int queryHeads = json.Integer("num_attention_heads", 1, 4096);
        int positions = json.Integer("max_position_embeddings", 1, LargestContext);
        int headDim = json.FindInteger("head_dim", 1, 1 << 20) ?? hidden / queryHeads;
        int rotaryDim = architecture.RotatesPart ? ReadRotaryDim(json, headDim) : headDim;
        RotaryScaling rope = RotaryScaling.Read(json, positions);
        ModelConfig config = architecture.Configure(json, new ModelConfig
        {
            Architecture = architecture.Name,
            LayerCount = layers,
            HiddenSize = hidden,
            VocabularySize = vocabulary,
            QueryHeads = queryHeads,
            KeyValueHeads = json.FindInteger("num_key_value_heads", 1, queryHeads) ?? queryHeads,
            HeadDim = headDim,
            RotaryDim = rotaryDim,
            RmsNormEpsilon = json.FindNumber("rms_norm_eps", 1e-12, 0.1) ?? 1e-6,
            RopeTheta = RotaryScaling.ReadTheta(json),
            RopeScaling = rope,
            MaxContext = rope.MaxContext(positions),
            TieWordEmbeddings = json.Flag("tie_word_embeddings", absent: false),
            WeightFormat = QuantizationFormat.Read(json, directory),
            EosTokenIds = json.OneOrMoreIntegers("eos_token_id", 0, vocabulary - 1),
        });
        config.CheckTogether(json);
        CheckAttention(json, config.MaxContext, architecture.WindowHasSwitch);
        ConfigFields.Check(json, config.HeadDim, architecture);
        return config;
    }

    /// <summary>With the experts that config.json describes.</summary>
    /// <param name="json">The file.</param>
    /// <param name="width">The field with the width of an expert.</param>
    /// <param name="areRequired">Whether there must be experts.</param>
    internal ModelConfig WithExperts(ModelJson json, string width, bool areRequired = false)
    {
        int experts = ReadExpertCount(json);
        ModelJson? expertsPerToken = FindUnderAnyName(json, "num_experts_per_tok", "num_experts_per_token", "moe_topk");
        ModelJson? widthField = json.Find(width);
        if (experts == 0)
        {
            return areRequired ? throw json.Bad("has no experts: num_local_experts is missing or 0") : this;
        }
        return this with
        {
            ExpertCount = experts,
            MoeIntermediateSize = (widthField ?? json.Get(width)).AsInteger(1, 1 << 20),
            ExpertsPerToken = (expertsPerToken ?? json.Get("num_experts_per_tok")).AsInteger(1, Math.Min(16, experts)),
        };
    }

    // As a width, as a part of the head, or both.
    private static int ReadRotaryDim(ModelJson json, int headDim)
    {
        int? width = json.FindInteger("rotary_dim", 1, headDim);
        double? part = RotaryScaling.FindPart(json);
        int dim = width ?? (int)(headDim * part ?? throw json.Bad("lacks 'rotary_dim', the number of values of a head that are rotated"));
        if (part is { } other && (int)(headDim * other) != dim)
        {
            throw json.Bad($"rotary_dim is {dim}, but partial_rotary_factor {other} of head_dim {headDim} is {(int)(headDim * other)}; keep one");
        }
        return dim >= 16 && dim % 16 == 0
            ? dim
            : throw json.Bad($"rotary_dim is {dim}, but only multiples of 16 up to head_dim {headDim} are supported");
    }

    private static int ReadExpertCount(ModelJson json)
    {
        if (FindUnderAnyName(json, "num_experts", "num_local_experts", "n_routed_experts") is { } count)
        {
            return count.AsInteger(0, 512);
        }
        foreach (string name in (ReadOnlySpan<string>)["moe_intermediate_size", "num_experts_per_tok"])
        {
            if (json.Find(name) is { } field && !ConfigFields.IsOff(field.Element))
            {
                throw json.Bad($"has {name} {field.Brief()}, but no number of experts: num_experts (or num_local_experts) is missing");
            }
        }
        return 0;
    }

    // One field under the names it has in other versions and models; a file may have several, but only of one value.
    private static ModelJson? FindUnderAnyName(ModelJson json, params ReadOnlySpan<string> names)
    {
        (string Name, ModelJson Value)? first = null;
        foreach (string name in names)
        {
            if (json.Find(name) is not { } value)
            {
                continue;
            }
            if (first is { } other && !JsonElement.DeepEquals(other.Value.Element, value.Element))
            {
                throw json.Bad($"{other.Name} is {other.Value.Brief()}, but {name}, which means the same, is {value.Brief()}; keep one");
            }
            first ??= (name, value);
        }
        return first?.Value;
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
        if (RopeScaling.Type == RotaryType.Yarn && RopeTheta <= 1)
        {
            throw json.Bad($"rope_theta is {RopeTheta}, but YaRN needs one over 1");
        }
    }

    // Attention is over the whole context here.
    private static void CheckAttention(ModelJson json, int maxContext, bool windowHasSwitch)
    {
        ModelJson? windowField = json.Find("sliding_window");
        if (!windowHasSwitch)
        {
            if (windowField?.AsInteger(1, int.MaxValue) is { } window && window < maxContext)
            {
                throw json.Bad($"sliding_window is {window}, but only attention over the whole context of {maxContext} is supported");
            }
        }
        else if (json.Flag("use_sliding_window", absent: false))
        {
            int? window = windowField?.AsInteger(1, int.MaxValue) ?? (json.Has("sliding_window") ? null : DefaultSlidingWindow);
            if (window < maxContext)
            {
                throw json.Bad($"use_sliding_window is true with sliding_window {window}, but only attention over the whole context of {maxContext} is supported");
            }
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
        if (json.FindObject("dual_chunk_attention_config") is { } chunks && !ConfigFields.IsOff(chunks.Element))
        {
            // Up to here it is attention over the whole context.
            int? original = chunks.FindInteger("original_max_position_embeddings", 1, LargestContext);
            int? chunk = chunks.FindInteger("chunk_size", 1, int.MaxValue);
            int? sparse = chunks.Flag("sparse_attention_enabled", absent: false) ? chunks.FindInteger("sparse_attention_threshold", 0, int.MaxValue) ?? 0 : null;
            if (original is null || maxContext > original || chunk < maxContext || sparse < maxContext)
            {
                throw json.Bad(
                    $"dual_chunk_attention_config is not supported; to run without it, remove it and set max_position_embeddings ({maxContext}) back to "
                    + (original is null ? "the original_max_position_embeddings of the model, which this file does not say" : $"its original_max_position_embeddings, {original}"));
            }
        }
    }
}
