using System.CommandLine;
using System.Text.Json;
using Octet.Inference.Loading;

namespace Octet.Cli;

/// <summary>The options that put a prompt into the checkpoint's chat template.</summary>
internal sealed class ChatArguments
{
    private readonly Option<bool> _chat = new("--chat") { Description = "Put the prompt into the checkpoint's chat template as the user's message" };
    private readonly Option<string?> _system = new("--system") { Description = "With --chat: the system's message before it" };
    private readonly Option<string?> _variables = new("--template-kwargs")
    {
        Description = "With --chat: variables of the template as a JSON object, such as {\"enable_thinking\": false}",
        HelpName = "JSON",
    };

    public ChatArguments(Command command)
    {
        command.Add(_chat);
        command.Add(_system);
        command.Add(_variables);
        foreach (var option in (Option[])[_system, _variables])
        {
            command.Validators.Add(result =>
            {
                if (result.GetResult(option) is not null && !result.GetValue(_chat))
                {
                    result.AddError($"{option.Name} is for a chat template: add --chat.");
                }
            });
        }

        _variables.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: var text }, ..] && Problem(text) is { } problem)
            {
                result.AddError($"--template-kwargs is '{text}', expected a JSON object{problem}.");
            }
        });
    }

    /// <summary>The tokens of what was typed, in the template in <paramref name="directory"/> if asked for: the special tokens are then the template's alone.</summary>
    public int[] Encode(ParseResult parsed, ModelTokenizer tokenizer, string directory, string text)
    {
        if (!parsed.GetValue(_chat))
        {
            return tokenizer.Encode(text);
        }

        ChatMessage[] messages = parsed.GetValue(_system) is { } system ? [new("system", system), new("user", text)] : [new("user", text)];
        var variables = parsed.GetValue(_variables) is { } json
            ? JsonElement.Parse(json).EnumerateObject().ToDictionary(member => member.Name, member => member.Value)
            : null;
        return ChatTemplate.Load(directory).Encode(tokenizer, messages, new() { Variables = variables });
    }

    private static string? Problem(string text)
    {
        try
        {
            return JsonElement.Parse(text, new JsonDocumentOptions { AllowDuplicateProperties = false }).ValueKind == JsonValueKind.Object ? null : "";
        }
        catch (JsonException error)
        {
            return $" ({error.Message.TrimEnd('.')})";
        }
    }
}
