using System.Collections.Concurrent;
using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Octet.Tests.Cli.Serving;

/// <summary>A server of OpenAI's API that says what a test wants it to say.</summary>
internal sealed class ScriptedServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private int _underWay;

    private ScriptedServer(WebApplication app, Func<HttpContext, JsonElement, Task> answer)
    {
        _app = app;
        app.Run(async http =>
        {
            var body = http.Request.ContentLength > 0 ? (await JsonDocument.ParseAsync(http.Request.Body)).RootElement : default;
            Requests.Enqueue((http.Request.Path, body));
            var now = Interlocked.Increment(ref _underWay);
            lock (Requests)
            {
                MostUnderWay = Math.Max(MostUnderWay, now);
            }

            await answer(http, body);
            Interlocked.Decrement(ref _underWay);
        });
    }

    /// <summary>What was asked for.</summary>
    public ConcurrentQueue<(string Path, JsonElement Body)> Requests { get; } = new();

    /// <summary>The most requests that were answered at once.</summary>
    public int MostUnderWay { get; private set; }

    public string Address => _app.Urls.Single();

    public static async Task<ScriptedServer> StartAsync(Func<HttpContext, JsonElement, Task> answer)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        var server = new ScriptedServer(builder.Build(), answer);
        await server._app.StartAsync();
        return server;
    }

    /// <summary>A server that streams these events, each as it stands, with a pause before it.</summary>
    public static Task<ScriptedServer> StreamingAsync(params (int PauseMs, string Data)[] events) => StartAsync((http, _) => StreamAsync(http, events));

    public static async Task StreamAsync(HttpContext http, params (int PauseMs, string Data)[] events)
    {
        http.Response.ContentType = "text/event-stream";
        foreach (var (pause, data) in events)
        {
            await Task.Delay(pause);
            await http.Response.BodyWriter.WriteAsync(Encoding.UTF8.GetBytes($"data: {data}\n\n"));
        }
    }

    /// <summary>A chunk of chat.</summary>
    public static string Chunk(string text) => $$"""{"choices":[{"index":0,"delta":{"content":{{JsonSerializer.Serialize(text)}}},"finish_reason":null}]}""";

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();
}
