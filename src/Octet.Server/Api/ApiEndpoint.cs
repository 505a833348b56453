using System.Text.Json;
using System.Text.Unicode;
using Microsoft.Extensions.Options;
using Microsoft.AspNetCore.Http.Features;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Server.Hosting;
using Octet.Server.Security;

namespace Octet.Server.Api;

/// <summary>One request: what it asks for, the model that answers, and what ends it.</summary>
/// <param name="Http">The request and its response.</param>
/// <param name="Body">The fields of its body; of none for GET.</param>
/// <param name="Chat">The model.</param>
/// <param name="Cancellation">Cancelled when the client is gone, the time is up, or the server stops.</param>
internal sealed record ApiCall(HttpContext Http, Fields Body, ChatModel Chat, CancellationToken Cancellation);

/// <summary>
/// What all endpoints of the API do alike: key, rate, body, limits, and errors as OpenAI's API writes them. A client's fault is a 4xx and
/// never a 500; a request whose client is gone gets no reply.
/// </summary>
internal sealed partial class ApiEndpoint(
    ServedModel served, ApiKeys keys, RequestRates rates, IOptions<OctetServerOptions> options, ILogger<ApiEndpoint> log)
{
    private const int MaxDepth = 64;
    private static readonly TimeSpan CutDelay = TimeSpan.FromMilliseconds(200);

    /// <summary>An endpoint that needs the model, and has a JSON object as its body.</summary>
    public RequestDelegate Post(Func<ApiCall, Task> answer) => http => RunAsync(http, async () =>
    {
        using var limit = new RequestLimit(http, served, options.Value.RequestTimeout);
        try
        {
            using var body = await ReadBodyAsync(http, limit.Token);
            var chat = served.Enter();
            try
            {
                await answer(new ApiCall(http, new Fields(body.RootElement), chat, limit.Token));
            }
            finally
            {
                served.Leave();
            }
        }
        catch (OperationCanceledException) when (limit.Reason is { } reason)
        {
            throw reason;
        }
    });

    /// <summary>What the API has not.</summary>
    public Task NoneAsync(HttpContext http) => RunAsync(http, () => throw new ApiException(
        StatusCodes.Status404NotFound, $"there is no {http.Request.Method} {http.Request.Path}") { Code = "not_found" });

    /// <summary>An endpoint without a body.</summary>
    public RequestDelegate Get(Func<HttpContext, Task> answer) => http => RunAsync(http, () => answer(http));

    private async Task RunAsync(HttpContext http, Func<Task> answer)
    {
        try
        {
            rates.Check(keys.Check(http.Request), http.Connection);
            await answer();
        }
        catch (Exception error) when (http.RequestAborted.IsCancellationRequested)
        {
            // Nobody is there to be told.
            LogGone(http.Request.Path, error.GetType().Name);
        }
        catch (Exception error)
        {
            await FailAsync(http, Translate(error, http.Request.Path));
        }
    }

    // A response that has begun cannot become an error: a client that sees its end takes it for whole, so that the connection is cut.
    private static async Task FailAsync(HttpContext http, ApiException error)
    {
        if (http.Response.HasStarted)
        {
            if (http.Response.ContentType?.StartsWith("text/event-stream", StringComparison.Ordinal) == true)
            {
                await using var events = new EventStream(http.Response);
                JsonWriting.WriteError(events.Begin(), error);
                events.End();
                await events.FlushAsync(CancellationToken.None);

                // What is cut loses what is still on its way to the connection.
                await Task.Delay(CutDelay, CancellationToken.None);
            }

            http.Abort();
            return;
        }

        http.Response.Clear();
        http.Response.StatusCode = error.Status;
        if (error.RetryAfter is { } seconds)
        {
            http.Response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        }

        if (error.Status == StatusCodes.Status401Unauthorized)
        {
            http.Response.Headers.WWWAuthenticate = "Bearer";
        }

        await JsonWriting.WriteAsync(http.Response, json => JsonWriting.WriteError(json, error), CancellationToken.None);
    }

    private ApiException Translate(Exception error, PathString path)
    {
        switch (error)
        {
            case ApiException known:
                return known;
            case QueueFullException full:
                return ApiException.Unavailable(full.Message);
            case OctetException { IsTransient: true } transient:
                return ApiException.Unavailable(transient.Message);
            case ObjectDisposedException:
                return ApiException.Unavailable("the server is stopping; try another one");
            case BadHttpRequestException bad:
                return new(bad.StatusCode, bad.Message);
            case ModelFormatException or ArgumentException:
                // What the fields do not show: the template, or the model, refuses what was asked for.
                return new(StatusCodes.Status400BadRequest, error.Message);
            default:
                LogFailed(error, path);
                return new(StatusCodes.Status500InternalServerError, error is OctetException or NotFiniteNumberException
                    ? error.Message
                    : "the request failed for a reason that is in the server's log");
        }
    }

    private async Task<JsonDocument> ReadBodyAsync(HttpContext http, CancellationToken cancellation)
    {
        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = options.Value.MaxRequestBytes;
        }

        using var body = new MemoryStream();
        await http.Request.Body.CopyToAsync(body, cancellation);
        return Parse(body.GetBuffer().AsMemory(0, (int)body.Length));
    }

    private static JsonDocument Parse(ReadOnlyMemory<byte> body)
    {
        try
        {
            CheckTexts(body.Span);
            var document = JsonDocument.Parse(body, new() { MaxDepth = MaxDepth });
            if (document.RootElement.ValueKind == JsonValueKind.Object)
            {
                return document;
            }

            document.Dispose();
            throw new ApiException(StatusCodes.Status400BadRequest, "the body is JSON, but no object");
        }
        catch (JsonException error)
        {
            throw new ApiException(StatusCodes.Status400BadRequest, $"the body is not JSON: {error.Message}");
        }
    }

    // Whoever reads a text or a name later may take it for one.
    private static void CheckTexts(ReadOnlySpan<byte> body)
    {
        var reader = new Utf8JsonReader(body, new JsonReaderOptions { MaxDepth = MaxDepth });
        while (reader.Read())
        {
            if (reader.TokenType is not (JsonTokenType.String or JsonTokenType.PropertyName))
            {
                continue;
            }

            if (!IsText(reader))
            {
                throw new ApiException(
                    StatusCodes.Status400BadRequest, $"the body has half of a surrogate pair, or bytes that are no UTF-8, in the text at byte {reader.TokenStartIndex}");
            }
        }
    }

    private static bool IsText(in Utf8JsonReader text)
    {
        if (!text.ValueIsEscaped)
        {
            return Utf8.IsValid(text.ValueSpan);
        }

        try
        {
            return text.GetString() is not null;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    [LoggerMessage(LogLevel.Debug, "{Path}: the client is gone ({Error})")]
    private partial void LogGone(string path, string error);

    [LoggerMessage(LogLevel.Error, "{Path} failed")]
    private partial void LogFailed(Exception error, string path);

    /// <summary>What ends a request before its answer.</summary>
    private sealed class RequestLimit : IDisposable
    {
        private readonly CancellationTokenSource _time;
        private readonly CancellationTokenSource _any;
        private readonly ServedModel _served;
        private readonly TimeSpan? _timeout;

        public RequestLimit(HttpContext http, ServedModel served, TimeSpan? timeout)
        {
            (_served, _timeout) = (served, timeout);
            _time = timeout is { } limit ? new(limit) : new();
            _any = CancellationTokenSource.CreateLinkedTokenSource(http.RequestAborted, served.Cut, _time.Token);
        }

        public CancellationToken Token => _any.Token;

        /// <summary>What the client is told; null: none of the two, it is gone.</summary>
        public ApiException? Reason =>
            _time.IsCancellationRequested
                ? new(StatusCodes.Status504GatewayTimeout, $"the request took longer than {_timeout!.Value.TotalSeconds:0.###} s") { Code = "timeout" }
            : _served.Cut.IsCancellationRequested ? ApiException.Unavailable("the server is stopping; try another one")
            : null;

        public void Dispose()
        {
            _any.Dispose();
            _time.Dispose();
        }
    }
}
