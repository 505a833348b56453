using System.CommandLine;
using Octet.Inference.Loading;

namespace Octet.Cli;

/// <summary>The options that put a prompt into the checkpoint's chat template.</summary>
internal sealed class ChatArguments
{
    private readonly Option<bool> _chat = new("--chat") { Description = "Put the prompt into the checkpoint's chat template as the user's message" };
    private readonly Option<string?> _system = new("--system") { Description = "With --chat: the system's message before it" };
    private readonly TemplateVariables _variables;

    public ChatArguments(Command command)
    {
        command.Add(_chat);
        command.Add(_system);
        _variables = new(command, "With --chat: variables of the template");
        foreach (var option in (Option[])[_system, _variables.Option])
        {
            command.Validators.Add(result =>
            {
                if (result.GetResult(option) is not null && !result.GetValue(_chat))
                {
                    result.AddError($"{option.Name} is for a chat template: add --chat.");
                }
            });
        }
    }

    /// <summary>The tokens of what was typed, in the template in <paramref name="directory"/> if asked for: the special tokens are then the template's alone.</summary>
    public int[] Encode(ParseResult parsed, ModelTokenizer tokenizer, string directory, string text)
    {
        if (!parsed.GetValue(_chat))
        {
            return tokenizer.Encode(text);
        }

        ChatMessage[] messages = parsed.GetValue(_system) is { } system ? [new("system", system), new("user", text)] : [new("user", text)];
        return ChatTemplate.Load(directory).Encode(tokenizer, messages, new() { Variables = _variables.Read(parsed) });
    }
}
