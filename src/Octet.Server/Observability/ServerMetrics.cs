using System.Diagnostics;
using System.Diagnostics.Metrics;
using Octet.Inference.Chat;
using Octet.Server.Hosting;

namespace Octet.Server.Observability;

/// <summary>What requests take, as .NET instruments (the meter and activity source "Octet.Server") and for the text that Prometheus reads.</summary>
internal sealed class ServerMetrics : IDisposable
{
    /// <summary>The name of the meter and of the activity source.</summary>
    public const string Name = "Octet.Server";

    /// <summary>How far back p50, p90 and p99 look.</summary>
    public static readonly TimeSpan Window = TimeSpan.FromMinutes(5);

    // vLLM's, so that dashboards fit; those of .NET's meters are the same.
    private static readonly double[] FirstTokenBounds =
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560];
    private static readonly double[] TokenBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
    private static readonly double[] RequestBounds = [0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];

    private readonly ActivitySource _activities = new(Name);
    private readonly Meter _meter = new(Name);
    private readonly Histogram<double> _firstToken;
    private readonly Histogram<double> _perToken;
    private readonly Histogram<double> _duration;
    private readonly Histogram<long> _tokens;
    private readonly ServedModel _served;
    private readonly long[] _finished = new long[Enum.GetValues<Outcome>().Length];
    private long _promptTokens;
    private long _completionTokens;

    public ServerMetrics(ServedModel served)
    {
        _served = served;
        _firstToken = Create("gen_ai.server.time_to_first_token", "Time from a request's arrival to its first token", FirstTokenBounds);
        _perToken = Create("gen_ai.server.time_per_output_token", "Time of a token behind the first, the mean of each request", TokenBounds);
        _duration = Create("gen_ai.server.request.duration", "Time from a request's arrival to its end", RequestBounds);
        _tokens = _meter.CreateHistogram<long>("gen_ai.client.token.usage", "{token}", "Tokens of prompts (input) and answers (output)");
    }

    /// <summary>How a request ended.</summary>
    public enum Outcome
    {
        /// <summary>It is complete.</summary>
        Stop,

        /// <summary>It has as many tokens as were asked for.</summary>
        Length,

        /// <summary>It was not answered to its end: its client is gone, it was cut off, or it failed.</summary>
        Abort,
    }

    /// <summary>From a request's arrival to its first token.</summary>
    public Histogram FirstToken { get; } = new(FirstTokenBounds, Window);

    /// <summary>Between two tokens of a text.</summary>
    public Histogram InterToken { get; } = new(TokenBounds, TimeSpan.Zero);

    /// <summary>The mean time of a token behind the first, of each request.</summary>
    public Histogram PerToken { get; } = new(TokenBounds, Window);

    /// <summary>From a request's arrival to its end.</summary>
    public Histogram Duration { get; } = new(RequestBounds, TimeSpan.Zero);

    /// <summary>From a request's arrival to its first step.</summary>
    public Histogram Queue { get; } = new(RequestBounds, TimeSpan.Zero);

    /// <summary>Tokens of all prompts.</summary>
    public long PromptTokens => Interlocked.Read(ref _promptTokens);

    /// <summary>Tokens of all answers.</summary>
    public long CompletionTokens => Interlocked.Read(ref _completionTokens);

    /// <summary>Requests that ended so.</summary>
    public long Finished(Outcome outcome) => Interlocked.Read(ref _finished[(int)outcome]);

    /// <summary>Begins a request, whose prompt is known.</summary>
    public RequestMetrics Begin(int promptTokens, HttpContext http)
    {
        var operation = http.Request.Path.Value?.EndsWith("/chat/completions", StringComparison.Ordinal) == true ? "chat" : "text_completion";
        var activity = _activities.StartActivity($"{operation} {_served.Name}", ActivityKind.Server);
        activity?.SetTag("gen_ai.operation.name", operation);
        activity?.SetTag("gen_ai.provider.name", "octet");
        activity?.SetTag("gen_ai.request.model", _served.Name);
        activity?.SetTag("gen_ai.usage.input_tokens", promptTokens);
        return new(this, activity, new("gen_ai.operation.name", operation), promptTokens);
    }

    /// <summary>A request has ended.</summary>
    internal void End(RequestMetrics request, Outcome outcome, KeyValuePair<string, object?> operation)
    {
        Interlocked.Increment(ref _finished[(int)outcome]);
        Interlocked.Add(ref _promptTokens, request.PromptTokens);
        Duration.Record(request.Elapsed.TotalSeconds);
        var model = new KeyValuePair<string, object?>("gen_ai.request.model", _served.Name);
        _duration.Record(request.Elapsed.TotalSeconds, operation, model);
        _tokens.Record(request.PromptTokens, operation, model, new("gen_ai.token.type", "input"));
        _tokens.Record(request.CompletionTokens, operation, model, new("gen_ai.token.type", "output"));
        if (request.TimePerToken is { } seconds)
        {
            PerToken.Record(seconds);
            _perToken.Record(seconds, operation, model);
        }
    }

    /// <summary>A request has its first token.</summary>
    internal void First(double seconds, double queued, KeyValuePair<string, object?> operation)
    {
        FirstToken.Record(seconds);
        Queue.Record(queued);
        _firstToken.Record(seconds, operation, new("gen_ai.request.model", _served.Name));
    }

    /// <summary>A text has one more token.</summary>
    internal void Token() => Interlocked.Increment(ref _completionTokens);

    public void Dispose()
    {
        _activities.Dispose();
        _meter.Dispose();
    }

    private Histogram<double> Create(string name, string description, double[] bounds) =>
        _meter.CreateHistogram(name, "s", description, advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = bounds });
}

