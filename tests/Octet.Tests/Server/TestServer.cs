using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Octet.Inference.Models;
using Octet.Server;
using Octet.Server.Hosting;

namespace Octet.Tests.Server;

/// <summary>An application that serves the small model on a free port of this machine.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    private readonly WebApplication _application;

    private TestServer(WebApplication application)
    {
        _application = application;
        var addresses = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
        Client = new HttpClient { BaseAddress = new Uri(addresses.First()), Timeout = TimeSpan.FromMinutes(2) };
    }

    /// <summary>Asks it.</summary>
    public HttpClient Client { get; }

    /// <summary>What is served.</summary>
    public ServedModel Served => _application.Services.GetRequiredService<ServedModel>();

    /// <summary>The model, once it is ready.</summary>
    public LanguageModel Model => Served.Model!;

    /// <summary>The application's services.</summary>
    public IServiceProvider Services => _application.Services;

    /// <summary>Lines of the log.</summary>
    public LogLines Log { get; private init; } = new();

    /// <summary>Starts one, and waits until it is ready, unless told otherwise; its log is kept from a level on.</summary>
    public static async Task<TestServer> StartAsync(Action<OctetServerOptions>? configure = null, bool waits = true, LogLevel least = LogLevel.Trace)
    {
        var builder = WebApplication.CreateSlimBuilder();
        var log = new LogLines();
        builder.Logging.ClearProviders().AddProvider(log).SetMinimumLevel(least);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        builder.Services.AddOctet(options =>
        {
            options.Model = TinyModel.Directory;
            options.Device = "cpu";
            options.DrainTimeout = TimeSpan.FromSeconds(5);
            configure?.Invoke(options);
        });
        var application = builder.Build();
        application.MapOctet();
        application.MapOctetOperations();
        application.MapOctetPage();
        await application.StartAsync();
        var server = new TestServer(application) { Log = log };
        while (waits && server.Served.State == ServingState.Loading)
        {
            await Task.Delay(5);
        }

        return server;
    }

    /// <summary>Sends a body as JSON.</summary>
    public Task<HttpResponseMessage> PostAsync(string path, string body, CancellationToken cancellation = default) =>
        Client.PostAsync(new Uri(path, UriKind.Relative), new StringContent(body, Encoding.UTF8, "application/json"), cancellation);

    /// <summary>Sends a body that is right, and returns the answer.</summary>
    public async Task<JsonElement> AskAsync(string path, string body)
    {
        using var response = await PostAsync(path, body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        return JsonElement.Parse(text);
    }

    /// <summary>Sends a body that is wrong, and returns its error.</summary>
    public async Task<JsonElement> RefusedAsync(string path, string body, HttpStatusCode status = HttpStatusCode.BadRequest)
    {
        using var response = await PostAsync(path, body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == status, $"{(int)response.StatusCode} for {body}: {text}");
        return JsonElement.Parse(text).GetProperty("error");
    }

    /// <summary>Sends a body that asks for a stream, and returns its events.</summary>
    public async Task<List<string>> StreamAsync(string path, string body)
    {
        using var response = await PostAsync(path, body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.MediaType);
        return [.. text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(item => Assert.IsType<string>(item)["data: ".Length..])];
    }

    /// <summary>Waits until nothing runs, waits, or holds blocks.</summary>
    public async Task IdleAsync()
    {
        for (var turn = 0; ; turn++)
        {
            if (Served.Open == 0 && Model.Loads.All(load => load is { Running: 0, Waiting: 0, UsedKvBlocks: 0 }))
            {
                return;
            }

            Assert.True(turn < 1000, $"{Served.Open} requests are open; {string.Join("; ", Model.Loads)}");
            await Task.Delay(5);
        }
    }

    /// <summary>Stops it as a signal would.</summary>
    public Task StopAsync() => _application.StopAsync();

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _application.DisposeAsync();
    }

    /// <summary>Keeps what is logged.</summary>
    public sealed class LogLines : ILoggerProvider, ILogger
    {
        private readonly Lock _lock = new();
        private readonly StringBuilder _text = new();

        public string Text
        {
            get
            {
                lock (_lock)
                {
                    return _text.ToString();
                }
            }
        }

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            lock (_lock)
            {
                _text.Append(logLevel).Append(' ').AppendLine(formatter(state, exception));
            }
        }

        public void Dispose()
        {
        }
    }
}
