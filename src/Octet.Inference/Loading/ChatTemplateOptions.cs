using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>What a chat template is told besides the messages.</summary>
public sealed record ChatTemplateOptions
{
    /// <summary>Whether the text ends with the opening of the assistant's answer: <c>add_generation_prompt</c>.</summary>
    public bool AddGenerationPrompt { get; init; } = true;

    /// <summary>
    /// Whether the text ends with the last message's, so that the model continues it instead of answering; there is then no generation prompt.
    /// </summary>
    public bool ContinueFinalMessage { get; init; }

    /// <summary>The tools that may be called, each an object in JSON schema: <c>tools</c>. If there are any, a template called <c>tool_use</c> goes before the default one.</summary>
    public IReadOnlyList<JsonElement>? Tools { get; init; }

    /// <summary>The documents to answer from: <c>documents</c>.</summary>
    public IReadOnlyList<JsonElement>? Documents { get; init; }

    /// <summary>Whether the model is to think before it answers: <c>enable_thinking</c>, which is undefined if null.</summary>
    public bool? EnableThinking { get; init; }

    /// <summary>Any other variables of the template, by name; they go before those above and the special tokens.</summary>
    public IReadOnlyDictionary<string, JsonElement>? Variables { get; init; }

    /// <summary>The name of the template, of several; null: <c>tool_use</c> if there are tools and a template of that name, else <c>default</c>.</summary>
    public string? TemplateName { get; init; }

    /// <summary>The time that the function <c>strftime_now</c> tells; null: this machine's.</summary>
    public DateTimeOffset? Now { get; init; }

    /// <summary>
    /// Whether the text of a special token in a message is that token, when ids are made. Off, only the template's own are: with it on, a user can write
    /// <c>&lt;|im_end|&gt;</c> and speak for the system.
    /// </summary>
    public bool AllowSpecialTokensInContent { get; init; }
}
