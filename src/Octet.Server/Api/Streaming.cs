using Octet.Server.Observability;

namespace Octet.Server.Api;

/// <summary>An answer that can be sent in pieces.</summary>
/// <typeparam name="T">A piece, as the model gives it.</typeparam>
internal interface IStreamedAnswer<T>
{
    /// <summary>Writes what stands before the first piece.</summary>
    void WriteStart(EventStream events);

    /// <summary>Writes a piece, if it says anything, and counts it.</summary>
    void WriteChunk(EventStream events, in T piece, RequestMetrics request);

    /// <summary>Writes the last chunk, which has usage and no choices.</summary>
    void WriteUsage(EventStream events, RequestMetrics request);
}

/// <summary>Sends answers in pieces, as they come.</summary>
internal static class Streaming
{
    // Proxies cut connections on which nothing is said; the shortest of their limits that are usual is half a minute.
    private static readonly TimeSpan PingInterval = TimeSpan.FromSeconds(10);

    /// <summary>Sends an answer.</summary>
    /// <param name="call">The request.</param>
    /// <param name="answer">Writes the pieces.</param>
    /// <param name="pieces">Gives them; what is wrong before the first is a status of its own.</param>
    /// <param name="request">Counts them.</param>
    public static async Task SendAsync<T>(ApiCall call, IStreamedAnswer<T> answer, IAsyncEnumerable<T> pieces, RequestMetrics request)
    {
        var includesUsage = call.Body.Object("stream_options")?.Boolean("include_usage") ?? false;
        await using var events = new EventStream(call.Http.Response);
        await using var enumerator = pieces.GetAsyncEnumerator(CancellationToken.None);
        var next = await FirstAsync(enumerator.MoveNextAsync(), events);
        events.Start();
        answer.WriteStart(events);
        while (next)
        {
            answer.WriteChunk(events, enumerator.Current, request);

            // What is there already is sent together.
            var more = enumerator.MoveNextAsync();
            if (!more.IsCompleted)
            {
                await TryFlushAsync(events, call.Cancellation);
            }

            next = await more;
        }

        if (includesUsage)
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
