using System.Text;
using System.Text.Json;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Server.Observability;

namespace Octet.Server.Api;

/// <summary>Writes a plain completion: whole, or as chunks.</summary>
internal sealed class CompletionAnswer : IAnswer<GeneratedToken>
{
    private readonly string _model;
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private readonly LogprobsWriter? _logprobs;
    private readonly Choice[] _choices;

    /// <param name="model">What clients call the model.</param>
    /// <param name="options">How the text is drawn.</param>
    /// <param name="tokenizer">Has the texts of tokens.</param>
    public CompletionAnswer(string model, GenerationOptions options, ModelTokenizer tokenizer)
    {
        _model = model;
        _logprobs = options.Logprobs is null ? null : new(tokenizer);
        _choices = [.. Enumerable.Range(0, options.Choices).Select(_ => new Choice())];
    }

    /// <summary>Its name on the wire.</summary>
    public string Id { get; } = $"cmpl-{Guid.NewGuid():N}";

    // Why a text ended, if this is its last token.
    private static ChatFinishReason? ReasonOf(in GeneratedToken token) => token.FinishReason switch
    {
        null => null,
        FinishReason.Length => ChatFinishReason.Length,
        _ => ChatFinishReason.Stop,
    };

    public void Count(in GeneratedToken token, RequestMetrics request) => request.Count(token, ReasonOf(token));

    public void Add(in GeneratedToken token)
    {
        var choice = _choices[token.Choice];
        choice.Text.Append(token.Text);
        choice.Reason ??= ReasonOf(token);
        if (token.Logprobs is not null && !token.IsEnd)
        {
            choice.Tokens.Add(token);
        }
    }

    public void WriteStart(EventStream events)
    {
        // A text has no beginning of its own.
    }

    public void WriteChunk(EventStream events, in GeneratedToken token)
    {
        IReadOnlyList<GeneratedToken> reported = token.Logprobs is not null && !token.IsEnd ? [token] : [];
        if (token.Text.Length == 0 && token.FinishReason is null && reported.Count == 0)
        {
            return;
        }

        var json = events.Begin();
        WriteHead(json);
        json.WriteStartArray("choices");
        WriteChoice(json, token.Choice, token.Text, reported, _choices[token.Choice].Length, ReasonOf(token));
        json.WriteEndArray();
        json.WriteEndObject();
        events.End();
        _choices[token.Choice].Length += token.Text.Length;
    }

    public void WriteUsage(EventStream events, RequestMetrics request)
    {
        var json = events.Begin();
        WriteHead(json);
        json.WriteStartArray("choices");
        json.WriteEndArray();
        JsonWriting.WriteUsage(json, request.PromptTokens, request.CompletionTokens, request.CachedTokens);
        json.WriteEndObject();
        events.End();
    }

    public void Write(Utf8JsonWriter json, RequestMetrics request)
    {
        WriteHead(json);
        json.WriteStartArray("choices");
        for (var i = 0; i < _choices.Length; i++)
        {
            WriteChoice(json, i, _choices[i].Text.ToString(), _choices[i].Tokens, 0, _choices[i].Reason);
        }

        json.WriteEndArray();
        JsonWriting.WriteUsage(json, request.PromptTokens, request.CompletionTokens, request.CachedTokens);
        json.WriteEndObject();
    }

    private void WriteHead(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("id", Id);
        json.WriteString("object", "text_completion");
        json.WriteNumber("created", _created);
        json.WriteString("model", _model);
    }

    private void WriteChoice(Utf8JsonWriter json, int index, string text, IReadOnlyList<GeneratedToken> tokens, int offset, ChatFinishReason? reason)
    {
        json.WriteStartObject();
        json.WriteNumber("index", index);
        json.WriteString("text", text);
        if (_logprobs is null)
        {
            json.WriteNull("logprobs");
        }
        else
        {
            json.WritePropertyName("logprobs");
            _logprobs.WriteCompletion(json, tokens, offset);
        }

        json.WriteString("finish_reason", JsonWriting.NameOf(reason));
        json.WriteEndObject();
    }

    private sealed class Choice
    {
        public StringBuilder Text { get; } = new();

        public List<GeneratedToken> Tokens { get; } = [];

        public ChatFinishReason? Reason { get; set; }

        /// <summary>Characters that were sent.</summary>
        public int Length { get; set; }
    }
}
