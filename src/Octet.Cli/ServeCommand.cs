using System.CommandLine;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;
using Octet.Inference.Models;
using Octet.Server;
using Octet.Server.Hosting;
using Octet.Server.Security;

namespace Octet.Cli;

/// <summary>octet serve: OpenAI's API, metrics and a page for people, over one model.</summary>
internal sealed class ServeCommand
{
    private const string KeyVariable = "OCTET_API_KEY";

    private readonly Option<string> _host = new("--host") { Description = "The address to listen at; 0.0.0.0: all of this machine's", DefaultValueFactory = _ => "127.0.0.1" };
    private readonly Option<int> _port = NumberOption.Create("--port", "The port; 0: a free one", 8000, "a port from 0 to 65535", x => x is >= 0 and <= 65535);
    private readonly Option<string?> _name = new("--served-model-name") { Description = "What clients call the model; default: the name of its folder" };
    private readonly Option<FileInfo?> _keys = new("--api-key-file") { Description = $"A file with an API key in each line; {KeyVariable} may hold one, too" };
    private readonly Option<int?> _context = NumberOption.Create<int>("--max-model-len", "Longest prompt and answer together, in tokens; default: the model's", "a whole number from 1", x => x >= 1);
    private readonly Option<long?> _kvTokens = NumberOption.Create<long>("--kv-tokens", "Tokens the KV cache of each copy holds; default: what there is room for", "a whole number from 1", x => x >= 1);
    private readonly Option<int> _sequences = NumberOption.Create("--max-num-seqs", "Texts of each copy that run together", new LanguageModelOptions().MaxSequences, "a whole number from 1", x => x >= 1);
    private readonly Option<int> _budget = NumberOption.Create("--max-num-batched-tokens", "Most tokens of a step", new LanguageModelOptions().TokenBudget, "a whole number from 1", x => x >= 1);
    private readonly Option<int> _queue = NumberOption.Create("--max-queue", "Requests that may wait; one more gets 503", new OctetServerOptions().MaxQueue, "a whole number from 0", x => x >= 0);
    private readonly Option<int?> _rate = NumberOption.Create<int>("--requests-per-minute", "Most requests of a key, or of an address, in a minute; default: any number", "a whole number from 1", x => x >= 1);
    private readonly Option<double?> _timeout = NumberOption.Create<double>("--request-timeout", "Seconds a request may take; default: any time", "a positive number", x => x > 0);
    private readonly Option<double> _drain = NumberOption.Create("--drain-timeout", "Seconds running requests have to end when the server is asked to stop", 30.0, "a number from 0", x => x >= 0);
    private readonly Option<string> _format = new("--log-format") { Description = "text or json, on stderr", DefaultValueFactory = _ => "text" };
    private readonly Option<bool> _logPrompts = new("--log-prompts") { Description = "Write prompts and answers into the log" };
    private readonly ModelArguments _model;

    private ServeCommand(Command command)
    {
        _model = new(command);
        _format.AcceptOnlyFromAmong("text", "json");
        _host.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: var text }, ..] && text != "localhost" && !IPAddress.TryParse(text, out IPAddress? _))
            {
                result.AddError($"--host is '{text}', expected an IP address of this machine, or localhost.");
            }
        });
        foreach (var option in (Option[])[_host, _port, _name, _keys, _context, _kvTokens, _sequences, _budget, _queue, _rate, _timeout, _drain, _format, _logPrompts])
        {
            command.Add(option);
        }
    }

    public static Command Create()
    {
        var command = new Command("serve", "Serve a model: OpenAI's API, /health, /ready, /metrics and a page at /");
        var serve = new ServeCommand(command);
        command.SetAction((parsed, cancellation) => serve.RunAsync(parsed, cancellation));
        return command;
    }

    private async Task<int> RunAsync(ParseResult parsed, CancellationToken cancellation)
    {
        CommandLine.StopInOwnTime();
        var options = Apply(parsed, new());

        // What is wrong with the files shows before a port is opened.
        ModelConfig.Load(options.Model);
        if (options.ApiKeyFile is { } file)
        {
            ApiKeys.ReadFile(file);
        }

        await using var app = Build(parsed, options);
        app.MapOctet();
        app.MapOctetOperations();
        app.MapOctetPage();
        await app.StartAsync(cancellation);
        var addresses = string.Join(", ", app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses);
        CommandLine.Note($"octet serves {options.ModelName} at {addresses}");
        if (options.ApiKeys.Count == 0 && options.ApiKeyFile is null && !IsLoopback(parsed.GetValue(_host)!))
        {
            CommandLine.Complain($"everyone who reaches {addresses} can use it: give --api-key-file or {KeyVariable}");
        }

        await app.WaitForShutdownAsync(cancellation);
        return app.Services.GetRequiredService<ServedModel>().Failure is { } failure ? throw failure : CommandLine.Success;
    }

    private WebApplication Build(ParseResult parsed, OctetServerOptions options)
    {
        var builder = WebApplication.CreateSlimBuilder();

        // The command's own signals end it, and the second one at once.
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;

            // Endpoints of Kestrel's own configuration, TLS among them, take the place of --host and --port.
            if (!builder.Configuration.GetSection("Kestrel:Endpoints").Exists())
            {
                kestrel.Listen(AddressOf(parsed.GetValue(_host)!), parsed.GetValue(_port));
            }
        });
        builder.Logging.ClearProviders();
        builder.Logging.AddFilter("Microsoft", LogLevel.Warning);
        builder.Logging.AddConsole(console =>
        {
            console.LogToStandardErrorThreshold = LogLevel.Trace;
            console.FormatterName = parsed.GetValue(_format) == "json" ? ConsoleFormatterNames.Json : ConsoleFormatterNames.Simple;
        });
        builder.Logging.AddSimpleConsole(simple => (simple.SingleLine, simple.TimestampFormat, simple.UseUtcTimestamp) = (true, "yyyy-MM-ddTHH:mm:ss.fffZ ", true));
        builder.Services.AddOctet(octet => Apply(parsed, octet));
        return builder.Build();
    }

    private OctetServerOptions Apply(ParseResult parsed, OctetServerOptions options)
    {
        options.Model = _model.Directory(parsed);
        options.Device = _model.DeviceName(parsed);
        options.ServedModelName = parsed.GetValue(_name);
        options.Run = _model.Options(parsed) with
        {
            MaxContext = parsed.GetValue(_context),
            KvCacheTokens = parsed.GetValue(_kvTokens),
            MaxSequences = parsed.GetValue(_sequences),
            TokenBudget = parsed.GetValue(_budget),
        };
        options.MaxQueue = parsed.GetValue(_queue);
        options.RequestsPerMinute = parsed.GetValue(_rate);
        options.RequestTimeout = parsed.GetValue(_timeout) is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
        options.DrainTimeout = TimeSpan.FromSeconds(parsed.GetValue(_drain));
        options.LogPrompts = parsed.GetValue(_logPrompts);
        options.ApiKeyFile = parsed.GetValue(_keys)?.FullName;
        if (Environment.GetEnvironmentVariable(KeyVariable) is { Length: > 0 } key)
        {
            options.ApiKeys.Add(key);
        }

        return options;
    }

    private static IPAddress AddressOf(string host) => host == "localhost" ? IPAddress.Loopback : IPAddress.Parse(host);

    private static bool IsLoopback(string host) => IPAddress.IsLoopback(AddressOf(host));

    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
