using System.Net.Http.Headers;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>A server of OpenAI's API, as its clients see it.</summary>
internal sealed class ApiClient : IDisposable
{
    private readonly HttpClient _http;
    private readonly string _root;

    /// <param name="baseUrl">Where it is; with or without <c>/v1</c>.</param>
    /// <param name="key">What is shown to it; null: nothing.</param>
    /// <exception cref="ArgumentException">The address is none.</exception>
    public ApiClient(string baseUrl, string? key)
    {
        _root = baseUrl.TrimEnd('/');
        _root = _root.EndsWith("/v1", StringComparison.Ordinal) ? _root[..^3] : _root;
        if (!Uri.TryCreate(_root, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
        {
            throw new ArgumentException($"--base-url is '{baseUrl}', expected an address such as http://127.0.0.1:8000");
        }

        // An answer takes as long as it takes, and an idle connection is worth keeping for the next request.
        var handler = new SocketsHttpHandler
        {
            UseCookies = false,
            AllowAutoRedirect = false,
            PooledConnectionIdleTimeout = TimeSpan.FromMinutes(5),
        };
        _http = new(handler) { Timeout = Timeout.InfiniteTimeSpan };
        if (key?.Trim() is { Length: > 0 } shown)
        {
            _http.DefaultRequestHeaders.Authorization = !shown.Any(char.IsControl)
                ? new AuthenticationHeaderValue("Bearer", shown)
                : throw new ArgumentException("the API key has control characters in it");
        }
    }

    /// <summary>The name of the first model it serves.</summary>
    /// <exception cref="ApiFailure">It serves none, or does not say.</exception>
    public async Task<string> FirstModelAsync(CancellationToken cancellation)
    {
        using var answer = await SendAsync(HttpMethod.Get, "/v1/models", default, cancellation);
        using var json = await ReadAsync(answer, cancellation);
        return json.RootElement.TryGetProperty("data", out var models)
            && models.ValueKind == JsonValueKind.Array && models.GetArrayLength() > 0
            && models[0].TryGetProperty("id", out var id) && id.ValueKind == JsonValueKind.String
                ? id.GetString()!
                : throw new ApiFailure($"{_root}/v1/models names no model: give --model");
    }

    /// <summary>The answer to one request that is no stream; null: there is no such endpoint.</summary>
    public async Task<JsonDocument?> TryPostAsync(string path, ReadOnlyMemory<byte> body, CancellationToken cancellation)
    {
        try
        {
            using var answer = await SendAsync(HttpMethod.Post, path, body, cancellation);
            return await ReadAsync(answer, cancellation);
        }
        catch (ApiFailure failure) when (failure.Status is 404 or 405)
        {
            return null;
        }
    }

    /// <summary>The chunks of a streamed answer as they come.</summary>
    /// <param name="path">/v1/completions or /v1/chat/completions.</param>
    /// <param name="body">The request, which asks for a stream.</param>
    /// <param name="cancellation">Cuts the connection.</param>
    /// <exception cref="ApiFailure">The server refuses, an error comes in mid-stream, or the end is missing.</exception>
    public async IAsyncEnumerable<ApiChunk> StreamAsync(
        string path, ReadOnlyMemory<byte> body, [EnumeratorCancellation] CancellationToken cancellation)
    {
        using var answer = await SendAsync(HttpMethod.Post, path, body, cancellation);
        await using var stream = await answer.Content.ReadAsStreamAsync(cancellation);
        var isWhole = false;
        await using var events = SseParser.Create(stream, static (_, data) => ApiChunk.Parse(data))
            .EnumerateAsync(cancellation).GetAsyncEnumerator(cancellation);
        while (await NextAsync(events))
        {
            var chunk = events.Current.Data;
            if (chunk.Error is { } error)
            {
                throw new ApiFailure($"in mid-stream: {error}");
            }

            isWhole |= chunk.IsDone;
            if (!chunk.IsDone)
            {
                yield return chunk;
            }
        }

        if (!isWhole)
        {
            throw new ApiFailure("the stream ended without [DONE]");
        }
    }

    public void Dispose() => _http.Dispose();

    private static async ValueTask<bool> NextAsync(IAsyncEnumerator<SseItem<ApiChunk>> events)
    {
        try
        {
            return await events.MoveNextAsync();
        }
        catch (Exception error) when (error is IOException or HttpRequestException)
        {
            throw new ApiFailure($"the connection was lost in mid-stream: {error.Message}");
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            throw new ApiFailure($"a chunk is not JSON: {error.Message}");
        }
    }

    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, ReadOnlyMemory<byte> body, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(method, _root + path);
        if (method == HttpMethod.Post)
        {
            request.Content = new ReadOnlyMemoryContent(body) { Headers = { ContentType = new("application/json") } };
        }

        HttpResponseMessage answer;
        try
        {
            answer = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation);
        }
        catch (HttpRequestException error)
        {
            throw new ApiFailure($"{_root} cannot be reached: {error.Message}");
        }

        if (answer.IsSuccessStatusCode)
        {
            return answer;
        }

        using (answer)
        {
            throw await RefusalAsync(answer, cancellation);
        }
    }

    private static async Task<ApiFailure> RefusalAsync(HttpResponseMessage answer, CancellationToken cancellation)
    {
        var (status, text) = ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(cancellation));
        var (message, code) = ApiChunk.ReadError(text);
        return new ApiFailure($"status {status}{(message.Length > 0 ? $": {message}" : "")}") { Status = status, Code = code };
    }

    private async Task<JsonDocument> ReadAsync(HttpResponseMessage answer, CancellationToken cancellation)
    {
        try
        {
            return await JsonDocument.ParseAsync(await answer.Content.ReadAsStreamAsync(cancellation), cancellationToken: cancellation);
        }
        catch (JsonException)
        {
            throw new ApiFailure($"what {_root} answers is no JSON: is it a server of OpenAI's API?");
        }
    }
}

/// <summary>A request that a server did not answer as it should; an <see cref="IOException"/>, as it is reported like one.</summary>
internal sealed class ApiFailure(string message) : IOException(message)
{
    /// <summary>The HTTP status; null: there was none, or it was 200.</summary>
    public int? Status { get; init; }

    /// <summary>The error's code, such as <c>context_length_exceeded</c>; null: it has none.</summary>
    public string? Code { get; init; }
}
