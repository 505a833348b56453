using System.Text.Json;
using Octet.Server.Observability;

namespace Octet.Server.Api;

/// <summary>An answer as the model gives it piece by piece.</summary>
/// <typeparam name="T">A piece.</typeparam>
internal interface IAnswer<T>
{
    /// <summary>Counts a piece.</summary>
    void Count(in T piece, RequestMetrics request);

    /// <summary>Keeps a piece for the whole answer.</summary>
    void Add(in T piece);

    /// <summary>Writes the whole answer.</summary>
    void Write(Utf8JsonWriter json, RequestMetrics request);

    /// <summary>Writes what stands before the first piece.</summary>
    void WriteStart(EventStream events);

    /// <summary>Writes a piece, if it says anything.</summary>
    void WriteChunk(EventStream events, in T piece);

    /// <summary>Writes the last chunk, which has usage and no choices.</summary>
    void WriteUsage(EventStream events, RequestMetrics request);
}

/// <summary>How an answer is sent: whole, or in pieces as they come.</summary>
/// <param name="Streams">Whether in pieces.</param>
/// <param name="IncludesUsage">Whether the last piece has the usage.</param>
internal readonly record struct Delivery(bool Streams, bool IncludesUsage)
{
    // Proxies cut connections on which nothing is said; the shortest of their limits that are usual is half a minute.
    private static readonly TimeSpan PingInterval = TimeSpan.FromSeconds(10);

    /// <summary>Reads how it is asked for.</summary>
    public static Delivery Read(in Fields fields)
    {
        var streams = fields.Boolean("stream") ?? false;
        return new(streams, streams && (fields.Object("stream_options")?.Boolean("include_usage") ?? false));
    }

    /// <summary>Sends an answer.</summary>
    /// <param name="call">The request.</param>
    /// <param name="answer">Writes the pieces.</param>
    /// <param name="pieces">Gives them; what is wrong before the first is a status of its own.</param>
    /// <param name="request">Counts them.</param>
    public async Task SendAsync<T>(ApiCall call, IAnswer<T> answer, IAsyncEnumerable<T> pieces, RequestMetrics request)
    {
        await (Streams ? StreamAsync(call, answer, pieces, request) : CollectAsync(call, answer, pieces, request));
        request.Complete();
    }

    private static async Task CollectAsync<T>(ApiCall call, IAnswer<T> answer, IAsyncEnumerable<T> pieces, RequestMetrics request)
    {
        await foreach (var piece in pieces)
        {
            answer.Count(piece, request);
            answer.Add(piece);
        }

        await JsonWriting.WriteAsync(call.Http.Response, json => answer.Write(json, request), call.Cancellation);
    }

    private async Task StreamAsync<T>(ApiCall call, IAnswer<T> answer, IAsyncEnumerable<T> pieces, RequestMetrics request)
    {
        await using var events = new EventStream(call.Http.Response);
        await using var enumerator = pieces.GetAsyncEnumerator(CancellationToken.None);
        var next = await FirstAsync(enumerator.MoveNextAsync(), events);
        events.Start();
        answer.WriteStart(events);
        while (next)
        {
            answer.Count(enumerator.Current, request);
            answer.WriteChunk(events, enumerator.Current);

            // What is there already is sent together.
            var more = enumerator.MoveNextAsync();
            if (!more.IsCompleted)
            {
                await TryFlushAsync(events, call.Cancellation);
            }

            next = await more;
        }

        if (IncludesUsage)
        {
            answer.WriteUsage(events, request);
        }

        events.Done();
        await events.FlushAsync(call.Cancellation);
    }

    // What is cancelled, the model's next piece says: a piece that is on its way must be waited for.
    private static async ValueTask TryFlushAsync(EventStream events, CancellationToken cancellation)
    {
        try
        {
            await events.FlushAsync(cancellation);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
        }
    }

    private static async ValueTask<bool> FirstAsync(ValueTask<bool> first, EventStream events)
    {
        if (first.IsCompleted)
        {
            return await first;
        }

        var pending = first.AsTask();
        while (true)
        {
            try
            {
                return await pending.WaitAsync(PingInterval, CancellationToken.None);
            }
            catch (TimeoutException) when (!pending.IsCompleted)
            {
                events.Start();
                events.Ping();
                await TryFlushAsync(events, CancellationToken.None);
            }
        }
    }
}
