using System.Collections.Frozen;
using Octet.Inference.Models;

namespace Octet.Inference.Engine;

/// <summary>How the tokens of one text are drawn, and which end it: the request's options with the checkpoint's defaults, resolved and checked once.</summary>
internal sealed record SamplingParams
{
    /// <summary>OpenAI's bound of presence and frequency penalties.</summary>
    private const float LargestPenalty = 2;

    /// <summary>The most likely token, always.</summary>
    public static SamplingParams Greedy { get; } = new();

    /// <summary>0: arg max.</summary>
    public float Temperature { get; init; }

    /// <summary>0: all.</summary>
    public int TopK { get; init; }

    /// <summary>1: all.</summary>
    public float TopP { get; init; } = 1;

    /// <summary>0: all.</summary>
    public float MinP { get; init; }

    /// <summary>Of the draws: a token is a function of its logits, the seed and its position.</summary>
    public long Seed { get; init; }

    /// <summary>1: none.</summary>
    public float RepetitionPenalty { get; init; } = 1;

    /// <summary>0: none.</summary>
    public float PresencePenalty { get; init; }

    /// <summary>0: none.</summary>
    public float FrequencyPenalty { get; init; }

    /// <summary>What is added to the logits of single tokens; -infinity excludes one.</summary>
    public FrozenDictionary<int, float> Biases { get; init; } = FrozenDictionary<int, float>.Empty;

    /// <summary>Says which tokens may follow; null: all.</summary>
    public AllowedTokens? AllowedTokens { get; init; }

    /// <summary>Tokens that end the text.</summary>
    public FrozenSet<int> EndTokens { get; init; } = [];

    /// <summary>Tokens to generate before one of <see cref="EndTokens"/> may be drawn.</summary>
    public int MinTokens { get; init; }

    /// <summary>How many of the most likely tokens are reported with their log probability; -1: nothing is.</summary>
    public int Logprobs { get; init; } = -1;

    /// <summary>Whether it matters which tokens the text has.</summary>
    public bool CountsTokens => RepetitionPenalty != 1 || PresencePenalty != 0 || FrequencyPenalty != 0;

    /// <summary>Whether single logits are changed before a token is drawn.</summary>
    public bool AdjustsLogits => CountsTokens || Biases.Count > 0 || (MinTokens > 0 && EndTokens.Count > 0);

    /// <summary>Joins options and defaults.</summary>
    /// <param name="options">The request's.</param>
    /// <param name="defaults">The checkpoint's.</param>
    /// <param name="endTokens">The checkpoint's.</param>
    /// <param name="promptLength">Tokens of the prompt.</param>
    /// <param name="vocabulary">Tokens there are.</param>
    /// <exception cref="ArgumentException">A value is out of range.</exception>
    public static SamplingParams Resolve(
        GenerationOptions options, GenerationConfig defaults, IReadOnlyList<int> endTokens, int promptLength, int vocabulary)
    {
        Require(options.MaxTokens >= 1, $"MaxTokens is {options.MaxTokens}, but at least 1 token must be asked for");
        var sampling = new SamplingParams
        {
            Temperature = options.Temperature ?? (defaults.Sample ? (float)defaults.Temperature : 0),
            TopK = options.TopK ?? defaults.TopK,
            TopP = options.TopP ?? (float)defaults.TopP,
            MinP = options.MinP ?? (float)defaults.MinP,
            Seed = options.Seed ?? Random.Shared.NextInt64(),
            RepetitionPenalty = options.RepetitionPenalty ?? (float)defaults.RepetitionPenalty,
            PresencePenalty = options.PresencePenalty ?? (float)defaults.PresencePenalty,
            FrequencyPenalty = options.FrequencyPenalty ?? (float)defaults.FrequencyPenalty,
            Biases = JoinBiases(options, defaults, vocabulary),
            AllowedTokens = options.AllowedTokens,
            EndTokens = [.. options.IgnoreEndOfText ? [] : endTokens, .. options.StopTokenIds],
            MinTokens = options.Grammar is not null ? 0
                : options.MinTokens ?? Math.Min(Math.Max(defaults.MinNewTokens, defaults.MinLength - promptLength), options.MaxTokens),
            Logprobs = options.Logprobs ?? -1,
        };
        sampling.Check(options);
        foreach (var id in options.StopTokenIds)
        {
            RequireToken("StopTokenIds", id, vocabulary);
        }

        return sampling;
    }

