using System.CommandLine;
using Octet.Cli.Serving;

namespace Octet.Cli;

/// <summary>The options of commands that talk to a server of OpenAI's API.</summary>
internal sealed class ApiArguments
{
    private const string KeyVariable = "OPENAI_API_KEY";

    private readonly Option<string?> _baseUrl;
    private readonly Option<string?> _model;
    private readonly Option<string?> _key = new("--api-key") { Description = $"What is shown to the server; default: {KeyVariable}. Others see it in the list of processes" };

    /// <param name="command">Gets the options.</param>
    /// <param name="address">Where the server is, unless told otherwise.</param>
    /// <param name="model">What --model is, for the help text.</param>
    public ApiArguments(Command command, string address, string model)
    {
        _baseUrl = new("--base-url") { Description = "The server, with or without /v1", DefaultValueFactory = _ => address };
        _model = new("--model") { Description = model };
        foreach (var option in (Option[])[_baseUrl, _model, _key])
        {
            command.Add(option);
        }
    }

    /// <summary>The server's address.</summary>
    public string? BaseUrl(ParseResult parsed) => parsed.GetValue(_baseUrl);

    /// <summary>The model's name; null: none was given.</summary>
    public string? Model(ParseResult parsed) => parsed.GetValue(_model);

    /// <summary>A client of the server.</summary>
    public ApiClient Connect(ParseResult parsed) =>
        new(BaseUrl(parsed)!, parsed.GetValue(_key) ?? (Environment.GetEnvironmentVariable(KeyVariable) is { Length: > 0 } key ? key : null));
}
