using System.Collections.Frozen;
using System.Text.Json;
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

/// <summary>Reads which format of weights a checkpoint declares, under whichever name; another one is refused as what it is.</summary>
internal static class QuantizationFormat
{
    private const string Remedy = "only FP8 (E4M3) with one scale for each 128 x 128 block, or weights that are not quantised, can be run; take the model in one of these";

    // What other tools write beside config.json instead of into it.
    private static readonly string[] OtherFiles = ["hf_quant_config.json", "quantize_config.json", "quant_config.json"];

    // The loader goes by the type of each tensor, so lists of what is not quantised have nothing to add.
    private static readonly FrozenSet<string> WithoutEffect = FrozenSet.Create(
        "modules_to_not_convert", "ignored_layers", "ignore", "quantization_status", "version", "producer", "global_compression_ratio", "quant_type",
        "is_checkpoint_fp8_serialized", "kv_cache_scheme", "targets", "output_activations", "name", "format");

    // How scales were found and rounded before they were stored.
    private static readonly FrozenSet<string> WeightsWithoutEffect = FrozenSet.Create(
        "observer", "observer_kwargs", "actorder", "symmetric", "scale_dtype", "zp_dtype", "group_size");

    /// <summary>The format by config.json and, if a directory is given, the files of other tools beside it.</summary>
    public static WeightFormat Read(ModelJson json, string? directory)
    {
        if (json.Find("quantization") is { } mlx && !ConfigFields.IsOff(mlx.Element))
        {
            throw mlx.Bad($"is {mlx.Brief()}, as MLX writes for its own quantised weights; {Remedy}");
        }
        ModelJson? declared = json.FindObject("quantization_config") ?? json.FindObject("compression_config");
        if (declared is not { } quantization || ConfigFields.IsOff(quantization.Element))
        {
            CheckOtherFiles(directory);
            return WeightFormat.Plain;
        }
        string method = quantization.FindText("quant_method") ?? (quantization.Find("config_groups") is null ? quantization.Text("quant_method") : "compressed-tensors");
        switch (method.ToLowerInvariant())
        {
            case "fp8":
                CheckFp8(quantization);
                break;
            case "compressed-tensors" or "compressed_tensors":
                CheckCompressedTensors(quantization);
                break;
            default:
                throw quantization.Bad($"quant_method is '{method}'{Details(quantization)}, but only 'fp8' and 'compressed-tensors' are supported: {Remedy}");
        }
        // A text instead of an object says only that there are scales; they are found among the tensors.
        if (quantization.Find("kv_cache_scheme") is { Element.ValueKind: JsonValueKind.Object } cache && (Bits(cache) != 8 || Kind(cache) != "float"))
        {
            throw cache.Bad($"is {Bits(cache)} bits of type {Kind(cache)}, but a quantised KV cache is FP8 here");
        }
        ConfigFields.CheckMembers(quantization, WithoutEffect);
        return WeightFormat.Float8Block128;
    }

    private static void CheckFp8(ModelJson quantization)
    {
        if (quantization.FindText("fmt") is { } encoding && !IsE4M3(encoding))
        {
            throw quantization.Bad($"fmt is '{encoding}', but only 'e4m3' is supported");
        }
        string scheme = quantization.FindText("activation_scheme") ?? "dynamic";
        if (!scheme.Equals("dynamic", StringComparison.OrdinalIgnoreCase))
        {
            throw quantization.Bad($"activation_scheme is '{scheme}' (scales of activations fixed in the checkpoint), but only 'dynamic' is supported: {Remedy}");
        }
        if (quantization.Find("weight_block_size") is not { } size)
        {
            throw quantization.Bad($"has no weight_block_size, so its weights have one scale per tensor or channel: {Remedy}");
        }
        int[] block = [.. size.Items().Select(item => item.AsInteger(-1, int.MaxValue))];
        if (block is not [128, 128])
        {
            throw quantization.Bad($"weight_block_size is [{string.Join(", ", block)}], but only [128, 128] is supported");
        }
    }

    private static void CheckCompressedTensors(ModelJson quantization)
    {
        var groups = quantization.Object("config_groups").Members().ToList();
        if (groups.Count == 0)
        {
            throw quantization.Bad("has no config_groups, so nothing says how its weights are stored");
        }
        foreach (var (_, group) in groups)
        {
            if (group.FindObject("weights") is not { } weights)
            {
                throw group.Bad($"has no weights, so it quantises activations alone: {Remedy}");
            }
            CheckWeights(weights);
            if (group.FindObject("input_activations") is { } activations)
            {
                CheckActivations(activations);
            }
            ConfigFields.CheckMembers(group, WithoutEffect);
        }
        if (quantization.FindObject("sparsity_config") is { } sparsity && sparsity.FindText("format") is { } format && format != "dense")
        {
            throw sparsity.Bad($"has the format '{format}' (weights without their zeros), which is not supported");
        }
    }