    private void Check(GenerationOptions options)
    {
        static string Origin(object? option) => option is null ? $" in {GenerationConfig.FileName}" : "";
        Require(
            Temperature >= 0 && float.IsFinite(Temperature),
            $"Temperature is {Temperature}{Origin(options.Temperature)}, but it must be 0 (greedy) or a positive number");
        Require(TopK >= 0, $"TopK is {TopK}{Origin(options.TopK)}, but it must be 0 (no limit) or a number of tokens");
        Require(TopP is > 0 and <= 1, $"TopP is {TopP}{Origin(options.TopP)}, but it must be over 0 and at most 1 (no limit)");
        Require(MinP is >= 0 and <= 1, $"MinP is {MinP}{Origin(options.MinP)}, but it must be 0 (no limit) to 1");
        Require(
            RepetitionPenalty > 0 && float.IsFinite(RepetitionPenalty),
            $"RepetitionPenalty is {RepetitionPenalty}{Origin(options.RepetitionPenalty)}, but it must be a positive number; 1 is none");
        RequirePenalty("PresencePenalty", PresencePenalty, Origin(options.PresencePenalty));
        RequirePenalty("FrequencyPenalty", FrequencyPenalty, Origin(options.FrequencyPenalty));
        Require(
            MinTokens >= 0 && MinTokens <= options.MaxTokens,
            $"MinTokens is {MinTokens}{Origin(options.MinTokens)}, but it must be 0 to MaxTokens, which is {options.MaxTokens}");
        Require(
            options.Grammar is null || options.AllowedTokens is null, "Grammar and AllowedTokens both say which tokens may follow: set one of them");
        Require(
            options.Grammar is null || options.MinTokens is null or 0,
            $"MinTokens is {options.MinTokens}, but a text of a Grammar ends where it is complete: leave it 0");
        RequireAlternatives("Logprobs", options.Logprobs);
        RequireAlternatives("PromptLogprobs", options.PromptLogprobs);
    }

    private static void RequirePenalty(string name, float penalty, string origin) => Require(
        penalty is >= -LargestPenalty and <= LargestPenalty, $"{name} is {penalty}{origin}, but it must be {-LargestPenalty} to {LargestPenalty}; 0 is none");

    private static void RequireAlternatives(string name, int? alternatives) => Require(
        alternatives is null or (>= 0 and <= SamplingOutput.MaxAlternatives), $"{name} is {alternatives}, but it must be 0 to {SamplingOutput.MaxAlternatives}");

    private static FrozenDictionary<int, float> JoinBiases(GenerationOptions options, GenerationConfig defaults, int vocabulary)
    {
        var biases = new Dictionary<int, float>();
        foreach (var (id, bias) in options.LogitBias ?? FrozenDictionary<int, float>.Empty)
        {
            RequireToken("LogitBias", id, vocabulary);
            Require(!float.IsNaN(bias), $"LogitBias of token {id} is not a number");
            biases[id] = bias;
        }

        foreach (var id in defaults.SuppressTokens)
        {
            biases[id] = float.NegativeInfinity;
        }

        return biases.ToFrozenDictionary();
    }

    private static void RequireToken(string name, int id, int vocabulary) =>
        Require(id >= 0 && id < vocabulary, $"{name} has token id {id}, which is outside the vocabulary 0..{vocabulary - 1}");

    private static void Require(bool condition, string problem)
    {
        if (!condition)
        {
            throw new ArgumentException(problem);
        }
    }
}
