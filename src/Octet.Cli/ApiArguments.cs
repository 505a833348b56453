using System.CommandLine;
using Octet.Cli.Serving;

namespace Octet.Cli;

/// <summary>The options of commands that talk to a server of OpenAI's API.</summary>
internal sealed class ApiArguments
{
    private const string KeyVariable = "OPENAI_API_KEY";

    private readonly Option<string?> _baseUrl;
    private readonly Option<string?> _key = new("--api-key")
    {
        Description = $"What is shown to the server; default: {KeyVariable}. Others see it in the list of processes",
    };

    /// <param name="command">Gets the options.</param>
    /// <param name="description">What the server is for.</param>
    /// <param name="address">Where it is, unless told otherwise; null: there is none then.</param>
    public ApiArguments(Command command, string description, string? address)
    {
        _baseUrl = new("--base-url") { Description = description, HelpName = "URL", DefaultValueFactory = _ => address };
        command.Add(_baseUrl);
        command.Add(_key);
    }

    /// <summary>The server's address; null: none was given.</summary>
    public string? BaseUrl(ParseResult parsed) => parsed.GetValue(_baseUrl);

    /// <summary>A client of the server.</summary>
    public ApiClient Connect(ParseResult parsed) =>
        new(BaseUrl(parsed)!, parsed.GetValue(_key) ?? Environment.GetEnvironmentVariable(KeyVariable));
}
