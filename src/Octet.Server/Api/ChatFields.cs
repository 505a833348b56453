using System.Text.Json;
using Octet.Inference.Chat;
using Octet.Inference.Loading;

namespace Octet.Server.Api;

/// <summary>The fields of a chat completion: messages, tools, format.</summary>
internal static class ChatFields
{
    /// <summary>The conversation; how the answer is drawn is not read.</summary>
    public static ChatRequest Read(in Fields fields)
    {
        Refuse(fields, "functions", "tools");
        Refuse(fields, "function_call", "tool_choice");
        var tools = Tools(fields);
        return new ChatRequest
        {
            Messages = Messages(fields),
            Tools = tools,
            ToolChoice = Choice(fields, tools),
            ParallelToolCalls = fields.Boolean("parallel_tool_calls") ?? true,
            Format = Format(fields),
            Template = new()
            {
                AddGenerationPrompt = fields.Boolean("add_generation_prompt") ?? true,
                ContinueFinalMessage = fields.Boolean("continue_final_message") ?? false,
                Variables = fields.Object("chat_template_kwargs") is { } variables
                    ? variables.Body.EnumerateObject().DistinctBy(member => member.Name).ToDictionary(member => member.Name, member => member.Value)
                    : null,
            },
        };
    }

    private static void Refuse(in Fields fields, string old, string instead)
    {
        if (fields.Find(old) is not null)
        {
            throw ApiException.BadField(old, $"is not supported, use {instead}");
        }
    }

    private static List<ChatMessage> Messages(in Fields fields)
    {
        if (fields.Array("messages") is not { } array || array.GetArrayLength() == 0)
        {
            throw ApiException.BadField("messages", "is missing or empty, expected at least one message");
        }

        var messages = new List<ChatMessage>();
        foreach (var item in array.EnumerateArray())
        {
            messages.Add(Message(Fields.Of(item, $"messages[{messages.Count}]")));
        }

        return messages;
    }

    private static ChatMessage Message(in Fields fields)
    {
        var role = fields.RequiredText("role");
        var message = new ChatMessage(role == "developer" ? "system" : role, Content(fields)) { Name = fields.Text("name") };
        switch (role)
        {
            case "system" or "developer" or "user":
                return message.Content is not null ? message
                    : throw ApiException.BadField(fields.PathOf("content"), "is missing, expected a string or parts of text");
            case "assistant":
                return message with { ToolCalls = ToolCalls(fields), ReasoningContent = fields.Text("reasoning_content") };
            case "tool":
                return message with { Content = message.Content ?? "", ToolCallId = fields.Text("tool_call_id") };
            default:
                throw ApiException.BadField(fields.PathOf("role"), "is none of system, developer, user, assistant, tool");
        }
    }

    // A string, or parts of text, which templates see as one string.
    private static string? Content(in Fields fields)
    {
        if (fields.Find("content") is not { } content)
        {
            return null;
        }

        if (content.ValueKind != JsonValueKind.Array)
        {
            return Fields.TextOf(content, fields.PathOf("content"));
        }

        var texts = new List<string>();
        foreach (var item in content.EnumerateArray())
        {
            var part = Fields.Of(item, $"{fields.PathOf("content")}[{texts.Count}]");
            texts.Add(part.RequiredText("type") switch
            {
                "text" => part.RequiredText("text"),
                "refusal" => part.RequiredText("refusal"),
                _ => throw ApiException.BadField(part.PathOf("type"), "is not supported, expected text: the model reads nothing else"),
            });
        }

        return string.Join('\n', texts);
    }

    private static List<ChatToolCall>? ToolCalls(in Fields fields)
    {
        if (fields.Array("tool_calls") is not { } array || array.GetArrayLength() == 0)
        {
            return null;
        }

        var calls = new List<ChatToolCall>();
        foreach (var item in array.EnumerateArray())
        {
            var call = Fields.Of(item, $"{fields.PathOf("tool_calls")}[{calls.Count}]");
            var function = call.Object("function") ?? throw ApiException.BadField(call.PathOf("function"), "is missing, expected an object");
            calls.Add(new(function.RequiredText("name"), Arguments(function)) { Id = call.Text("id") });
        }

        return calls;
    }

    // The text of a JSON object. What is none stays a string, which a template shows as it is: a model may have written it.
    private static JsonElement Arguments(in Fields function)
    {
        var arguments = function.Find("arguments") ?? default;
        if (arguments.ValueKind != JsonValueKind.String)
        {
            return arguments.ValueKind == JsonValueKind.Undefined ? JsonElement.Parse("{}") : arguments;
        }

        var text = Fields.TextOf(arguments, function.PathOf("arguments"));
        try
        {
            return text.Length == 0 ? JsonElement.Parse("{}") : JsonElement.Parse(text);
        }
        catch (JsonException)
        {
            return arguments;
        }
    }

    private static List<ChatTool> Tools(in Fields fields)
    {
        var tools = new List<ChatTool>();
        if (fields.Array("tools") is not { } array)
        {
            return tools;
        }

        foreach (var item in array.EnumerateArray())
        {
            var tool = Fields.Of(item, $"tools[{tools.Count}]");
            if (tool.Text("type") is not (null or "function"))
            {
                throw ApiException.BadField(tool.PathOf("type"), "is not supported, expected function");
            }

            var function = tool.Object("function") ?? throw ApiException.BadField(tool.PathOf("function"), "is missing, expected an object");
            var name = function.RequiredText("name");
            if (tools.Any(other => other.Name == name))
            {
                throw ApiException.BadField(function.PathOf("name"), "is the name of an earlier tool");
            }

            tools.Add(new(name, function.Text("description"), function.Object("parameters")?.Body ?? default));
        }

        return tools;
    }

    private static ToolChoice Choice(in Fields fields, List<ChatTool> tools)
    {
        if (fields.Find("tool_choice") is not { } choice)
        {
            return default;
        }

        if (choice.ValueKind == JsonValueKind.Object)
        {
            var named = Fields.Of(choice, "tool_choice");
            var function = named.Object("function") ?? throw ApiException.BadField("tool_choice.function", "is missing, expected an object");
            return Required(function.RequiredText("name"), "tool_choice.function.name", tools);
        }

        return Fields.TextOf(choice, "tool_choice") switch
        {
            "auto" => default,
            "none" => new(ToolMode.None),
            "required" => Required(null, "tool_choice", tools),
            _ => throw ApiException.BadField("tool_choice", "is none of none, auto, required, or a function"),
        };
    }

    private static ToolChoice Required(string? name, string path, List<ChatTool> tools) =>
        tools.Count == 0 ? throw ApiException.BadField(path, "asks for a tool, but tools is missing or empty")
        : name is not null && tools.All(tool => tool.Name != name) ? throw ApiException.BadField(path, "is the name of none of tools")
        : new(ToolMode.Required, name);

    /// <summary>What the answer's text is.</summary>
    public static ChatFormat Format(in Fields fields)
    {
        if (fields.Object("response_format") is not { } format)
        {
            return default;
        }

        switch (format.RequiredText("type"))
        {
            case "text":
                return default;
            case "json_object":
                return new(ChatFormatKind.JsonObject);
            case "json_schema":
                var named = format.Object("json_schema") ?? throw ApiException.BadField("response_format.json_schema", "is missing, expected an object");
                return new(
                    ChatFormatKind.JsonSchema,
                    named.Find("schema") ?? throw ApiException.BadField("response_format.json_schema.schema", "is missing, expected a JSON schema"));
            default:
                throw ApiException.BadField("response_format.type", "is none of text, json_object, json_schema");
        }
    }
}
