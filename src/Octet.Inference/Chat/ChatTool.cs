using System.Text.Json;

namespace Octet.Inference.Chat;

/// <summary>A function that the model may ask the caller to run.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Description">What it is for; null: nothing is said.</param>
/// <param name="Parameters">Its arguments as a JSON schema of an object; undefined: none are described.</param>
public sealed record ChatTool(string Name, string? Description = null, JsonElement Parameters = default)
{
    /// <summary>The tool as chat templates and OpenAI's API have it: <c>{"type": "function", "function": {"name", "description", "parameters"}}</c>.</summary>
    internal JsonElement ToJson()
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString("type", "function");
            writer.WriteStartObject("function");
            writer.WriteString("name", Name);
            if (Description is not null)
            {
                writer.WriteString("description", Description);
            }

            if (Parameters.ValueKind != JsonValueKind.Undefined)
            {
                writer.WritePropertyName("parameters");
                Parameters.WriteTo(writer);
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        var reader = new Utf8JsonReader(buffer.WrittenSpan);
        return JsonElement.ParseValue(ref reader);
    }
}

/// <summary>Whether an answer calls tools.</summary>
public enum ToolMode
{
    /// <summary>The model decides.</summary>
    Auto,

    /// <summary>It does not: the model is told of none.</summary>
    None,

    /// <summary>It does: at least one call, of <see cref="ToolChoice.Function"/> where that is named.</summary>
    Required,
}

/// <summary>Which tools an answer calls.</summary>
/// <param name="Mode">Whether it calls any.</param>
/// <param name="Function">With <see cref="ToolMode.Required"/>: the one that it calls; null: any.</param>
public readonly record struct ToolChoice(ToolMode Mode, string? Function = null);

/// <summary>What an answer's text is.</summary>
public enum ChatFormatKind
{
    /// <summary>Text.</summary>
    Text,

    /// <summary>A JSON object.</summary>
    JsonObject,

    /// <summary>JSON that a schema describes.</summary>
    JsonSchema,
}

/// <summary>What an answer's text is.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Schema">Of <see cref="ChatFormatKind.JsonSchema"/>: the schema.</param>
public readonly record struct ChatFormat(ChatFormatKind Kind, JsonElement Schema = default);
