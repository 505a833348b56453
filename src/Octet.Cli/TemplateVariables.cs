using System.CommandLine;
using System.Text.Json;

namespace Octet.Cli;

/// <summary>--template-kwargs: variables of a chat template.</summary>
internal sealed class TemplateVariables
{
    private readonly Option<string?> _option;

    /// <param name="command">Gets the option.</param>
    /// <param name="description">For the help text.</param>
    public TemplateVariables(Command command, string description)
    {
        _option = new("--template-kwargs") { Description = $"{description} as a JSON object, such as {{\"enable_thinking\": false}}", HelpName = "JSON" };
        _option.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: var text }, ..] && Problem(text) is { } problem)
            {
                result.AddError($"--template-kwargs is '{text}', expected a JSON object{problem}.");
            }
        });
        command.Add(_option);
    }

    /// <summary>The option.</summary>
    public Option Option => _option;

    /// <summary>The variables; null: none were given.</summary>
    public Dictionary<string, JsonElement>? Read(ParseResult parsed) => parsed.GetValue(_option) is { } json
        ? JsonElement.Parse(json).EnumerateObject().ToDictionary(member => member.Name, member => member.Value)
        : null;

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
