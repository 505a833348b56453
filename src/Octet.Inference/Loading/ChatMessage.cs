using System.Text.Json;
using Octet.Inference.Loading.Templates;

namespace Octet.Inference.Loading;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role">Who speaks: usually <c>system</c>, <c>user</c>, <c>assistant</c> or <c>tool</c>.</param>
/// <param name="Content">What is said; null is Jinja's <c>none</c>, as in a turn that only calls tools.</param>
public sealed record ChatMessage(string Role, string? Content = null)
{
    /// <summary>What is said in parts, instead of <see cref="Content"/>: a template sees a list of <c>{"type": "text", "text": ...}</c>.</summary>
    public IReadOnlyList<ChatContentPart>? Parts { get; init; }

    /// <summary>The tools that an assistant's turn calls: <c>tool_calls</c>.</summary>
    public IReadOnlyList<ChatToolCall>? ToolCalls { get; init; }

    /// <summary>What an assistant thought before it answered: <c>reasoning_content</c>.</summary>
    public string? ReasoningContent { get; init; }

    /// <summary>The name of the speaker or tool.</summary>
    public string? Name { get; init; }

    /// <summary>The call that a tool's turn answers: <c>tool_call_id</c>.</summary>
    public string? ToolCallId { get; init; }

    /// <summary>Further members that a template may ask for, by name; they replace those above.</summary>
    public IReadOnlyDictionary<string, JsonElement>? Extra { get; init; }

    /// <summary>A turn as it is written in JSON: <c>{"role": "user", "content": "hi"}</c>, with any further members.</summary>
    /// <exception cref="ArgumentException">It is no object with a role.</exception>
    public static ChatMessage FromJson(JsonElement message)
    {
        if (message.ValueKind != JsonValueKind.Object || !message.TryGetProperty("role", out JsonElement role) || role.ValueKind != JsonValueKind.String)
        {
            throw new ArgumentException($"a message is {message.ValueKind}, expected an object with a string 'role'", nameof(message));
        }
        var members = message.EnumerateObject().Where(member => member.Name != "role").ToDictionary(member => member.Name, member => member.Value);
        return new ChatMessage(role.GetString()!) { Extra = members };
    }

    /// <summary>The value that a template sees.</summary>
    internal TemplateDictionary ToValue()
    {
        var value = new TemplateDictionary();
        value.Set("role", new TemplateText(Role, TextOrigin.Label));
        if (Parts is not null)
        {
            value.Set("content", Parts.Select(part => (object?)part.ToValue()).ToList());
        }
        // A message from JSON has the members it has there, so that 'content' may be absent.
        else if (Content is not null || Extra is null)
        {
            value.Set("content", Text(Content));
        }
        if (ReasoningContent is not null)
        {
            value.Set("reasoning_content", Text(ReasoningContent));
        }
        if (ToolCalls is not null)
        {
            value.Set("tool_calls", ToolCalls.Select(call => (object?)call.ToValue()).ToList());
        }
        if (Name is not null)
        {
            value.Set("name", Text(Name));
        }
        if (ToolCallId is not null)
        {
            value.Set("tool_call_id", Text(ToolCallId));
        }
        foreach (var (name, member) in Extra ?? new Dictionary<string, JsonElement>())
        {
            value.Set(new TemplateText(name, TextOrigin.Data), TemplateJson.Value(member));
        }
        return value;
    }

    internal static TemplateText? Text(string? text) => text is null ? null : new TemplateText(text, TextOrigin.Data);
}

/// <summary>A part of what is said.</summary>
/// <param name="Type">Its kind: <c>text</c>.</param>
/// <param name="Text">The text, if it is one.</param>
public sealed record ChatContentPart(string Type, string? Text = null)
{
    internal TemplateDictionary ToValue()
    {
        var value = new TemplateDictionary();
        value.Set("type", ChatMessage.Text(Type));
        if (Text is not null)
        {
            value.Set("text", ChatMessage.Text(Text));
        }
        return value;
    }
}

/// <summary>A call of a tool by the assistant.</summary>
/// <param name="Name">The tool.</param>
/// <param name="Arguments">Its arguments by name; a string is passed on as it is.</param>
public sealed record ChatToolCall(string Name, JsonElement Arguments)
{
    /// <summary>A call whose arguments are the text of a JSON object.</summary>
    /// <exception cref="JsonException">The text is not JSON.</exception>
    public ChatToolCall(string name, string arguments)
        : this(name, JsonElement.Parse(arguments))
    {
    }

    /// <summary>What the answer refers to.</summary>
    public string? Id { get; init; }

    internal TemplateDictionary ToValue()
    {
        var function = new TemplateDictionary();
        function.Set("name", ChatMessage.Text(Name));
        function.Set("arguments", TemplateJson.Value(Arguments));
        var value = new TemplateDictionary();
        if (Id is not null)
        {
            value.Set("id", ChatMessage.Text(Id));
        }
        value.Set("type", ChatMessage.Text("function"));
        value.Set("function", function);
        return value;
    }
}
