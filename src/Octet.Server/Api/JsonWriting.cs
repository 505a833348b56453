using System.Text.Encodings.Web;
using System.Text.Json;

namespace Octet.Server.Api;

/// <summary>How responses are written.</summary>
internal static class JsonWriting
{
    /// <summary>Characters beyond ASCII as they are: fewer bytes, and nothing here is put into HTML.</summary>
    public static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Answers with one JSON value.</summary>
    public static async Task WriteAsync(HttpResponse response, Action<Utf8JsonWriter> write, CancellationToken cancellation)
    {
        response.ContentType = "application/json; charset=utf-8";
        await using (var json = new Utf8JsonWriter(response.BodyWriter, Options))
        {
            write(json);
        }

        await response.BodyWriter.FlushAsync(cancellation);
    }

    /// <summary>Writes <c>{"error": {...}}</c>.</summary>
    public static void WriteError(Utf8JsonWriter json, ApiException error)
    {
        json.WriteStartObject();
        json.WriteStartObject("error");
        json.WriteString("message", error.Message);
        json.WriteString("type", error.Type);
        json.WriteString("param", error.Field);
        json.WriteString("code", error.Code);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Writes <c>"usage": {...}</c>.</summary>
    public static void WriteUsage(Utf8JsonWriter json, int promptTokens, int completionTokens, int cachedTokens)
    {
        json.WriteStartObject("usage");
        json.WriteNumber("prompt_tokens", promptTokens);
        json.WriteNumber("completion_tokens", completionTokens);
        json.WriteNumber("total_tokens", promptTokens + completionTokens);
        json.WriteStartObject("prompt_tokens_details");
        json.WriteNumber("cached_tokens", cachedTokens);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>The reason on the wire.</summary>
    public static string? NameOf(Inference.Chat.ChatFinishReason? reason) => reason switch
    {
        null => null,
        Inference.Chat.ChatFinishReason.Stop => "stop",
        Inference.Chat.ChatFinishReason.Length => "length",
        _ => "tool_calls",
    };
}
