using System.Text.Json;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Server.Observability;

namespace Octet.Server.Api;

/// <summary>Writes a chat completion: whole, or as chunks.</summary>
internal sealed class ChatAnswer : IAnswer<ChatUpdate>
{
    private readonly string _model;
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private readonly LogprobsWriter? _logprobs;
    private readonly ChatChoice[] _choices;

    /// <param name="model">What clients call the model.</param>
    /// <param name="prompt">What is answered.</param>
    /// <param name="tokenizer">Has the texts of tokens.</param>
    public ChatAnswer(string model, ChatPrompt prompt, ModelTokenizer tokenizer)
    {
        _model = model;
        _logprobs = prompt.Options.Logprobs is null ? null : new(tokenizer);
        _choices = [.. Enumerable.Range(0, prompt.Options.Choices).Select(_ => new ChatChoice())];
    }

    /// <summary>Its name on the wire.</summary>
    public string Id { get; } = $"chatcmpl-{Guid.NewGuid():N}";

    public void Count(in ChatUpdate update, RequestMetrics request) => request.Count(update.Token, update.FinishReason);

    public void Add(in ChatUpdate update) => _choices[update.Choice].Add(update);

    /// <summary>The first chunk of each answer.</summary>
    public void WriteStart(EventStream events)
    {
        for (var choice = 0; choice < _choices.Length; choice++)
        {
            var json = Begin(events, choice);
            json.WriteString("role", "assistant");
            json.WriteString("content", "");
            json.WriteEndObject();
            json.WriteNull("logprobs");
            End(events, json, null);
        }
    }

    public void WriteChunk(EventStream events, in ChatUpdate update)
    {
        var token = _logprobs is not null && update.Token is { Logprobs: not null } own && !own.IsEnd ? own : (GeneratedToken?)null;
        if (update.Text.Length == 0 && update.ToolCall is null && update.FinishReason is null && token is null)
        {
            return;
        }

        var json = Begin(events, update.Choice);
        if (update.ToolCall is { } call)
        {
            WriteCall(json, call);
        }
        else if (update.Text.Length > 0 || token is not null)
        {
            json.WriteString("content", update.Text);
        }

        json.WriteEndObject();
        WriteLogprobs(json, token is { } one ? [one] : []);
        End(events, json, update.FinishReason);
    }

    public void WriteUsage(EventStream events, RequestMetrics request)
    {
        var json = events.Begin();
        WriteHead(json, "chat.completion.chunk");
        json.WriteStartArray("choices");
        json.WriteEndArray();
        JsonWriting.WriteUsage(json, request.PromptTokens, request.CompletionTokens, request.CachedTokens);
        json.WriteEndObject();
        events.End();
    }

    public void Write(Utf8JsonWriter json, RequestMetrics request)
    {
        WriteHead(json, "chat.completion");
        json.WriteStartArray("choices");
        for (var i = 0; i < _choices.Length; i++)
        {
            json.WriteStartObject();
            json.WriteNumber("index", i);
            _choices[i].WriteMessage(json);
            WriteLogprobs(json, _choices[i].Logprobs);
            json.WriteString("finish_reason", JsonWriting.NameOf(_choices[i].FinishReason));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        JsonWriting.WriteUsage(json, request.PromptTokens, request.CompletionTokens, request.CachedTokens);
        json.WriteEndObject();
    }

    private static void WriteCall(Utf8JsonWriter json, ToolCallUpdate call)
    {
        json.WriteStartArray("tool_calls");
        json.WriteStartObject();
        json.WriteNumber("index", call.Index);
        if (call.Id is not null)
        {
            json.WriteString("id", call.Id);
            json.WriteString("type", "function");
        }

        json.WriteStartObject("function");
        if (call.Name is not null)
        {
            json.WriteString("name", call.Name);
        }

        json.WriteString("arguments", call.Arguments);
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndArray();
    }

    private Utf8JsonWriter Begin(EventStream events, int choice)
    {
        var json = events.Begin();
        WriteHead(json, "chat.completion.chunk");
        json.WriteStartArray("choices");
        json.WriteStartObject();
        json.WriteNumber("index", choice);
        json.WriteStartObject("delta");
        return json;
    }

    private static void End(EventStream events, Utf8JsonWriter json, ChatFinishReason? reason)
    {
        json.WriteString("finish_reason", JsonWriting.NameOf(reason));
        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteEndObject();
        events.End();
    }

    private void WriteHead(Utf8JsonWriter json, string kind)
    {
        json.WriteStartObject();
        json.WriteString("id", Id);
        json.WriteString("object", kind);
        json.WriteNumber("created", _created);
        json.WriteString("model", _model);
    }

    private void WriteLogprobs(Utf8JsonWriter json, IReadOnlyList<GeneratedToken> tokens)
    {
        if (_logprobs is null)
        {
            json.WriteNull("logprobs");
            return;
        }

        json.WriteStartObject("logprobs");
        json.WriteStartArray("content");
        foreach (var token in tokens)
        {
            _logprobs.WriteChat(json, token);
        }

        json.WriteEndArray();
        json.WriteNull("refusal");
        json.WriteEndObject();
    }
}
