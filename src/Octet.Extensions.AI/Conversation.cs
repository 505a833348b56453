using System.Text.Json;
using Microsoft.Extensions.AI;
using Octet.Inference.Loading;
using Turn = Octet.Inference.Loading.ChatMessage;

namespace Octet.Extensions.AI;

/// <summary>Messages as chat templates have them.</summary>
internal static class Conversation
{
    private const string AnswerHas = "an answer has text and calls of functions only";

    // As the library writes JSON, but in one line.
    private static readonly JsonSerializerOptions s_json = new(AIJsonUtilities.DefaultOptions) { WriteIndented = false };

    /// <summary>The turns of a conversation; instructions stand before it.</summary>
    /// <exception cref="NotSupportedException">A message has what is no text, nor a call of a function, nor its result.</exception>
    /// <exception cref="ArgumentException">A message has an unknown role.</exception>
    public static List<Turn> Read(IEnumerable<Microsoft.Extensions.AI.ChatMessage> messages, string? instructions)
    {
        var turns = new List<Turn>();
        if (!string.IsNullOrWhiteSpace(instructions))
        {
            turns.Add(new("system", instructions));
        }

        var index = 0;
        foreach (var message in messages)
        {
            Add(message, $"messages[{index++}]", turns);
        }

        return turns;
    }

    private static void Add(Microsoft.Extensions.AI.ChatMessage message, string path, List<Turn> turns)
    {
        switch (message.Role.Value)
        {
            case "system" or "developer":
                turns.Add(new("system", Said(message, path)) { Name = message.AuthorName });
                break;
            case "user":
                turns.Add(new("user", Said(message, path)) { Name = message.AuthorName });
                break;
            case "assistant":
                turns.Add(Answer(message, path));
                break;
            case "tool":
                turns.AddRange(Results(message, path));
                break;
            default:
                throw new ArgumentException($"{path}.Role is '{message.Role}', expected system, developer, user, assistant or tool");
        }
    }

    private static IEnumerable<Turn> Results(Microsoft.Extensions.AI.ChatMessage message, string path) =>
        Of<FunctionResultContent>(message, path, "a tool's message has results of functions only")
            .Select(result => new Turn("tool", TextOf(result.Result)) { ToolCallId = result.CallId });

    // Each text is a part of its own, as it is to a client of OpenAI's API.
    private static string Said(Microsoft.Extensions.AI.ChatMessage message, string path) =>
        string.Join('\n', Of<TextContent>(message, path, "only text is read here").Select(text => text.Text));

    // Here the texts are pieces of one, which came one after the other.
    private static Turn Answer(Microsoft.Extensions.AI.ChatMessage message, string path)
    {
        Turn turn = new("assistant") { Name = message.AuthorName };
        var calls = new List<ChatToolCall>();
        foreach (var content in Of<AIContent>(message, path, AnswerHas))
        {
            switch (content)
            {
                case TextContent text:
                    turn = turn with { Content = turn.Content + text.Text };
                    break;
                case TextReasoningContent reasoning:
                    turn = turn with { ReasoningContent = turn.ReasoningContent + reasoning.Text };
                    break;
                case FunctionCallContent call:
                    calls.Add(new(call.Name, ArgumentsOf(call)) { Id = call.CallId });
                    break;
                default:
                    throw Unsupported(content, path, AnswerHas);
            }
        }

        return calls.Count == 0 ? turn with { Content = turn.Content ?? "" } : turn with { ToolCalls = calls };
    }

    // What counts tokens, which an answer may carry in its contents, is nothing that was said.
    private static IEnumerable<T> Of<T>(Microsoft.Extensions.AI.ChatMessage message, string path, string otherwise)
        where T : AIContent
    {
        foreach (var content in message.Contents)
        {
            if (content is not UsageContent)
            {
                yield return content as T ?? throw Unsupported(content, path, otherwise);
            }
        }
    }

    private static NotSupportedException Unsupported(AIContent content, string path, string reason)
    {
        var kind = content switch
        {
            DataContent data => $" ({data.MediaType})",
            UriContent uri => $" ({uri.MediaType})",
            _ => "",
        };
        return new($"{path} has a {content.GetType().Name}{kind}, but {reason}");
    }

    private static JsonElement ArgumentsOf(FunctionCallContent call) => call.Arguments is { } arguments
        ? JsonSerializer.SerializeToElement(arguments, s_json.GetTypeInfo(typeof(IDictionary<string, object?>)))
        : JsonElement.Parse("{}");

    // Text without the quotes of JSON, for that is how a person would tell it.
    private static string TextOf(object? result) => result switch
    {
        null => "",
        string text => text,
        JsonElement { ValueKind: JsonValueKind.String } text => text.GetString()!,
        _ => JsonSerializer.Serialize(result, s_json.GetTypeInfo(typeof(object))),
    };
}
