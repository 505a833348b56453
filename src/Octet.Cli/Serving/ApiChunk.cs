using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>A chunk of a streamed answer: of plain completions, or of chat.</summary>
internal readonly record struct ApiChunk
{
    private const int LongestMessage = 300;

    /// <summary>The next characters of the answer; null: none.</summary>
    public string? Text { get; init; }

    /// <summary>Whether there are characters, of the answer or of the reasoning before it.</summary>
    public bool HasText { get; init; }

    /// <summary>Why the answer ended; null: it has not.</summary>
    public string? FinishReason { get; init; }

    /// <summary>Tokens of the prompt; null: the chunk has no usage.</summary>
    public int? PromptTokens { get; init; }

    /// <summary>Those of them that were cached.</summary>
    public int CachedTokens { get; init; }

    /// <summary>Tokens of the answer; null: the chunk has no usage.</summary>
    public int? CompletionTokens { get; init; }

    /// <summary>What went wrong; null: nothing.</summary>
    public string? Error { get; init; }

    /// <summary>Whether it says that nothing more comes.</summary>
    public bool IsDone { get; init; }

    /// <summary>Reads the data of an event.</summary>
    /// <exception cref="JsonException">It is neither JSON nor the end.</exception>
    public static ApiChunk Parse(ReadOnlySpan<byte> data)
    {
        if (data.SequenceEqual("[DONE]"u8))
        {
            return new() { IsDone = true };
        }

        var chunk = new ApiChunk();
        var reader = new Utf8JsonReader(data);
        reader.Read();
        Expect(reader.TokenType == JsonTokenType.StartObject);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (Enters(ref reader, "choices"u8, JsonTokenType.StartArray))
            {
                ReadChoices(ref reader, ref chunk);
            }
            else if (Enters(ref reader, "usage"u8, JsonTokenType.StartObject))
            {
                ReadUsage(ref reader, ref chunk);
            }
            else if (reader.ValueTextEquals("error"u8))
            {
                reader.Read();
                chunk = reader.TokenType == JsonTokenType.Null ? chunk
                    : chunk with { Error = ErrorOf(JsonElement.ParseValue(ref reader)).Message };
            }
            else
            {
                reader.Skip();
            }
        }

        return chunk;
    }

    /// <summary>Message and code of a response that is an error; its text where it has no such form.</summary>
    public static (string Message, string? Code) ReadError(string text)
    {
        try
        {
            var body = JsonElement.Parse(text);
            return body.ValueKind == JsonValueKind.Object && body.TryGetProperty("error", out var error) ? ErrorOf(error) : ErrorOf(body);
        }
        catch (JsonException)
        {
            return (Short(text), null);
        }
    }

    private static (string Message, string? Code) ErrorOf(JsonElement error)
    {
        var message = TextOf(error, "message") ?? error.GetRawText();
        return (Short(message), TextOf(error, "code"));
    }

    private static string? TextOf(JsonElement value, string name) =>
        value.ValueKind == JsonValueKind.Object && value.TryGetProperty(name, out var member) && member.ValueKind == JsonValueKind.String
            ? member.GetString()
            : null;

    private static string Short(string text) => text.Length <= LongestMessage ? text.Trim() : text[..LongestMessage].Trim() + "...";

    private static void ReadChoices(ref Utf8JsonReader reader, ref ApiChunk chunk)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.StartObject)
        {
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("text"u8))
                {
                    Append(ref chunk, ReadText(ref reader));
                }
                else if (Enters(ref reader, "delta"u8, JsonTokenType.StartObject))
                {
                    ReadDelta(ref reader, ref chunk);
                }
                else if (reader.ValueTextEquals("finish_reason"u8))
                {
                    chunk = chunk with { FinishReason = ReadText(ref reader) ?? chunk.FinishReason };
                }
                else
                {
                    reader.Skip();
                }
            }
        }
    }

    private static void ReadDelta(ref Utf8JsonReader reader, ref ApiChunk chunk)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("content"u8))
            {
                Append(ref chunk, ReadText(ref reader));
            }
            else if (reader.ValueTextEquals("reasoning_content"u8) || reader.ValueTextEquals("reasoning"u8))
            {
                chunk = chunk with { HasText = chunk.HasText || ReadText(ref reader) is { Length: > 0 } };
            }
            else
            {
                reader.Skip();
            }
        }
    }

    private static void ReadUsage(ref Utf8JsonReader reader, ref ApiChunk chunk)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("prompt_tokens"u8))
            {
                chunk = chunk with { PromptTokens = ReadCount(ref reader) };
            }
            else if (reader.ValueTextEquals("completion_tokens"u8))
            {
                chunk = chunk with { CompletionTokens = ReadCount(ref reader) };
            }
            else if (Enters(ref reader, "prompt_tokens_details"u8, JsonTokenType.StartObject))
            {
                while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
                {
                    var isCached = reader.ValueTextEquals("cached_tokens"u8);
                    var count = ReadCount(ref reader);
                    chunk = isCached ? chunk with { CachedTokens = count ?? 0 } : chunk;
                }
            }
            else
            {
                reader.Skip();
            }
        }
    }

    private static void Append(ref ApiChunk chunk, string? text)
    {
        if (text is { Length: > 0 })
        {
            chunk = chunk with { Text = chunk.Text + text, HasText = true };
        }
    }

    // Whether the property has that name and its value begins so; then the reader stands at its begin, else where it stood. A value of
    // another kind, as null, is skipped with the property.
    private static bool Enters(ref Utf8JsonReader reader, ReadOnlySpan<byte> name, JsonTokenType begin)
    {
        if (!reader.ValueTextEquals(name))
        {
            return false;
        }

        var value = reader;
        value.Read();
        if (value.TokenType != begin)
        {
            return false;
        }

        reader = value;
        return true;
    }

    private static string? ReadText(ref Utf8JsonReader reader)
    {
        reader.Read();
        if (reader.TokenType == JsonTokenType.String)
        {
            return reader.GetString();
        }

        reader.Skip();
        return null;
    }

    private static int? ReadCount(ref Utf8JsonReader reader)
    {
        reader.Read();
        if (reader.TokenType == JsonTokenType.Number && reader.TryGetInt32(out var count))
        {
            return count;
        }

        reader.Skip();
        return null;
    }

    private static void Expect(bool condition)
    {
        if (!condition)
        {
            throw new JsonException("it is no object");
        }
    }
}
