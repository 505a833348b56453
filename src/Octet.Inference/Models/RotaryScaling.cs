using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>How rotary frequencies are changed for contexts longer than the model was first trained on.</summary>
public enum RotaryType
{
    /// <summary>Not at all.</summary>
    Default,

    /// <summary>All are divided by the factor.</summary>
    Linear,

    /// <summary>YaRN: low ones are divided by the factor, high ones kept, with a ramp between; cos and sin are multiplied by the attention factor.</summary>
    Yarn,

    /// <summary>Llama 3: as YaRN with a ramp over wavelengths, without an attention factor.</summary>
    Llama3,
}

/// <summary>The parameters under <c>rope_scaling</c> or <c>rope_parameters</c> in config.json, with the meaning and the defaults they have in Hugging Face transformers.</summary>
public sealed record RotaryScaling
{
    private const double MostFactor = 1e6;

    /// <summary>No scaling.</summary>
    public static RotaryScaling None { get; } = new();

    /// <summary>Which formula (<c>rope_type</c>, in older files <c>type</c>).</summary>
    public RotaryType Type { get; init; }

    /// <summary>By how much the context grows (<c>factor</c>; for YaRN by default max_position_embeddings / original_max_position_embeddings).</summary>
    public double Factor { get; init; } = 1;

    /// <summary>The context before scaling (<c>original_max_position_embeddings</c>, by default max_position_embeddings); 0 where the formula has no use for it.</summary>
    public int OriginalMaxContext { get; init; }

    /// <summary>YaRN's multiplier of cos and sin (<c>attention_factor</c>, by default from the factor, <c>mscale</c> and <c>mscale_all_dim</c>).</summary>
    public double AttentionFactor { get; init; } = 1;

    /// <summary>YaRN: dimensions that turn more often than this over the original context are kept (<c>beta_fast</c>).</summary>
    public double BetaFast { get; init; } = 32;

    /// <summary>YaRN: dimensions that turn less often than this over the original context are divided by the factor (<c>beta_slow</c>).</summary>
    public double BetaSlow { get; init; } = 1;

    /// <summary>YaRN: whether the ramp begins and ends at whole dimensions (<c>truncate</c>).</summary>
    public bool Truncate { get; init; } = true;

    /// <summary>Llama 3: wavelengths over original context / this are divided by the factor (<c>low_freq_factor</c>).</summary>
    public double LowFrequencyFactor { get; init; } = 1;

    /// <summary>Llama 3: wavelengths under original context / this are kept (<c>high_freq_factor</c>).</summary>
    public double HighFrequencyFactor { get; init; } = 4;

    /// <summary>The context the scaled frequencies are made for: YaRN's original context times its factor, else <paramref name="maxPositions"/>.</summary>
    internal int MaxContext(int maxPositions) =>
        Type == RotaryType.Yarn ? (int)Math.Clamp(Math.Round(OriginalMaxContext * Factor), 1, ModelConfig.LargestContext) : maxPositions;

    /// <summary>Reads config.json's parameters, wherever they stand.</summary>
    internal static RotaryScaling Read(ModelJson json, int maxPositions)
    {
        RotaryScaling? found = null;
        // A file written for older and newer versions of transformers has both.
        foreach (string name in (ReadOnlySpan<string>)["rope_scaling", "rope_parameters"])
        {
            if (Find(json, name) is not { } rope || !rope.Members().Any())
            {
                continue;
            }
            RotaryScaling scaling = ReadOne(json, rope, maxPositions);
            if (found is not null && found != scaling)
            {
                throw json.Bad($"rope_scaling and rope_parameters contradict each other: {found.Type} with factor {found.Factor} and {scaling.Type} with factor {scaling.Factor}, or in what else they set; keep one");
            }
            found = scaling;
        }
        return found ?? None;
    }

    /// <summary>The base of the frequencies: with the parameters in newer files, at the top in older ones.</summary>
    internal static double ReadTheta(ModelJson json)
    {
        double? top = json.FindNumber("rope_theta", 1, 1e12);
        return Find(json, "rope_parameters")?.FindNumber("rope_theta", 1, 1e12)
            ?? Find(json, "rope_scaling")?.FindNumber("rope_theta", 1, 1e12)
            ?? top
            ?? throw json.Bad("lacks 'rope_theta', both at the top and under rope_parameters");
    }

    /// <summary>The part of a head that is rotated: at the top, or with the parameters; null: the file does not say.</summary>
    internal static double? FindPart(ModelJson json)
    {
        double? top = json.FindNumber("partial_rotary_factor", 0, 1);
        double? newer = Find(json, "rope_parameters")?.FindNumber("partial_rotary_factor", 0, 1);
        double? older = Find(json, "rope_scaling")?.FindNumber("partial_rotary_factor", 0, 1);
        return newer ?? older ?? top;
    }

