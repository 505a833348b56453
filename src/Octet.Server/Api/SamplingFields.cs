using System.Globalization;
using System.Text.Json;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Server.Api;

/// <summary>The fields that chat and plain completions have in common.</summary>
internal static class SamplingFields
{
    private const int MaxChoices = 16;
    private const int MaxStops = 16;
    private const int MaxLogprobs = 20;

    /// <summary>Reads how a text is drawn.</summary>
    /// <param name="fields">The body.</param>
    /// <param name="model">Checks what depends on it.</param>
    /// <param name="promptTokens">Tokens of the prompt.</param>
    /// <param name="defaultTokens">The most tokens where the body does not say; null: as many as there is room for.</param>
    public static GenerationOptions Read(in Fields fields, LanguageModel model, int promptTokens, int? defaultTokens)
    {
        var maxTokens = MaxTokens(fields, model, promptTokens, defaultTokens);
        return new GenerationOptions
        {
            MaxTokens = maxTokens,
            MinTokens = fields.Integer("min_tokens", 0, maxTokens),
            Temperature = fields.Number("temperature", 0, 100),
            TopP = TopP(fields),
            TopK = fields.Integer("top_k", -1) is { } topK ? Math.Max(topK, 0) : null,
            MinP = fields.Number("min_p", 0, 1),
            Seed = fields.Long("seed"),
            PresencePenalty = fields.Number("presence_penalty", -2, 2),
            FrequencyPenalty = fields.Number("frequency_penalty", -2, 2),
            RepetitionPenalty = RepetitionPenalty(fields),
            LogitBias = LogitBias(fields, model.Config.VocabularySize),
            StopStrings = Stops(fields),
            StopTokenIds = StopTokens(fields, model.Config.VocabularySize),
            IncludeStopString = fields.Boolean("include_stop_str_in_output") ?? false,
            IgnoreEndOfText = fields.Boolean("ignore_eos") ?? false,
            Choices = fields.Integer("n", 1, MaxChoices) ?? 1,
            CacheSalt = fields.Text("cache_salt"),
            Priority = fields.Integer("priority") ?? 0,
        };
    }

    /// <summary>How many alternatives of each token are reported; null: no log probabilities are.</summary>
    public static int? ChatLogprobs(in Fields fields)
    {
        var top = fields.Integer("top_logprobs", 0, MaxLogprobs);
        var wanted = fields.Boolean("logprobs") ?? false;
        return top > 0 && !wanted ? throw ApiException.BadField("top_logprobs", "needs logprobs to be true")
            : wanted ? top ?? 0
            : null;
    }

    /// <summary>The same of plain completions, where it is a number.</summary>
    public static int? CompletionLogprobs(in Fields fields) => fields.Integer("logprobs", 0, MaxLogprobs);

    private static int MaxTokens(in Fields fields, LanguageModel model, int promptTokens, int? defaultTokens)
    {
        var room = model.MaxLength;
        var name = fields.Find("max_completion_tokens") is null ? "max_tokens" : "max_completion_tokens";
        var asked = fields.Long(name, 1);
        if (promptTokens >= room)
        {
            throw ApiException.TooLong(fields.Find("messages") is null ? "prompt" : "messages", promptTokens, null, room);
        }

        return asked is null ? Math.Min(defaultTokens ?? int.MaxValue, room - promptTokens)
            : promptTokens + asked.Value <= room ? (int)asked.Value
            : throw ApiException.TooLong(name, promptTokens, (int)Math.Min(asked.Value, int.MaxValue), room);
    }

    private static float? TopP(in Fields fields) => fields.Number("top_p", 0, 1) is not { } topP ? null
        : topP > 0 ? topP
        : throw ApiException.BadField("top_p", "is 0, expected a number over 0 and at most 1");

    private static float? RepetitionPenalty(in Fields fields) => fields.Number("repetition_penalty", 0, 100) is not { } penalty ? null
        : penalty > 0 ? penalty
        : throw ApiException.BadField("repetition_penalty", "is 0, expected a positive number; 1 is none");

    private static Dictionary<int, float>? LogitBias(in Fields fields, int vocabulary)
    {
        if (fields.Object("logit_bias") is not { } biases)
        {
            return null;
        }

        var read = new Dictionary<int, float>();
        foreach (var bias in biases.Body.EnumerateObject())
        {
            if (!int.TryParse(bias.Name, NumberStyles.None, CultureInfo.InvariantCulture, out var id) || id >= vocabulary)
            {
                throw ApiException.BadField("logit_bias", $"has a key that is no token id from 0 to {vocabulary - 1}");
            }

            read[id] = biases.Number(bias.Name, -100, 100) ?? 0;
        }

        return read;
    }

    private static string[]? Stops(in Fields fields)
    {
        if (fields.Find("stop") is not { } stop)
        {
            return null;
        }

        string[] stops = stop.ValueKind == JsonValueKind.Array
            ? [.. stop.EnumerateArray().Select((item, i) => Fields.TextOf(item, $"stop[{i}]"))]
            : [Fields.TextOf(stop, "stop")];
        return stops.Length > MaxStops ? throw ApiException.BadField("stop", $"has {stops.Length} strings, at most {MaxStops} can be given")
            : stops.Any(text => text.Length == 0) ? throw ApiException.BadField("stop", "has an empty string, which would end every text at once")
            : stops;
    }

    private static int[] StopTokens(in Fields fields, int vocabulary) => fields.Array("stop_token_ids") is { } ids
        ? TokenIds.Read(ids, "stop_token_ids", vocabulary)
        : [];
}
