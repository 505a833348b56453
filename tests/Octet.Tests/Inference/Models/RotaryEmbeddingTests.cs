using Octet.Inference.Models;

namespace Octet.Tests.Inference.Models;

/// <summary>The table of rotary embeddings against f64 values by the formulas of Hugging Face transformers.</summary>
public class RotaryEmbeddingTests
{
    private const string Yarn = "\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 2048";

    [Theory]
    [InlineData("""{"rope_scaling": null}""")]
    [InlineData("""{"rope_scaling": {"type": "linear", "factor": 4}}""")]
    [InlineData("""{"rope_parameters": {"rope_type": "linear", "rope_theta": 5e6, "factor": 2.5}}""")]
    [InlineData("""{"rope_scaling": {""" + Yarn + """}}""")]
    [InlineData("""{"rope_theta": 5e6, "max_position_embeddings": 40960, "rope_scaling": {"type": "YaRN", "factor": 4, "original_max_position_embeddings": 32768}}""")]
    [InlineData("""{"rope_theta": 5e6, "rope_scaling": {"rope_type": "yarn", "factor": 8}}""")]
    [InlineData("""{"max_position_embeddings": 16384, "rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 4096}}""")]
    [InlineData("""{"max_position_embeddings": 16384, "original_max_position_embeddings": 1024, "rope_scaling": {"rope_type": "yarn", "factor": 16}}""")]
    [InlineData("""{"rope_theta": null, "rope_parameters": {""" + Yarn + """, "rope_theta": 1e4, "beta_fast": 16, "beta_slow": 2 }}""")]
    [InlineData("""{"rope_scaling": {""" + Yarn + """, "truncate": false }}""")]
    [InlineData("""{"rope_scaling": {""" + Yarn + """, "attention_factor": 0.75 }}""")]
    [InlineData("""{"rope_scaling": {""" + Yarn + """, "mscale": 1.0, "mscale_all_dim": 0.5 }}""")]
    [InlineData("""{"rope_scaling": {""" + Yarn + """, "mscale": 0.707 }}""")]
    [InlineData("""{"rope_scaling": {""" + Yarn + """}, "rope_parameters": {""" + Yarn + """}}""")]
    [InlineData("""{"rope_parameters": {"full_attention": {""" + Yarn + """, "rope_theta": 1e5 }}}""")]
    [InlineData("""{"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}""")]
    [InlineData("""{"head_dim": 64, "rope_scaling": {"rope_type": "yarn", "factor": 32, "original_max_position_embeddings": 64}}""")]
    public void Table_is_that_of_the_formulas_in_f64(string changes)
    {
        ModelConfig config = SmallConfig.Parse(changes);
        var (frequencies, attention) = Reference(System.Text.Json.Nodes.JsonNode.Parse(SmallConfig.With(changes).ToJsonString())!);
        const int Positions = 700;
        float[] table = RotaryEmbedding.CosSin(config, Positions);
        int half = config.HeadDim / 2;
        Assert.Equal(half, frequencies.Length);
        for (int i = 0; i < half; i++)
        {
            for (int position = 0; position < Positions; position += 3)
            {
                // Each of the few f32 operations behind a frequency, and the product with the position, rounds by 6e-8 of it; powers by some more.
                double angle = position * frequencies[i];
                double tolerance = attention * (1e-6 * angle + 2e-7);
                Assert.Equal(attention * Math.Cos(angle), table[position * config.HeadDim + i], tolerance);
                Assert.Equal(attention * Math.Sin(angle), table[position * config.HeadDim + half + i], tolerance);
            }
        }
    }

    [Fact]
    public void Yarn_keeps_the_first_frequency_divides_the_last_and_multiplies_by_the_attention_factor()
    {
        // 0.1 ln 4 + 1; the first dimension turns 326 times over 2,048 tokens, the last one 0.0004 times.
        ModelConfig config = SmallConfig.Parse("""{"rope_scaling": {""" + Yarn + """}}""");
        Assert.Equal(1.1386294361119891, config.RopeScaling.AttentionFactor, 1e-15);
        float[] scaled = RotaryEmbedding.Frequencies(128, 1e6, config.RopeScaling);
        float[] plain = RotaryEmbedding.Frequencies(128, 1e6, RotaryScaling.None);
        Assert.Equal(1f, scaled[0]);
        Assert.Equal(plain[63] / 4, scaled[63], 1e-12f);
        Assert.Equal(1.1386294f, RotaryEmbedding.CosSin(config, 1)[0], 1e-6f);
    }

    [Fact]
    public void Table_without_scaling_is_made_of_plain_cosines_and_sines()
    {
        float[] table = RotaryEmbedding.CosSin(SmallConfig.Parse("{}"), 3);
        Assert.Equal((1f, 0f), (table[0], table[64]));
        Assert.Equal((MathF.Cos(2), MathF.Sin(2)), (table[2 * 128], table[2 * 128 + 64]));
    }

