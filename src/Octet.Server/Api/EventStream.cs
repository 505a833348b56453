using System.Buffers;
using System.IO.Pipelines;
using System.Text.Json;

namespace Octet.Server.Api;

/// <summary>Server-sent events, each a JSON value, straight into the connection's buffer.</summary>
internal sealed class EventStream : IAsyncDisposable
{
    private readonly HttpResponse _response;
    private readonly PipeWriter _pipe;
    private readonly Utf8JsonWriter _json;

    public EventStream(HttpResponse response)
    {
        _response = response;
        _pipe = response.BodyWriter;
        _json = new(_pipe, JsonWriting.Options);
    }

    /// <summary>Sets the head of the response, where it was not sent yet.</summary>
    public void Start()
    {
        if (_response.HasStarted)
        {
            return;
        }

        _response.ContentType = "text/event-stream; charset=utf-8";
        _response.Headers.CacheControl = "no-cache";

        // Proxies would collect the events.
        _response.Headers["X-Accel-Buffering"] = "no";
    }

    /// <summary>Begins an event; what is written to the result is its JSON.</summary>
    public Utf8JsonWriter Begin()
    {
        _pipe.Write("data: "u8);
        _json.Reset(_pipe);
        return _json;
    }

    /// <summary>Ends the event.</summary>
    public void End()
    {
        _json.Flush();
        _pipe.Write("\n\n"u8);
    }

    /// <summary>Says nothing, so that the connection is seen to be alive.</summary>
    public void Ping() => _pipe.Write(": ping\n\n"u8);

    /// <summary>Says that nothing more comes.</summary>
    public void Done() => _pipe.Write("data: [DONE]\n\n"u8);

    /// <summary>Sends what was written, and waits while the client is behind.</summary>
    public ValueTask<FlushResult> FlushAsync(CancellationToken cancellation) => _pipe.FlushAsync(cancellation);

    public ValueTask DisposeAsync() => _json.DisposeAsync();
}
