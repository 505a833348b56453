using System.Text.Json;
using Microsoft.Extensions.AI;
using Octet.Inference.Chat;
using Octet.Inference.Loading;

namespace Octet.Extensions.AI;

/// <summary>Of <see cref="ChatOptions"/>: what depends on no model, which is tools, format and the template's variables.</summary>
internal static class ChatSettings
{
    /// <summary>A request without messages, and with the defaults of how the answer is drawn.</summary>
    /// <exception cref="NotSupportedException">The options ask for what a model in this process cannot do.</exception>
    /// <exception cref="ArgumentException">Two tools have one name, or a property is of the wrong type.</exception>
    public static ChatRequest Read(ChatOptions? options)
    {
        if (options is null)
        {
            return new() { Messages = [] };
        }

        if (options.ConversationId is not null)
        {
            throw new NotSupportedException(
                $"ConversationId is '{options.ConversationId}', but the model keeps no conversations: send all messages without it");
        }

        if (options.ContinuationToken is not null)
        {
            throw new NotSupportedException(
                "ContinuationToken is set, but answers do not go on in the background: read the stream to its end");
        }

        var tools = Tools(options.Tools);
        return new()
        {
            Messages = [],
            Tools = tools,
            ToolChoice = tools.Count == 0 ? default : Choice(options.ToolMode),
            ParallelToolCalls = options.AllowMultipleToolCalls ?? true,
            Format = options.ResponseFormat is not ChatResponseFormatJson json ? default
                : json.Schema is { } schema ? new(ChatFormatKind.JsonSchema, schema)
                : new(ChatFormatKind.JsonObject),
            Template = Template(options),
        };
    }

    private static List<ChatTool> Tools(IList<AITool>? tools)
    {
        var read = new List<ChatTool>();
        foreach (var tool in tools ?? [])
        {
            if (tool is not AIFunctionDeclaration function)
            {
                throw new NotSupportedException($"the tool '{tool.Name}' is a {tool.GetType().Name}, but only functions can be called");
            }

            if (read.Any(other => other.Name == function.Name))
            {
                throw new ArgumentException($"two tools are called '{function.Name}'");
            }

            read.Add(new(function.Name, function.Description.Length == 0 ? null : function.Description, function.JsonSchema));
        }

        return read;
    }

    private static ToolChoice Choice(ChatToolMode? mode) => mode switch
    {
        NoneChatToolMode => new(ToolMode.None),
        RequiredChatToolMode required => new(ToolMode.Required, required.RequiredFunctionName),
        _ => default,
    };

    private static ChatTemplateOptions Template(ChatOptions options) => new()
    {
        EnableThinking = options.Reasoning?.Effort is { } effort ? effort != ReasoningEffort.None : null,
        Variables = new ExtraProperties(options.AdditionalProperties).Object("chat_template_kwargs") is { } variables
            ? variables.EnumerateObject().DistinctBy(member => member.Name).ToDictionary(member => member.Name, member => member.Value)
            : null,
    };
}