    [Theory]
    [InlineData("""{"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}, "max_position_embeddings": 40960}""", 131072)]
    [InlineData("""{"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 2048}, "max_position_embeddings": 8192}""", 8192)]
    [InlineData("""{"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 2048}, "max_position_embeddings": 8192}""", 8192)]
    [InlineData("""{"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 2048}, "max_position_embeddings": 8192}""", 4096)]
    [InlineData("""{"rope_scaling": {"type": "linear", "factor": 2}}""", 2048)]
    [InlineData("""{"rope_scaling": {}}""", 2048)]
    public void Context_is_what_the_frequencies_are_scaled_for(string changes, int expected) =>
        Assert.Equal(expected, SmallConfig.Parse(changes).MaxContext);

    [Theory]
    [InlineData("""{"rope_scaling": {"type": "dynamic", "factor": 2}}""", "asks for the type 'dynamic'", "remove it to run within max_position_embeddings (2048)")]
    [InlineData("""{"rope_scaling": {"type": "dynamic", "factor": 2, "original_max_position_embeddings": 1024}}""", "'dynamic'", "set max_position_embeddings (2048) to its original_max_position_embeddings, 1024")]
    [InlineData("""{"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 512, "long_factor": [1], "short_factor": [1]}}""", "'longrope'", "original_max_position_embeddings, 512")]
    [InlineData("""{"rope_scaling": {"rope_type": "mrope", "mrope_section": [16, 24, 24]}}""", "'mrope'", "original_max_position_embeddings the model was trained with")]
    [InlineData("""{"rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 2}}""", "rope_type 'yarn' and the type 'linear'", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "linear"}}""", "lacks the field 'factor'", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "yarn", "factor": 0.5}}""", "factor is 0.5, expected a number from 1", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "yarn", "factor": "4"}}""", "factor is the string '4'", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 8}}""", "has beta_fast 1 under beta_slow 8", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "yarn", "factor": 4, "attn_factor": 2}}""", "rope_scaling.attn_factor is 2, which rotary embeddings of the type 'yarn' do not use", "")]
    [InlineData("""{"rope_scaling": {"factor": 4, "original_max_position_embeddings": 512}}""", "rope_scaling.factor is 4, which rotary embeddings of the type 'default' do not use", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "default", "mrope_section": [16, 24, 24]}}""", "mrope_section is [16,24,24]", "")]
    [InlineData("""{"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25}}""", "partial_rotary_factor is 0.25", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "yarn", "factor": 2}}""", "contradict each other", "")]
    [InlineData("""{"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}}""", "high_freq_factor 1, which must be over low_freq_factor 4", "")]
    [InlineData("""{"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 4}}""", "rope_theta is 1, but YaRN", "")]
    public void Scaling_that_is_not_computed_is_refused_with_the_way_back(string changes, string expected, string remedy)
    {
        string message = SmallConfig.Refusal(changes);
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.Contains(remedy, message, StringComparison.Ordinal);
    }

    /// <summary>Frequencies and attention factor in f64, from the fields alone.</summary>
    private static (double[] Frequencies, double Attention) Reference(System.Text.Json.Nodes.JsonNode config)
    {
        var rope = config["rope_scaling"] ?? config["rope_parameters"];
        rope = rope?["full_attention"] ?? rope;
        double? Field(string name) => rope?[name]?.GetValue<double>();
        double theta = Field("rope_theta") ?? config["rope_theta"]!.GetValue<double>();
        int dim = config["head_dim"]!.GetValue<int>();
        double context = config["max_position_embeddings"]!.GetValue<double>();
        double original = config["original_max_position_embeddings"]?.GetValue<double>() ?? Field("original_max_position_embeddings") ?? context;
        double factor = Field("factor") ?? context / original;
        double[] plain = [.. Enumerable.Range(0, dim / 2).Select(i => Math.Pow(theta, -2.0 * i / dim))];
        switch ((rope?["rope_type"] ?? rope?["type"])?.GetValue<string>().ToLowerInvariant())
        {
            case "linear":
                return ([.. plain.Select(f => f / factor)], 1);
            case "llama3":
                double slow = Field("low_freq_factor")!.Value, fast = Field("high_freq_factor")!.Value;
                return ([.. plain.Select(f =>
                {
                    // Turns over the original context decide: under slow divided, over fast kept, between them in proportion.
                    double share = Math.Clamp((original * f / (2 * Math.PI) - slow) / (fast - slow), 0, 1);
                    return f / factor + share * (f - f / factor);
                })], 1);
            case "yarn":
                double DimensionOf(double turns) => dim * Math.Log(original / (2 * Math.PI * turns)) / (2 * Math.Log(theta));
                bool whole = rope?["truncate"]?.GetValue<bool>() ?? true;
                double low = DimensionOf(Field("beta_fast") ?? 32), high = DimensionOf(Field("beta_slow") ?? 1);
                (low, high) = (Math.Max(0, whole ? Math.Floor(low) : low), Math.Min(dim - 1, whole ? Math.Ceiling(high) : high));
                double Magnitude(double scale) => 0.1 * scale * Math.Log(factor) + 1;
                double attention = Field("attention_factor")
                    ?? (Field("mscale") is { } m && Field("mscale_all_dim") is { } all ? Magnitude(m) / Magnitude(all) : Magnitude(1));
                return ([.. plain.Select((f, i) =>
                {
                    double divided = Math.Clamp((i - low) / (high - low), 0, 1);
                    return f / factor * divided + f * (1 - divided);
                })], attention);
            default:
                return (plain, 1);
        }
    }
}
