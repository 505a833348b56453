using System.Globalization;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Extensions.AI;

/// <summary>Of <see cref="ChatOptions"/>: how the answer is drawn. What wins over what: <see cref="OctetChatClient"/>.</summary>
internal static class SamplingSettings
{
    /// <summary>How the answer to a conversation is drawn.</summary>
    /// <param name="options">What was asked for; null: nothing.</param>
    /// <param name="client">The client that was asked.</param>
    /// <param name="model">Its model.</param>
    /// <param name="promptTokens">Tokens of the conversation.</param>
    /// <exception cref="ArgumentException">The conversation leaves no room, or a property is of the wrong type.</exception>
    public static GenerationOptions Read(ChatOptions? options, IChatClient client, LanguageModel model, int promptTokens)
    {
        if (promptTokens >= model.MaxLength)
        {
            throw new ArgumentException(
                $"the model's context is {model.MaxLength} tokens, the messages have {promptTokens}: no room is left for an answer");
        }

        var room = model.MaxLength - promptTokens;
        if (options is null)
        {
            return new() { MaxTokens = room };
        }

        var made = options.RawRepresentationFactory?.Invoke(client) as GenerationOptions;
        var raw = made ?? new();
        if (raw.Choices != 1)
        {
            throw new NotSupportedException($"Choices is {raw.Choices}, but a chat client gives one answer");
        }

        var extra = new ExtraProperties(options.AdditionalProperties);
        return raw with
        {
            MaxTokens = options.MaxOutputTokens ?? made?.MaxTokens ?? room,
            MinTokens = raw.MinTokens ?? extra.Integer("min_tokens"),
            Temperature = raw.Temperature ?? options.Temperature,
            TopK = raw.TopK ?? options.TopK,
            TopP = raw.TopP ?? options.TopP,
            MinP = raw.MinP ?? extra.Number("min_p"),
            Seed = raw.Seed ?? options.Seed,
            RepetitionPenalty = raw.RepetitionPenalty ?? extra.Number("repetition_penalty"),
            PresencePenalty = raw.PresencePenalty ?? options.PresencePenalty,
            FrequencyPenalty = raw.FrequencyPenalty ?? options.FrequencyPenalty,
            LogitBias = raw.LogitBias ?? LogitBias(extra),
            IgnoreEndOfText = raw.IgnoreEndOfText || (extra.Boolean("ignore_eos") ?? false),
            StopTokenIds = raw.StopTokenIds.Count > 0 ? raw.StopTokenIds : StopTokens(extra),
            StopStrings = raw.StopStrings ?? (options.StopSequences is { Count: > 0 } stops ? [.. stops] : null),
            Priority = raw.Priority != 0 ? raw.Priority : extra.Integer("priority") ?? 0,
            CacheSalt = raw.CacheSalt ?? extra.Text("cache_salt"),
        };
    }

    private static Dictionary<int, float>? LogitBias(ExtraProperties extra)
    {
        if (extra.Value("logit_bias") is IEnumerable<KeyValuePair<int, float>> biases)
        {
            return new(biases);
        }

        if (extra.Object("logit_bias") is not { } json)
        {
            return null;
        }

        var read = new Dictionary<int, float>();
        foreach (var bias in json.EnumerateObject())
        {
            if (!int.TryParse(bias.Name, NumberStyles.None, CultureInfo.InvariantCulture, out var id)
                || bias.Value.ValueKind != JsonValueKind.Number)
            {
                throw ExtraProperties.Wrong("logit_bias", json, "token ids with numbers");
            }

            read[id] = bias.Value.GetSingle();
        }

        return read;
    }

    private static int[] StopTokens(ExtraProperties extra)
    {
        if (extra.Value("stop_token_ids") is IEnumerable<int> ids)
        {
            return [.. ids];
        }

        return extra.Json("stop_token_ids") is not { } json ? []
            : json.ValueKind == JsonValueKind.Array
                && json.EnumerateArray().All(id => id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out _))
                ? [.. json.EnumerateArray().Select(id => id.GetInt32())]
            : throw ExtraProperties.Wrong("stop_token_ids", json, "token ids");
    }
}
