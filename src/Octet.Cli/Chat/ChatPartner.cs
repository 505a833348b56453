using System.Runtime.CompilerServices;
using System.Text.Json;
using Octet.Cli.Serving;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Loading;

namespace Octet.Cli.Chat;

/// <summary>A piece of an answer.</summary>
/// <param name="Text">The next characters; empty where there are none.</param>
internal readonly record struct ChatPiece(string Text)
{
    /// <summary>Tokens of the prompt, of those the cached ones, and of the answer so far; null: not told yet.</summary>
    public (int Prompt, int Cached, int Answer)? Tokens { get; init; }
}

/// <summary>Who answers: a model in this process, or a server.</summary>
internal interface IChatPartner
{
    /// <summary>Whether conversation and answer are known to have room; a server is asked, and refuses.</summary>
    bool HasRoom(IReadOnlyList<ChatMessage> messages);

    /// <summary>The answer, as it comes.</summary>
    /// <exception cref="ConversationTooLongException">The conversation has more tokens than the context.</exception>
    IAsyncEnumerable<ChatPiece> AnswerAsync(IReadOnlyList<ChatMessage> messages, CancellationToken cancellation);
}

/// <summary>A conversation has more tokens than the context.</summary>
internal sealed class ConversationTooLongException(string message) : ArgumentException(message);

/// <summary>A model in this process: what a conversation shares with its earlier turns is in the prefix cache.</summary>
/// <param name="chat">The model.</param>
/// <param name="options">How answers are drawn.</param>
/// <param name="variables">Of the chat template.</param>
internal sealed class LocalPartner(
    ChatModel chat, GenerationOptions options, IReadOnlyDictionary<string, JsonElement>? variables) : IChatPartner
{
    private long Room => Math.Min(chat.Model.MaxContext, chat.Model.KvCacheTokens);

    public bool HasRoom(IReadOnlyList<ChatMessage> messages) => chat.Encode(Request(messages)).Length + (long)options.MaxTokens <= Room;

    public async IAsyncEnumerable<ChatPiece> AnswerAsync(
        IReadOnlyList<ChatMessage> messages, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var request = Request(messages);
        var ids = chat.Encode(request);
        if (ids.Length >= Room)
        {
            throw new ConversationTooLongException(
                $"the conversation has {ids.Length} tokens, the context {Room}: no room is left for an answer");
        }

        var maxTokens = (int)Math.Min(options.MaxTokens, Room - ids.Length);
        var prompt = chat.Prepare(request with { Options = options with { MaxTokens = maxTokens } }, ids);
        var answer = 0;
        await foreach (var update in chat.AnswerAsync(prompt, cancellation))
        {
            answer += update.Token is { } token && token is not { FinishReason: FinishReason.Stop, StopString: null } ? 1 : 0;
            yield return new(update.Text) { Tokens = (ids.Length, update.Token?.CachedTokens ?? 0, answer) };
        }
    }

    private ChatRequest Request(IReadOnlyList<ChatMessage> messages) =>
        new() { Messages = messages, Template = new() { Variables = variables } };
}

/// <summary>A server of OpenAI's API.</summary>
/// <param name="client">The server.</param>
/// <param name="model">Its model's name.</param>
/// <param name="options">How answers are drawn; what is null, the server decides.</param>
/// <param name="variables">Of the chat template.</param>
internal sealed class RemotePartner(
    ApiClient client, string model, GenerationOptions options, IReadOnlyDictionary<string, JsonElement>? variables) : IChatPartner
{
    public bool HasRoom(IReadOnlyList<ChatMessage> messages) => true;

    public async IAsyncEnumerable<ChatPiece> AnswerAsync(
        IReadOnlyList<ChatMessage> messages, [EnumeratorCancellation] CancellationToken cancellation)
    {
        await using var chunks = client.StreamAsync("/v1/chat/completions", Body(messages), cancellation).GetAsyncEnumerator(cancellation);
        while (await NextAsync(chunks))
        {
            var chunk = chunks.Current;
            yield return new(chunk.Text ?? "")
            {
                Tokens = chunk is { PromptTokens: { } prompt, CompletionTokens: { } answer } ? (prompt, chunk.CachedTokens, answer) : null,
            };
        }
    }

    private static async ValueTask<bool> NextAsync(IAsyncEnumerator<ApiChunk> chunks)
    {
        try
        {
            return await chunks.MoveNextAsync();
        }
        catch (ApiFailure failure) when (failure.Code == "context_length_exceeded")
        {
            throw new ConversationTooLongException(failure.Message);
        }
    }

    private ReadOnlyMemory<byte> Body(IReadOnlyList<ChatMessage> messages) => LoadRequest.Write(json =>
    {
        json.WriteStartObject();
        json.WriteString("model", model);
        json.WriteStartArray("messages");
        foreach (var message in messages)
        {
            json.WriteStartObject();
            json.WriteString("role", message.Role);
            json.WriteString("content", message.Content);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteOptions(json);
        json.WriteBoolean("stream", true);
        json.WriteStartObject("stream_options");
        json.WriteBoolean("include_usage", true);
        json.WriteEndObject();
        json.WriteEndObject();
    });

    private void WriteOptions(Utf8JsonWriter json)
    {
        json.WriteNumber("max_tokens", options.MaxTokens);
        Write(json, "temperature", options.Temperature);
        Write(json, "top_p", options.TopP);
        Write(json, "min_p", options.MinP);
        Write(json, "repetition_penalty", options.RepetitionPenalty);
        Write(json, "presence_penalty", options.PresencePenalty);
        Write(json, "frequency_penalty", options.FrequencyPenalty);
        if (options.TopK is { } topK)
        {
            json.WriteNumber("top_k", topK);
        }

        if (options.Seed is { } seed)
        {
            json.WriteNumber("seed", seed);
        }

        if (options.StopStrings is { } stops)
        {
            json.WriteStartArray("stop");
            foreach (var stop in stops)
            {
                json.WriteStringValue(stop);
            }

            json.WriteEndArray();
        }

        if (variables is not null)
        {
            json.WriteStartObject("chat_template_kwargs");
            foreach (var (name, value) in variables)
            {
                json.WritePropertyName(name);
                value.WriteTo(json);
            }

            json.WriteEndObject();
        }
    }

    private static void Write(Utf8JsonWriter json, string name, float? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
    }
}
