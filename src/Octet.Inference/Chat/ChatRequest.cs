using Octet.Inference.Engine;
using Octet.Inference.Loading;

namespace Octet.Inference.Chat;

/// <summary>A conversation that waits for the assistant's answer.</summary>
public sealed record ChatRequest
{
    /// <summary>The conversation so far, the oldest turn first.</summary>
    public required IReadOnlyList<ChatMessage> Messages { get; init; }

    /// <summary>The tools that the model is told of.</summary>
    public IReadOnlyList<ChatTool> Tools { get; init; } = [];

    /// <summary>Which of them the answer calls.</summary>
    public ToolChoice ToolChoice { get; init; }

    /// <summary>Whether an answer that must call a tool may call several.</summary>
    public bool ParallelToolCalls { get; init; } = true;

    /// <summary>What the answer's text is.</summary>
    public ChatFormat Format { get; init; }

    /// <summary>How the answer is drawn.</summary>
    public GenerationOptions Options { get; init; } = new();

    /// <summary>What the chat template is told besides; <see cref="ChatTemplateOptions.Tools"/> are those above.</summary>
    public ChatTemplateOptions Template { get; init; } = new();
}

/// <summary>A conversation as the model gets it.</summary>
/// <param name="Ids">Its tokens.</param>
/// <param name="Options">How the answer is drawn.</param>
/// <param name="ReadsToolCalls">Whether <c>&lt;tool_call&gt;</c> in the answer is a call.</param>
public sealed record ChatPrompt(IReadOnlyList<int> Ids, GenerationOptions Options, bool ReadsToolCalls);

/// <summary>Why an answer ended.</summary>
public enum ChatFinishReason
{
    /// <summary>It is complete.</summary>
    Stop,

    /// <summary>It has as many tokens as were asked for, or as the context holds.</summary>
    Length,

    /// <summary>It calls tools, and waits for what they return.</summary>
    ToolCalls,
}

/// <summary>A piece of a tool call.</summary>
/// <param name="Index">Which call of the answer, from 0.</param>
/// <param name="Arguments">The next characters of the arguments' JSON, as the model wrote them; empty with the first piece.</param>
public sealed record ToolCallUpdate(int Index, string Arguments)
{
    /// <summary>With the first piece, a name for the call that its result refers to; else null.</summary>
    public string? Id { get; init; }

    /// <summary>With the first piece, the tool; else null.</summary>
    public string? Name { get; init; }
}

/// <summary>A piece of an answer. A token gives one, or more where a call begins within it: then the first is its own.</summary>
public readonly record struct ChatUpdate
{
    /// <summary>Which of the answers it belongs to.</summary>
    public int Choice { get; init; }

    /// <summary>The next characters of what is said; empty where there are none.</summary>
    public string Text { get; init; }

    /// <summary>The piece of a tool call; null where it is none.</summary>
    public ToolCallUpdate? ToolCall { get; init; }

    /// <summary>The token it comes from; null for all but the first piece of a token.</summary>
    public GeneratedToken? Token { get; init; }

    /// <summary>Why the answer ended, for its last piece; null for all others.</summary>
    public ChatFinishReason? FinishReason { get; init; }
}
