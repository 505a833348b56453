using System.Globalization;
using Octet.Inference.Models;

namespace Octet.Inference.Loading;

/// <summary>Refuses checkpoints with tensors that would change what the model computes and are not read.</summary>
internal static class UnusedTensors
{
    // What ends a name, and what such a tensor is.
    private static readonly (string Ending, string Kind)[] Unsupported =
    [
        (".qweight", "packed integer weights of GPTQ or AWQ"),
        (".qzeros", "zero points of GPTQ or AWQ"),
        (".g_idx", "the group order of GPTQ"),
        (".weight_packed", "packed weights of 4 or 8 bits (compressed-tensors)"),
        (".weight_shape", "the shape of packed weights (compressed-tensors)"),
        (".weight_g_idx", "the group order of packed weights (compressed-tensors)"),
        ("zero_point", "the zero point of an asymmetric quantisation"),
        (".weight_global_scale", "the second scale of a format of 4 bits"),
        (".weight_scale_2", "the second scale of a format of 4 bits (modelopt)"),
        (".input_global_scale", "a static scale of activations"),
        (".input_scale", "a static scale of activations"),
        (".input_scale_inv", "a static scale of activations"),
        (".activation_scale", "a static scale of activations"),
        (".act_scale", "a static scale of activations"),
        (".pre_quant_scale", "a factor of the activations before they are quantised"),
        (".smooth_scale", "a factor of the activations before they are quantised"),
        (".output_scale", "a static scale of activations"),
        (".q_scale", "a scale for quantised queries, which stay BF16 here"),
        (".prob_scale", "a scale for quantised attention probabilities, which stay unquantised here"),
        (".absmax", "scales of bitsandbytes"),
        (".quant_map", "the code book of bitsandbytes"),
        (".SCB", "scales of bitsandbytes"),
        (".lora_A.weight", "part of a LoRA adapter, which must be merged first"),
        (".lora_B.weight", "part of a LoRA adapter, which must be merged first"),
        (".scales", "scales of packed weights (GPTQ, AWQ or MLX)"),
        (".biases", "offsets of packed weights (MLX)"),
    ];

    /// <summary>Refuses what shows by its name that the checkpoint is quantised in another way, before other tensors seem to be missing.</summary>
    /// <exception cref="ModelFormatException">There is such a tensor; the message says what it is.</exception>
    public static void RefuseUnsupported(CheckpointTensors tensors, ModelConfig config)
    {
        foreach (var group in tensors.Left.Where(name => !Ignorable(name, config)).GroupBy(Kind).Where(group => group.Key is not null))
        {
            var first = tensors.Files[group.First()];
            throw new ModelFormatException(
                $"{first.File}: tensor {first} is {group.Key}, which is not supported ({group.Count()} such tensors); activations are quantised by their own values and weights need FP8 scales for blocks of 128 x 128, or BF16");
        }
    }

    /// <summary>Refuses what nobody has taken and may not be ignored.</summary>
    /// <exception cref="ModelFormatException">There is such a tensor; the message has the first names and the number of all.</exception>
    public static void RefuseLeft(CheckpointTensors tensors, ModelConfig config)
    {
        string[] left = [.. tensors.Left.Where(name => !Ignorable(name, config) && tensors.Files[name].SizeInBytes > 0)];
        if (left.Length > 0)
        {
            throw new ModelFormatException(
                $"{tensors.Files[left[0]].File}: {left.Length} of the {tensors.Files.Names.Count} tensors are not used by the model that config.json describes: {ShardNames.Listed(left)}; without them it would compute something else, so they are not ignored");
        }
    }

    // Rotary tables are computed from config.json, and the layers that predict further tokens take no part in the next one.
    private static bool Ignorable(string name, ModelConfig config) =>
        name.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal)
        || name.EndsWith("rotary_emb.cos_cached", StringComparison.Ordinal)
        || name.EndsWith("rotary_emb.sin_cached", StringComparison.Ordinal)
        || name.StartsWith("mtp.", StringComparison.Ordinal)
        || name.StartsWith("model.mtp.", StringComparison.Ordinal)
        || (LayerOf(name) is { } layer && layer >= config.LayerCount && layer - config.LayerCount < config.PredictionLayers);

    // 3 of "model.layers.3.self_attn.q_proj.weight".
    private static int? LayerOf(string name)
    {
        const string Prefix = "model.layers.";
        if (!name.StartsWith(Prefix, StringComparison.Ordinal))
        {
            return null;
        }

        var number = name.AsSpan(Prefix.Length);
        var end = number.IndexOf('.');
        return end > 0 && int.TryParse(number[..end], NumberStyles.None, CultureInfo.InvariantCulture, out var layer) ? layer : null;
    }

    private static string? Kind(string name)
    {
        // These two are the scales of the KV cache by another name.
        if (name.EndsWith("k_proj.output_scale", StringComparison.Ordinal) || name.EndsWith("v_proj.output_scale", StringComparison.Ordinal))
        {
            return null;
        }

        return name.Contains(".quant_state.", StringComparison.Ordinal)
            ? "the state of bitsandbytes"
            : Unsupported.FirstOrDefault(known => name.EndsWith(known.Ending, StringComparison.Ordinal)).Kind;
    }
}