/// <summary>One request while it is answered; used by one thread at a time.</summary>
internal sealed class RequestMetrics : IDisposable
{
    private readonly ServerMetrics _all;
    private readonly Activity? _activity;
    private readonly KeyValuePair<string, object?> _operation;
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _first;
    private long _last;
    private long[] _lastOf = [];
    private bool _wasCut;
    private bool _isComplete;

    internal RequestMetrics(ServerMetrics all, Activity? activity, KeyValuePair<string, object?> operation, int promptTokens)
    {
        (_all, _activity, _operation, PromptTokens) = (all, activity, operation, promptTokens);
    }

    public int PromptTokens { get; }

    public int CompletionTokens { get; private set; }

    public int CachedTokens { get; private set; }

    /// <summary>Since the request came.</summary>
    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    /// <summary>Seconds of a token behind the first; null where there are none.</summary>
    public double? TimePerToken => CompletionTokens > 1 ? Stopwatch.GetElapsedTime(_first, _last).TotalSeconds / (CompletionTokens - 1) : null;

    /// <summary>Counts a token; null: it was counted.</summary>
    public void Count(Inference.Engine.GeneratedToken? token, ChatFinishReason? reason)
    {
        _wasCut |= reason == ChatFinishReason.Length;
        if (token is not { } own)
        {
            return;
        }

        var now = Stopwatch.GetTimestamp();
        if (_first == 0)
        {
            _first = now;
            CachedTokens = own.CachedTokens;
            _all.First(Stopwatch.GetElapsedTime(_start, now).TotalSeconds, own.QueueTime.TotalSeconds, _operation);
            _activity?.AddEvent(new("first token"));
        }

        CountGap(own.Choice, now);
        _last = now;
        if (!own.IsEnd)
        {
            CompletionTokens++;
            _all.Token();
        }
    }

    /// <summary>The answer was sent.</summary>
    public void Complete() => _isComplete = true;

    public void Dispose()
    {
        var outcome = !_isComplete ? ServerMetrics.Outcome.Abort : _wasCut ? ServerMetrics.Outcome.Length : ServerMetrics.Outcome.Stop;
        _all.End(this, outcome, _operation);
        _activity?.SetTag("gen_ai.usage.output_tokens", CompletionTokens);
        _activity?.SetTag("gen_ai.usage.cache_read.input_tokens", CachedTokens);
        _activity?.SetTag("gen_ai.response.finish_reasons", outcome.ToString().ToLowerInvariant());
        _activity?.SetStatus(_isComplete ? ActivityStatusCode.Ok : ActivityStatusCode.Error);
        _activity?.Dispose();
    }

    private void CountGap(int choice, long now)
    {
        if (choice >= _lastOf.Length)
        {
            Array.Resize(ref _lastOf, choice + 1);
        }

        if (_lastOf[choice] != 0)
        {
            _all.InterToken.Record(Stopwatch.GetElapsedTime(_lastOf[choice], now).TotalSeconds);
        }

        _lastOf[choice] = now;
    }
}
