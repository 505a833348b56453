using Octet.Inference.Grammars;

namespace Octet.Inference.Engine;

/// <summary>
/// Says which tokens may follow a continuation, as a grammar does: sets bit id % 32 of word id / 32 of the mask for each. A pure function of
/// the continuation; called on the engine's thread before each draw, so all texts wait for it. What it throws ends the text, and so does a
/// mask that allows nothing.
/// </summary>
/// <param name="continuation">The tokens behind the prompt so far.</param>
/// <param name="mask">A bit for each token of the vocabulary, all 0.</param>
public delegate void AllowedTokens(ReadOnlySpan<int> continuation, Span<uint> mask);

/// <summary>How a text is continued; what is null comes from the checkpoint's generation_config.json.</summary>
/// <remarks>
/// Logits are changed in this order: repetition penalty, then presence and frequency penalty and bias together; then what is not allowed
/// drops out; then temperature, top-k, top-p and min-p. A token is a function of the model, the tokens before it and these options,
/// whatever else runs.
/// </remarks>
public sealed record GenerationOptions
{
    /// <summary>The most tokens to generate.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>Tokens to generate before an end token may be drawn, or a stop string ends the text.</summary>
    public int? MinTokens { get; init; }

    /// <summary>0 takes the most likely token; else logits are divided by it.</summary>
    public float? Temperature { get; init; }

    /// <summary>Draw among this many most likely tokens; 0: all.</summary>
    public int? TopK { get; init; }

    /// <summary>Of those, draw among the fewest that hold this much probability; 1: all.</summary>
    public float? TopP { get; init; }

    /// <summary>Of those, draw among the ones at least this many times as likely as the most likely; 0: all.</summary>
    public float? MinP { get; init; }

    /// <summary>The same seed gives the same text; null: a random one. Choice number i has the seed plus i.</summary>
    public long? Seed { get; init; }

    /// <summary>Logits of the tokens of prompt and continuation are divided by it where they are positive, else multiplied; 1: none.</summary>
    public float? RepetitionPenalty { get; init; }

    /// <summary>Subtracted from the logits of the tokens of the continuation, -2 to 2; 0: none.</summary>
    public float? PresencePenalty { get; init; }

    /// <summary>Subtracted from the logits of the tokens of the continuation once for every time they are in it, -2 to 2; 0: none.</summary>
    public float? FrequencyPenalty { get; init; }

    /// <summary>Added to the logits of single tokens; -infinity excludes one. What the checkpoint suppresses stays excluded.</summary>
    public IReadOnlyDictionary<int, float>? LogitBias { get; init; }

    /// <summary>Says which tokens may follow; null: all. What ends the text must be among them.</summary>
    public AllowedTokens? AllowedTokens { get; init; }

    /// <summary>
    /// The texts that may be written; null: all. Such a text ends where it is complete. When tokens run short, what brings it to its end within
    /// <see cref="MaxTokens"/> is all that may follow. Not together with <see cref="AllowedTokens"/>, <see cref="MinTokens"/> and
    /// <see cref="IgnoreEndOfText"/>.
    /// </summary>
    public Grammar? Grammar { get; init; }

    /// <summary>Whether to go on past the checkpoint's tokens that end a text.</summary>
    public bool IgnoreEndOfText { get; init; }

    /// <summary>More tokens that end the text.</summary>
    public IReadOnlyList<int> StopTokenIds { get; init; } = [];

    /// <summary>
    /// Strings that end the text: it ends before the first that is complete, wherever tokens begin and end, and what may become one is held
    /// back.
    /// </summary>
    public IReadOnlyList<string>? StopStrings { get; init; }

    /// <summary>Whether the string that ended the text stays at its end.</summary>
    public bool IncludeStopString { get; init; }

    /// <summary>
    /// Reports for each token its log probability, and those of this many most likely tokens, 0 to 20; null: none. They are of the model's
    /// own distribution, log(softmax(logits)), before penalties, biases, masks and temperature.
    /// </summary>
    public int? Logprobs { get; init; }

    /// <summary>
    /// Reports once, with the first token, for each token of the prompt its log probability given those before it, and those of this many
    /// most likely tokens there, 0 to 20; null: none. They have the bits of <see cref="Models.LanguageModel.LogProbabilities"/>. Such a
    /// prompt is computed from its beginning: the prefix cache has K and V, but no logits.
    /// </summary>
    public int? PromptLogprobs { get; init; }

    /// <summary>How many continuations of the prompt, which is computed once.</summary>
    public int Choices { get; init; } = 1;

    /// <summary>Requests of lower numbers go first: they leave the queue before others, and give their KV blocks up after them.</summary>
    public int Priority { get; init; }

    /// <summary>Prompts share what is cached of their beginnings only with those of the same salt; null: with all that have none.</summary>
    public string? CacheSalt { get; init; }
}
