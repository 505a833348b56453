using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Extensions.AI;

/// <summary>
/// A model in this process as <see cref="IChatClient"/>: streaming, tools, structured output, usage. Thread-safe, and options are not
/// changed; the beginning that a conversation shares with an earlier one is in the prefix cache, so that a turn costs what is new of it.
/// </summary>
/// <remarks>
/// A stream whose enumerator is disposed, or that is cancelled, ends before the next step. Refused with
/// <see cref="NotSupportedException"/>: content that is no text, tools that are no functions, <see cref="ChatOptions.ConversationId"/> (the
/// model keeps no conversations: send all messages) and <see cref="ChatOptions.ContinuationToken"/>. Refused with
/// <see cref="ArgumentException"/>: values out of range, a schema that has what is not supported, a conversation longer than the context. A
/// <see cref="QueueFullException"/> may be tried again.
/// <see cref="ChatOptions.RawRepresentationFactory"/> may make the <see cref="GenerationOptions"/>: what is set there stays, except for
/// <see cref="GenerationOptions.MaxTokens"/>, which <see cref="ChatOptions.MaxOutputTokens"/> replaces; without both an answer is as long
/// as the context has room. <see cref="ChatOptions.AdditionalProperties"/> has what the options have no member for, by the API's names:
/// min_p, repetition_penalty, logit_bias, min_tokens, ignore_eos, stop_token_ids, cache_salt, priority, chat_template_kwargs; others are
/// ignored. The <see cref="ChatResponseUpdate.RawRepresentation"/> of an update is its <see cref="ChatUpdate"/>.
/// </remarks>
public sealed class OctetChatClient : IChatClient
{
    private readonly ChatModel _chat;
    private readonly ChatClientMetadata _metadata;

    /// <param name="chat">The model, which the client does not own: disposing the client leaves it as it is.</param>
    /// <param name="modelId">What it is called; null: it has no name.</param>
    public OctetChatClient(ChatModel chat, string? modelId = null)
    {
        ArgumentNullException.ThrowIfNull(chat);
        (_chat, _metadata) = (chat, new("octet", defaultModelId: modelId));
    }

    /// <param name="model">The model, which must have a chat template; the client does not own it.</param>
    /// <param name="modelId">What it is called; null: it has no name.</param>
    /// <exception cref="Inference.Loading.ModelFormatException">It has no chat template, or one that is not supported.</exception>
    public OctetChatClient(LanguageModel model, string? modelId = null)
        : this(new ChatModel(model ?? throw new ArgumentNullException(nameof(model))), modelId)
    {
    }

    /// <inheritdoc/>
    public Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken);

    /// <inheritdoc/>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return AnswerAsync(messages, options, cancellationToken);
    }

    /// <summary>
    /// <see cref="ChatClientMetadata"/> (provider <c>octet</c>), <see cref="ChatModel"/>, <see cref="LanguageModel"/>, or the client
    /// itself; null: none of these.
    /// </summary>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? _metadata
            : serviceType == typeof(ChatModel) ? _chat
            : serviceType == typeof(LanguageModel) ? _chat.Model
            : serviceType.IsInstanceOfType(this) ? this
            : null;
    }

    /// <summary>Does nothing: the model is not the client's.</summary>
    public void Dispose()
    {
    }

    private async IAsyncEnumerable<ChatResponseUpdate> AnswerAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options, [EnumeratorCancellation] CancellationToken cancellation)
    {
        if (options?.ModelId is { } name && _metadata.DefaultModelId is { } own && name != own)
        {
            throw new ArgumentException($"ModelId is '{name}', but this client's model is '{own}'");
        }

        var prompt = Prepare(messages, options);
        var answer = new ChatAnswer(_metadata.DefaultModelId, prompt.Ids.Count);
        await foreach (var piece in _chat.AnswerAsync(prompt, cancellation).ConfigureAwait(false))
        {
            if (answer.Add(piece) is { } update)
            {
                yield return update;
            }
        }
    }

    private ChatPrompt Prepare(IEnumerable<ChatMessage> messages, ChatOptions? options)
    {
        var request = ChatSettings.Read(options) with { Messages = Conversation.Read(messages, options?.Instructions) };
        var ids = _chat.Encode(request);
        return _chat.Prepare(request with { Options = SamplingSettings.Read(options, this, _chat.Model, ids.Length) }, ids);
    }
}
