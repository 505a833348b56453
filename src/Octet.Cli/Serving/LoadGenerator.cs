using System.Diagnostics;

namespace Octet.Cli.Serving;

/// <summary>When requests are sent.</summary>
/// <param name="RatePerSecond">Arrivals of a Poisson process; null: each as soon as it may.</param>
/// <param name="MaxConcurrency">Requests under way at once; null: any number.</param>
/// <param name="Seed">Of the arrivals.</param>
internal sealed record LoadPace(double? RatePerSecond, int? MaxConcurrency, int Seed);

/// <summary>Sends sessions to a server at a pace, and times the answers.</summary>
/// <param name="client">The server.</param>
/// <param name="requests">Writes the requests.</param>
internal sealed class LoadGenerator(ApiClient client, LoadRequest requests)
{
    /// <summary>Sends all sessions and waits for the last answer.</summary>
    /// <param name="sessions">Each is begun when its time has come and another may be under way.</param>
    /// <param name="pace">When that is.</param>
    /// <param name="progress">Told of every session that is over.</param>
    /// <param name="cancellation">Cuts all connections.</param>
    /// <returns>What became of the requests, in the order in which they were sent, and the seconds it took.</returns>
    public async Task<(IReadOnlyList<LoadRecord> Records, double Seconds)> RunAsync(
        IReadOnlyList<LoadSession> sessions, LoadPace pace, IProgress<int> progress, CancellationToken cancellation)
    {
        using var places = new SemaphoreSlim(pace.MaxConcurrency ?? sessions.Count);
        var random = new Random(pace.Seed);
        var records = new List<LoadRecord>();
        var (start, arrival, over) = (Stopwatch.GetTimestamp(), TimeSpan.Zero, 0);
        var running = new List<Task>();
        foreach (var session in sessions)
        {
            arrival += pace.RatePerSecond is { } rate ? TimeSpan.FromSeconds(-Math.Log(1 - random.NextDouble()) / rate) : TimeSpan.Zero;
            while (arrival - Stopwatch.GetElapsedTime(start) is var wait && wait > TimeSpan.Zero)
            {
                // A timer cuts the part of a millisecond off, and may come a little early.
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Ceiling(wait.TotalMilliseconds)), cancellation);
            }

            await places.WaitAsync(cancellation);
            running.Add(Task.Run(
                async () =>
                {
                    try
                    {
                        await RunAsync(session, start, records, cancellation);
                    }
                    finally
                    {
                        places.Release();
                    }

                    progress.Report(Interlocked.Increment(ref over));
                },
                cancellation));
        }

        await Task.WhenAll(running);
        return ([.. records.OrderBy(record => record.Start)], Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    /// <summary>Sends one session; a failed request ends it, as what follows would have no answer to stand behind.</summary>
    private async Task RunAsync(LoadSession session, long start, List<LoadRecord> records, CancellationToken cancellation)
    {
        var messages = new LoadMessages(session.Before);
        foreach (var turn in session.Turns)
        {
            var answer = new LoadAnswer(start, keepsText: session.Turns.Count > 1);
            var record = await SendAsync(turn, requests.Write(turn, messages), answer, cancellation);
            lock (records)
            {
                records.Add(record);
            }

            if (record.Error is not null)
            {
                return;
            }

            messages.AddAnswer(answer.Text);
        }
    }

    private async Task<LoadRecord> SendAsync(LoadTurn turn, ReadOnlyMemory<byte> body, LoadAnswer answer, CancellationToken cancellation)
    {
        answer.Begin();
        try
        {
            await foreach (var chunk in client.StreamAsync(requests.Path, body, cancellation))
            {
                answer.Add(chunk);
            }

            return answer.Record(turn);
        }
        catch (Exception failure) when (failure is IOException or HttpRequestException)
        {
            return answer.Record(turn) with { Error = failure.Message };
        }
    }

    /// <summary>One answer as it comes.</summary>
    private sealed class LoadAnswer(long runStart, bool keepsText)
    {
        private readonly List<double> _gaps = [];
        private readonly System.Text.StringBuilder _text = new();
        private long _start;
        private long _first;
        private long _lastText;
        private long _last;
        private int? _promptTokens;
        private int? _outputTokens;

        /// <summary>What the server said, where it is kept.</summary>
        public string Text => _text.ToString();

        public void Begin() => _start = _last = Stopwatch.GetTimestamp();

        public void Add(in ApiChunk chunk)
        {
            _promptTokens = chunk.PromptTokens ?? _promptTokens;
            _outputTokens = chunk.CompletionTokens ?? _outputTokens;
            if (!chunk.HasText && chunk.FinishReason is null)
            {
                return;
            }

            _last = Stopwatch.GetTimestamp();
            if (!chunk.HasText)
            {
                return;
            }

            if (_first == 0)
            {
                _first = _last;
            }
            else
            {
                _gaps.Add(Stopwatch.GetElapsedTime(_lastText, _last).TotalSeconds);
            }

            _lastText = _last;
            if (keepsText)
            {
                _text.Append(chunk.Text);
            }
        }

        // Servers that count no tokens send one with each chunk, as a rule.
        public LoadRecord Record(LoadTurn turn) => new()
        {
            Start = Stopwatch.GetElapsedTime(runStart, _start).TotalSeconds,
            FirstToken = _first == 0 ? 0 : Stopwatch.GetElapsedTime(_start, _first).TotalSeconds,
            Latency = Stopwatch.GetElapsedTime(_start, _last).TotalSeconds,
            Gaps = _gaps,
            PromptTokens = _promptTokens ?? turn.ExpectedTokens,
            OutputTokens = _outputTokens ?? (_first == 0 ? 0 : _gaps.Count + 1),
            Error = _first == 0 ? "the answer has no text" : null,
        };
    }
}