    // Where layers of several kinds could have parameters of their own, they stand under the names of those kinds.
    private static ModelJson? Find(ModelJson json, string name) =>
        json.FindObject(name) is { } rope ? rope.FindObject("full_attention") ?? rope : null;

    private static RotaryScaling ReadOne(ModelJson json, ModelJson rope, int maxPositions)
    {
        string type = rope.FindText("rope_type") ?? rope.FindText("type") ?? "default";
        if (rope.FindText("type") is { } older && !older.Equals(type, StringComparison.OrdinalIgnoreCase) && !older.Equals("default", StringComparison.OrdinalIgnoreCase))
        {
            throw rope.Bad($"has the rope_type '{type}' and the type '{older}'; keep one");
        }
        RotaryScaling scaling = type.ToLowerInvariant() switch
        {
            "default" => new RotaryScaling(),
            "linear" => new RotaryScaling { Type = RotaryType.Linear, Factor = Number(rope, "factor", 1e-3, MostFactor) },
            "yarn" => ReadYarn(json, rope, maxPositions),
            "llama3" => ReadLlama3(json, rope, maxPositions),
            _ => throw rope.Bad($"asks for the type '{type}', but only default, linear, yarn and llama3 rotary embeddings are supported; {ToGoBack(json, rope, type.ToLowerInvariant(), maxPositions)}"),
        };
        ConfigFields.CheckRope(rope, type);
        return scaling;
    }

    private static RotaryScaling ReadYarn(ModelJson json, ModelJson rope, int maxPositions)
    {
        int original = Original(json, rope) ?? maxPositions;
        double factor = rope.FindNumber("factor", 1, MostFactor) ?? Math.Max(1, (double)maxPositions / original);
        // Like transformers, which tests them for truth, not presence.
        double mscale = rope.FindNumber("mscale", 0, 1e3) ?? 0;
        double mscaleAllDim = rope.FindNumber("mscale_all_dim", 0, 1e3) ?? 0;
        double Magnitude(double scale) => factor <= 1 ? 1 : 0.1 * scale * Math.Log(factor) + 1;
        double OrDefault(double? value, double absent) => value is { } given && given != 0 ? given : absent;
        var scaling = new RotaryScaling
        {
            Type = RotaryType.Yarn,
            Factor = factor,
            OriginalMaxContext = original,
            AttentionFactor = rope.FindNumber("attention_factor", 1e-3, 1e3)
                ?? (mscale != 0 && mscaleAllDim != 0 ? Magnitude(mscale) / Magnitude(mscaleAllDim) : Magnitude(1)),
            BetaFast = OrDefault(rope.FindNumber("beta_fast", 0, 1e9), 32),
            BetaSlow = OrDefault(rope.FindNumber("beta_slow", 0, 1e9), 1),
            Truncate = rope.Flag("truncate", absent: true),
        };
        return scaling.BetaFast >= scaling.BetaSlow
            ? scaling
            : throw rope.Bad($"has beta_fast {scaling.BetaFast} under beta_slow {scaling.BetaSlow}");
    }

    private static RotaryScaling ReadLlama3(ModelJson json, ModelJson rope, int maxPositions)
    {
        var scaling = new RotaryScaling
        {
            Type = RotaryType.Llama3,
            Factor = Number(rope, "factor", 1e-3, MostFactor),
            OriginalMaxContext = Original(json, rope) ?? maxPositions,
            LowFrequencyFactor = Number(rope, "low_freq_factor", 1e-6, 1e6),
            HighFrequencyFactor = Number(rope, "high_freq_factor", 1e-6, 1e6),
        };
        return scaling.HighFrequencyFactor > scaling.LowFrequencyFactor
            ? scaling
            : throw rope.Bad($"has high_freq_factor {scaling.HighFrequencyFactor}, which must be over low_freq_factor {scaling.LowFrequencyFactor}");
    }

    private static double Number(ModelJson rope, string name, double least, double most) => rope.Get(name).AsNumber(least, most);

    // Some files have it at the top, which then goes first.
    private static int? Original(ModelJson json, ModelJson rope)
    {
        int? inside = rope.FindInteger("original_max_position_embeddings", 1, ModelConfig.LargestContext);
        return json.FindInteger("original_max_position_embeddings", 1, ModelConfig.LargestContext) ?? inside;
    }

    // NOTE: dynamic scaling changes nothing within max_position_embeddings, which for it is the context before scaling.
    private static string ToGoBack(ModelJson json, ModelJson rope, string type, int maxPositions) => Original(json, rope) is { } original
        ? $"to run without it, remove it and set max_position_embeddings ({maxPositions}) to its original_max_position_embeddings, {original}"
        : type == "dynamic" ? $"remove it to run within max_position_embeddings ({maxPositions}), where it changes nothing"
        : $"to run without it, remove it and set max_position_embeddings ({maxPositions}) to the original_max_position_embeddings the model was trained with, which this file does not say";
}
