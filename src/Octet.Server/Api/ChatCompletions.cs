using System.Text;
using System.Text.Json;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Grammars;
using Octet.Server.Hosting;
using Octet.Server.Observability;

namespace Octet.Server.Api;

/// <summary>POST /v1/chat/completions.</summary>
internal sealed class ChatCompletions(ServedModel served, ServerMetrics metrics, PromptLog log)
{
    /// <summary>Answers a conversation, at once or piece by piece.</summary>
    public async Task AnswerAsync(ApiCall call)
    {
        ModelEndpoints.CheckName(call.Body, served);
        var delivery = Delivery.Read(call.Body);
        var prompt = Prepare(call);
        using var request = metrics.Begin(prompt.Ids.Count, call.Http);
        var answer = new ChatAnswer(served.Name, prompt, call.Chat.Model.Tokenizer);
        var updates = log.Watch(
            answer.Id, prompt.Ids, call.Chat.Model.Tokenizer, call.Chat.AnswerAsync(prompt, call.Cancellation), static update => update.Token);
        await delivery.SendAsync(call, answer, updates, request);
    }

    /// <summary>Writes the tokens that the model would get.</summary>
    public Task RenderAsync(ApiCall call)
    {
        ModelEndpoints.CheckName(call.Body, served);
        var ids = call.Chat.Encode(ChatFields.Read(call.Body));
        return Tokenization.WriteIdsAsync(call, ids, "token_ids");
    }

    private static ChatPrompt Prepare(ApiCall call)
    {
        var request = ChatFields.Read(call.Body);
        var ids = call.Chat.Encode(request);
        var options = SamplingFields.Read(call.Body, call.Chat.Model, ids.Length, null) with { Logprobs = SamplingFields.ChatLogprobs(call.Body) };
        try
        {
            return call.Chat.Prepare(request with { Options = options }, ids);
        }
        catch (GrammarException error)
        {
            throw ApiException.BadField(request.Format.Kind == ChatFormatKind.JsonSchema ? "response_format" : "tools", error.Message);
        }
    }
}

/// <summary>One answer as it grows.</summary>
internal sealed class ChatChoice
{
    private readonly StringBuilder _text = new();
    private readonly List<(ToolCallUpdate Head, StringBuilder Arguments)> _calls = [];

    /// <summary>The tokens of which log probabilities are reported.</summary>
    public List<GeneratedToken> Logprobs { get; } = [];

    public ChatFinishReason? FinishReason { get; private set; }

    public void Add(in ChatUpdate update)
    {
        _text.Append(update.Text);
        FinishReason ??= update.FinishReason;
        if (update.Token is { Logprobs: not null } token && !token.IsEnd)
        {
            Logprobs.Add(token);
        }

        if (update.ToolCall is { Id: not null } head)
        {
            _calls.Add((head, new StringBuilder()));
        }
        else if (update.ToolCall is { } piece)
        {
            _calls[piece.Index].Arguments.Append(piece.Arguments);
        }
    }

    /// <summary>Writes <c>"message": {...}</c>.</summary>
    public void WriteMessage(Utf8JsonWriter json)
    {
        json.WriteStartObject("message");
        json.WriteString("role", "assistant");
        json.WriteString("content", _text.Length == 0 && _calls.Count > 0 ? null : _text.ToString());
        json.WriteNull("refusal");
        if (_calls.Count > 0)
        {
            json.WriteStartArray("tool_calls");
            foreach (var (head, arguments) in _calls)
            {
                json.WriteStartObject();
                json.WriteString("id", head.Id);
                json.WriteString("type", "function");
                json.WriteStartObject("function");
                json.WriteString("name", head.Name);
                json.WriteString("arguments", arguments.ToString());
                json.WriteEndObject();
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        json.WriteEndObject();
    }
}
