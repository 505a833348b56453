namespace Octet.Inference.Models;

/// <summary>
/// The table of rotary embeddings, <c>cos(p f_i) a</c> and <c>sin(p f_i) a</c> for position p, with frequency f_i = theta^(-2i / rotary_dim), scaled
/// as config.json says, and YaRN's attention factor a.
/// </summary>
/// <remarks>
/// In f32 and in the order of operations of Hugging Face transformers, as models were trained: at position 262,143 the angles differ from f64 by
/// 0.015 rad. YaRN: Peng et al., arXiv 2309.00071.
/// </remarks>
internal static class RotaryEmbedding
{
    /// <summary>[positions, rotary_dim]: the cosines of a position, then its sines.</summary>
    public static float[] CosSin(ModelConfig config, int positions)
    {
        var half = config.RotaryDim / 2;
        var frequencies = Frequencies(config.RotaryDim, config.RopeTheta, config.RopeScaling);
        var attention = (float)config.RopeScaling.AttentionFactor;
        var table = new float[(long)positions * config.RotaryDim];
        for (var i = 0; i < half; i++)
        {
            for (var position = 0; position < positions; position++)
            {
                var (sin, cos) = MathF.SinCos(position * frequencies[i]);
                table[(long)position * config.RotaryDim + i] = cos * attention;
                table[(long)position * config.RotaryDim + half + i] = sin * attention;
            }
        }

        return table;
    }

    /// <summary>[rotary_dim / 2]: radians per position.</summary>
    public static float[] Frequencies(int rotaryDim, double theta, RotaryScaling scaling)
    {
        var frequencies = new float[rotaryDim / 2];
        var ramp = scaling.Type == RotaryType.Yarn ? YarnRamp(rotaryDim, theta, scaling) : [];
        for (var i = 0; i < frequencies.Length; i++)
        {
            var power = MathF.Pow((float)theta, 2f * i / rotaryDim);
            var frequency = 1f / power;
            frequencies[i] = scaling.Type switch
            {
                RotaryType.Default => frequency,
                RotaryType.Linear => frequency / (float)scaling.Factor,
                RotaryType.Yarn => Yarn(power, ramp[i], (float)scaling.Factor),
                RotaryType.Llama3 => Llama3(frequency, scaling),
                _ => throw new ArgumentOutOfRangeException(nameof(scaling), scaling.Type, "unknown"),
            };
        }

        return frequencies;
    }

    private static float Yarn(float power, float ramp, float factor)
    {
        var kept = 1f - ramp;
        return 1f / (factor * power) * (1f - kept) + 1f / power * kept;
    }

    // 0 up to the dimension that turns beta_fast times over the original context, 1 from the one that turns beta_slow times.
    private static float[] YarnRamp(int rotaryDim, double theta, RotaryScaling scaling)
    {
        double Dimension(double turns) => rotaryDim * Math.Log(scaling.OriginalMaxContext / (turns * 2 * Math.PI)) / (2 * Math.Log(theta));
        var (low, high) = (Dimension(scaling.BetaFast), Dimension(scaling.BetaSlow));
        (low, high) = scaling.Truncate ? (Math.Floor(low), Math.Ceiling(high)) : (low, high);
        (low, high) = (Math.Max(low, 0), Math.Min(high, rotaryDim - 1));
        var width = (float)(low == high ? 0.001 : high - low);
        var ramp = new float[rotaryDim / 2];
        for (var i = 0; i < ramp.Length; i++)
        {
            ramp[i] = Math.Clamp((i - (float)low) / width, 0f, 1f);
        }

        return ramp;
    }

    private static float Llama3(float frequency, RotaryScaling scaling)
    {
        var (factor, low, high) = ((float)scaling.Factor, (float)scaling.LowFrequencyFactor, (float)scaling.HighFrequencyFactor);
        float original = scaling.OriginalMaxContext;
        var wavelength = (float)(2 * Math.PI) / frequency;
        if (wavelength > original / low)
        {
            return frequency / factor;
        }

        if (wavelength < original / high)
        {
            return frequency;
        }

        var smooth = (original / wavelength - low) / (high - low);
        return (1f - smooth) * frequency / factor + smooth * frequency;
    }
}
