using System.Text.Json;
using Octet.Inference.Loading;

namespace Octet.Inference.Models;

/// <summary>The sampling defaults a model brings along in generation_config.json.</summary>
public sealed record GenerationConfig
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "generation_config.json";

    /// <summary>False: greedy decoding, whatever the other values are.</summary>
    public bool Sample { get; init; }

    /// <summary>The divisor of the logits; 0 is greedy.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Only this many of the most probable tokens may be chosen; 0, or no such field, is no limit.</summary>
    public int TopK { get; init; }

    /// <summary>Only the most probable tokens that together reach this probability may be chosen; 1 is no limit.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Only tokens this many times as probable as the most probable one may be chosen; 0 is no limit.</summary>
    public double MinP { get; init; }

    /// <summary>Divides the positive logits of tokens that the text has, and multiplies the negative; 1 is none.</summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Subtracted from the logits of tokens that the continuation has; 0 is none.</summary>
    public double PresencePenalty { get; init; }

    /// <summary>Subtracted from the logits of tokens for every time the continuation has them; 0 is none.</summary>
    public double FrequencyPenalty { get; init; }

    /// <summary>The tokens that are never chosen.</summary>
    public IReadOnlyList<int> SuppressTokens { get; init; } = [];

    /// <summary>The fewest tokens of prompt and continuation together before it may end.</summary>
    public int MinLength { get; init; }

    /// <summary>The fewest tokens of a continuation before it may end.</summary>
    public int MinNewTokens { get; init; }

    /// <summary>The strings that end a generation.</summary>
    public IReadOnlyList<string> StopStrings { get; init; } = [];

    /// <summary>The tokens that end a generation; empty if the file names none.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>
    /// The fields that would change the output and are not applied, each with its value: "no_repeat_ngram_size 3". What bounds the length
    /// (<c>max_new_tokens</c>, <c>max_length</c>) is among them, because the caller says how long a continuation may be.
    /// </summary>
    public IReadOnlyList<string> NotApplied { get; init; } = [];

    /// <summary>
    /// Reads generation_config.json in <paramref name="directory"/>. Without such a file the same fields are taken from config.json, where older
    /// versions of transformers put them; the defaults are greedy.
    /// </summary>
    /// <exception cref="ModelFormatException">The file is not well-formed.</exception>
    public static GenerationConfig Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string path = Path.Combine(directory, FileName);
        if (Path.Exists(path))
        {
            return Parse(ModelJson.Read(path));
        }
        string modelPath = Path.Combine(directory, ModelConfig.FileName);
        return Path.Exists(modelPath) ? Parse(ModelJson.Read(modelPath), GenerationFields.IsKnown) : new GenerationConfig();
    }

    internal static GenerationConfig Parse(ModelJson json, Func<string, bool>? isField = null) => new()
    {
        Sample = json.Flag("do_sample", absent: false),
        Temperature = json.FindNumber("temperature", 0, 1000) ?? 1,
        TopK = json.FindInteger("top_k", 0, int.MaxValue) ?? 0,
        TopP = json.FindNumber("top_p", 0, 1) ?? 1,
        MinP = json.FindNumber("min_p", 0, 1) ?? 0,
        RepetitionPenalty = json.FindNumber("repetition_penalty", 0, 1000) ?? 1,
        PresencePenalty = json.FindNumber("presence_penalty", -2, 2) ?? 0,
        FrequencyPenalty = json.FindNumber("frequency_penalty", -2, 2) ?? 0,
        SuppressTokens = json.OneOrMoreIntegers("suppress_tokens", 0, int.MaxValue),
        MinLength = json.FindInteger("min_length", 0, int.MaxValue) ?? 0,
        MinNewTokens = json.FindInteger("min_new_tokens", 0, int.MaxValue) ?? 0,
        StopStrings = StopStringsOf(json.Find("stop_strings")),
        EosTokenIds = json.OneOrMoreIntegers("eos_token_id", 0, int.MaxValue),
        NotApplied =
        [
            .. json.Members()
                .Where(member => (isField is null || isField(member.Name)) && GenerationFields.IsMissed(member.Name, member.Value))
                .Select(member => $"{member.Name} {member.Value.Brief()}"),
        ],
    };

    // One or several; an empty one ends nothing.
    private static IReadOnlyList<string> StopStringsOf(ModelJson? value) =>
    [
        .. (value is not { } json ? [] : json.Element.ValueKind == JsonValueKind.Array ? json.Items() : [json])
            .Select(item => item.AsText()).Where(text => text.Length > 0),
    ];
}
