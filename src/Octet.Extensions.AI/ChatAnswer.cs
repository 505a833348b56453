using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.AI;
using Octet.Inference.Chat;
using FinishReason = Microsoft.Extensions.AI.ChatFinishReason;

namespace Octet.Extensions.AI;

/// <summary>
/// An answer on its way to who asked: text as it comes; then, in the last update, the calls of functions, why it ended, and the usage.
/// </summary>
/// <param name="modelId">What the model is called; null: it has no name.</param>
/// <param name="promptTokens">Tokens of the conversation.</param>
internal sealed class ChatAnswer(string? modelId, int promptTokens)
{
    private static readonly JsonTypeInfo<IDictionary<string, object?>> s_arguments =
        (JsonTypeInfo<IDictionary<string, object?>>)AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(IDictionary<string, object?>));

    private readonly string _id = $"chatcmpl-{Guid.NewGuid():N}";
    private readonly DateTimeOffset _created = DateTimeOffset.UtcNow;
    private readonly List<(ToolCallUpdate Head, StringBuilder Arguments)> _calls = [];
    private int _tokens;
    private int _cached;

    /// <summary>Takes the next piece; null: it says nothing yet.</summary>
    public ChatResponseUpdate? Add(in ChatUpdate piece)
    {
        if (piece.Token is { } token)
        {
            _cached = token.CachedTokens;
            _tokens += token.IsEnd ? 0 : 1;
        }

        if (piece.ToolCall is { Id: not null } head)
        {
            _calls.Add((head, new()));
        }
        else if (piece.ToolCall is { } part)
        {
            _calls[part.Index].Arguments.Append(part.Arguments);
        }

        return piece.Text.Length == 0 && piece.FinishReason is null ? null : Update(piece);
    }

    private ChatResponseUpdate Update(in ChatUpdate piece)
    {
        var update = new ChatResponseUpdate
        {
            Role = ChatRole.Assistant,
            ResponseId = _id,
            MessageId = _id,
            ModelId = modelId,
            CreatedAt = _created,
            RawRepresentation = piece,
        };
        if (piece.Text.Length > 0)
        {
            update.Contents.Add(new TextContent(piece.Text));
        }

        if (piece.FinishReason is { } reason)
        {
            update.FinishReason = NameOf(reason);
            foreach (var (head, arguments) in _calls)
            {
                update.Contents.Add(Call(head, arguments.ToString()));
            }

            update.Contents.Add(new UsageContent(Usage()));
        }

        return update;
    }

    // What is no JSON, because the model wrote none or the answer was cut, is told by the content's Exception.
    private static FunctionCallContent Call(ToolCallUpdate head, string arguments) =>
        FunctionCallContent.CreateFromParsedArguments(
            arguments, head.Id!, head.Name!, static json => JsonSerializer.Deserialize(json, s_arguments));

    private UsageDetails Usage() => new()
    {
        InputTokenCount = promptTokens,
        OutputTokenCount = _tokens,
        TotalTokenCount = promptTokens + _tokens,
        CachedInputTokenCount = _cached,
    };

    private static FinishReason NameOf(Inference.Chat.ChatFinishReason reason) => reason switch
    {
        Inference.Chat.ChatFinishReason.Length => FinishReason.Length,
        Inference.Chat.ChatFinishReason.ToolCalls => FinishReason.ToolCalls,
        _ => FinishReason.Stop,
    };
}