    private static void CheckWeights(ModelJson weights)
    {
        string strategy = weights.FindText("strategy") ?? (weights.Find("group_size") is null ? "tensor" : "group");
        if (Bits(weights) != 8 || Kind(weights) != "float")
        {
            throw weights.Bad($"are {Bits(weights)} bits of type {Kind(weights)}, by {strategy}: {Remedy}");
        }
        if (strategy != "block")
        {
            throw weights.Bad($"have the strategy '{strategy}', so one scale for each {strategy}: {Remedy}");
        }
        ModelJson structure = weights.Get("block_structure");
        // A list, in older files a text like "128x128".
        string block = structure.Element.ValueKind == JsonValueKind.String
            ? structure.AsText().ToLowerInvariant().Replace('x', ',')
            : string.Join(",", structure.Items().Select(item => item.AsInteger(-1, int.MaxValue)));
        if (block != "128,128")
        {
            throw weights.Bad($"block_structure is {structure.Brief()}, but only [128, 128] is supported");
        }
        if (weights.Flag("dynamic", absent: false) || !weights.Flag("symmetric", absent: true))
        {
            throw weights.Bad($"are dynamic or not symmetric (with zero points): {Remedy}");
        }
        ConfigFields.CheckMembers(weights, WeightsWithoutEffect);
    }

    private static void CheckActivations(ModelJson activations)
    {
        string strategy = activations.FindText("strategy") ?? "tensor";
        // "local" is dynamic within a tensor whose own scale is fixed.
        bool dynamic = activations.Find("dynamic") is { } value && value.Element.ValueKind == JsonValueKind.True;
        if (Bits(activations) != 8 || Kind(activations) != "float" || !dynamic)
        {
            throw activations.Bad($"are {Bits(activations)} bits of type {Kind(activations)}, {(dynamic ? "dynamic" : "static (scales of activations fixed in the checkpoint)")}, but only dynamic FP8 is supported: {Remedy}");
        }
        if (strategy is not ("token" or "group"))
        {
            throw activations.Bad($"have the strategy '{strategy}', but only one scale for each token, or group of 128 in it, is supported: {Remedy}");
        }
        if (strategy == "group" && activations.FindInteger("group_size", 1, int.MaxValue) is { } size && size != 128)
        {
            throw activations.Bad($"group_size is {size}, but only 128 is supported");
        }
        if (!activations.Flag("symmetric", absent: true))
        {
            throw activations.Bad("are not symmetric (with zero points), which is not supported");
        }
        ConfigFields.CheckMembers(activations, WeightsWithoutEffect);
    }

    private static int Bits(ModelJson scheme) => scheme.FindInteger("num_bits", 1, 64) ?? 8;

    private static string Kind(ModelJson scheme) => scheme.FindText("type") ?? "int";

    // "torch.float8_e4m3fn", "E4M3" and so on. With "fnuz" the bytes mean other values.
    private static bool IsE4M3(string encoding)
    {
        string name = encoding.ToLowerInvariant();
        foreach (string prefix in (ReadOnlySpan<string>)["torch.", "float8_", "float8", "fp8_", "f8_"])
        {
            name = name.StartsWith(prefix, StringComparison.Ordinal) ? name[prefix.Length..] : name;
        }
        return name.Replace("_", "", StringComparison.Ordinal) is "e4m3" or "e4m3fn";
    }

    // What tells one kind of another tool's weights from the next.
    private static string Details(ModelJson quantization)
    {
        var details = new List<string>();
        foreach (string name in (ReadOnlySpan<string>)["quant_algo", "kv_cache_quant_algo", "bits", "w_bit", "load_in_4bit", "load_in_8bit", "group_size", "format", "export"])
        {
            if (quantization.Find(name) is { } value && !ConfigFields.IsOff(value.Element))
            {
                details.Add($"{name} {value.Brief()}");
            }
        }
        return details.Count == 0 ? "" : $" ({string.Join(", ", details)})";
    }

    private static void CheckOtherFiles(string? directory)
    {
        foreach (string name in OtherFiles)
        {
            if (directory is null || Path.Combine(directory, name) is var path && !Path.Exists(path))
            {
                continue;
            }
            ModelJson file = ModelJson.Read(path).Remembering();
            ModelJson inner = file.FindObject("quantization") ?? file;
            if (name != "hf_quant_config.json" || inner.FindText("quant_algo") is not null || inner.FindText("kv_cache_quant_algo") is not null)
            {
                string tool = name == "hf_quant_config.json" ? "TensorRT Model Optimizer (modelopt)" : inner.FindText("quant_method") ?? "GPTQ or AWQ";
                throw file.Bad($"says that the weights were quantised by {tool}{Details(inner)}, and {ModelConfig.FileName} does not say otherwise: {Remedy}");
            }
        }
    }
}
