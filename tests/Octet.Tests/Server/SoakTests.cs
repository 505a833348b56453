using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace Octet.Tests.Server;

/// <summary>Clients that behave badly, all at once, for long. SOAK_SECONDS says how long; 15 without it.</summary>
[Collection(nameof(Inference.Engine.AllocationTests))]
public sealed class SoakTests(ITestOutputHelper output)
{
    private const int Clients = 64;
    private const string Path = "/v1/completions";

    private readonly TimeSpan _time = TimeSpan.FromSeconds(int.Parse(Environment.GetEnvironmentVariable("SOAK_SECONDS") ?? "15", CultureInfo.InvariantCulture));
    private readonly Tally _tally = new();

    /// <summary>Room for a quarter of the clients, and a queue for half of the rest: preemptions and refusals are the normal case.</summary>
    [Fact]
    public async Task Nothing_is_lost_answered_twice_or_kept()
    {
        await using var server = await TestServer.StartAsync(options =>
        {
            options.Run = options.Run with { MaxSequences = 16, KvBlockSize = 16, KvCacheTokens = 320, MaxContext = 512 };
            options.MaxQueue = 24;
        }, least: LogLevel.Warning);
        server.Client.Timeout = Timeout.InfiniteTimeSpan;

        // What is made for the first requests stays.
        await RunAsync(server, TimeSpan.FromSeconds(Math.Min(5, _time.TotalSeconds / 3)));
        await server.IdleAsync();
        var (memory, warm) = (Memory(), _tally.Sent);
        await RunAsync(server, _time);
        await server.IdleAsync();
        var grown = (double)(Memory() - memory) / Environment.WorkingSet;
        output.WriteLine($"{_time.TotalSeconds} s, {Clients} clients: {_tally.Report()}; memory {grown:+0.0%;-0.0%}, {server.Model.Statistics.Preemptions} preemptions");

        Assert.True(_tally.Sent - warm >= Clients, $"{_tally.Sent - warm} requests");
        Assert.Empty(_tally.Faults);
        Assert.True(server.Model.Statistics.Preemptions > 0, "the KV cache was never short");
        Assert.True(_tally.Answered > 0 && _tally.Refused > 0 && _tally.Cut > 0 && _tally.Bad > 0, _tally.Report());
        Assert.True(grown < 0.05, $"{grown:p1} of memory is kept");
        Assert.DoesNotContain("Error", server.Log.Text, StringComparison.Ordinal);
    }

    private static long Memory()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        return GC.GetTotalMemory(forceFullCollection: true);
    }

    private async Task RunAsync(TestServer server, TimeSpan time)
    {
        var end = Stopwatch.GetTimestamp() + (long)(time.TotalSeconds * Stopwatch.Frequency);
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
        {
            var random = new Random(client);
            while (Stopwatch.GetTimestamp() < end)
            {
                await (random.Next(8) switch
                {
                    0 => CancelAsync(server, random),
                    1 => MalformedAsync(server, random),
                    2 => ReadSlowlyAsync(server, random),
                    3 => CutAsync(server, random),
                    _ => AnswerAsync(server, random),
                });
            }
        })));
    }

    private static string Body(Random random, bool streams) => JsonSerializer.Serialize(new Dictionary<string, object>
    {
        ["prompt"] = string.Concat(Enumerable.Range(0, random.Next(1, 30)).Select(i => $"word{random.Next(3)} ")),
        ["max_tokens"] = random.Next(1, 100),
        ["n"] = random.Next(6) == 0 ? 3 : 1,
        ["ignore_eos"] = true,
        ["stream"] = streams,
        ["stream_options"] = new Dictionary<string, bool> { ["include_usage"] = true },
    });

    // An answer is whole: as many tokens as were asked for, once.
    private async Task AnswerAsync(TestServer server, Random random)
    {
        var streams = random.Next(2) == 0;
        var body = Body(random, streams);
        var start = Stopwatch.GetTimestamp();
        using var response = await SendAsync(server, body, CancellationToken.None);
        var text = await response.Content.ReadAsStringAsync();
        if (response.StatusCode == HttpStatusCode.ServiceUnavailable)
        {
            _tally.Refuse(response.Headers.RetryAfter is not null);
            await Task.Delay(random.Next(20));
            return;
        }

        var asked = JsonElement.Parse(body);
        var expected = asked.GetProperty("max_tokens").GetInt32() * asked.GetProperty("n").GetInt32();
        var events = text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        var isWhole = response.StatusCode == HttpStatusCode.OK && (!streams || (events[^1] == "data: [DONE]" && events.Count(item => item == "data: [DONE]") == 1));
        var last = !isWhole ? default : JsonElement.Parse(streams ? events[^2]["data: ".Length..] : text);
        _tally.Answer(
            isWhole && last.GetProperty("usage").GetProperty("completion_tokens").GetInt32() == expected ? null : $"{(int)response.StatusCode} for {body}: {text}",
            Stopwatch.GetElapsedTime(start));
    }

    private async Task CancelAsync(TestServer server, Random random)
    {
        using var cancellation = new CancellationTokenSource(random.Next(1, 60));
        try
        {
            using var response = await SendAsync(server, Body(random, random.Next(2) == 0), cancellation.Token);
            await response.Content.ReadAsStringAsync(cancellation.Token);
        }
        catch (OperationCanceledException)
        {
        }

        _tally.CutOne();
    }

    private async Task MalformedAsync(TestServer server, Random random)
    {
        var body = Body(random, false);
        using var response = await SendAsync(server, body[..random.Next(body.Length)], CancellationToken.None);
        _tally.Refuse400(response.StatusCode);
    }

    private async Task ReadSlowlyAsync(TestServer server, Random random)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Path) { Content = new StringContent(Body(random, true)) };
        using var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        await using var stream = await response.Content.ReadAsStreamAsync();
        var buffer = new byte[512];
        while (await stream.ReadAsync(buffer) > 0)
        {
            await Task.Delay(random.Next(3));
        }

        _tally.CutOne();
    }

    // A connection that ends amid the request, or amid the answer.
    private async Task CutAsync(TestServer server, Random random)
    {
        using var client = new TcpClient { LingerState = new LingerOption(random.Next(2) == 0, 0) };
        await client.ConnectAsync(IPAddress.Loopback, server.Client.BaseAddress!.Port);
        var body = Body(random, true);
        var request = Encoding.UTF8.GetBytes($"POST {Path} HTTP/1.1\r\nHost: x\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        var isWhole = random.Next(2) == 0;
        await client.GetStream().WriteAsync(request.AsMemory(0, isWhole ? request.Length : random.Next(request.Length)));
        if (isWhole)
        {
            _ = await client.GetStream().ReadAtLeastAsync(new byte[random.Next(1, 2000)], 1, throwOnEndOfStream: false);
        }

        _tally.CutOne();
    }

    private Task<HttpResponseMessage> SendAsync(TestServer server, string body, CancellationToken cancellation)
    {
        _tally.SendOne();
        return server.PostAsync(Path, body, cancellation);
    }

    /// <summary>What came of all requests.</summary>
    private sealed class Tally
    {
        private readonly Lock _lock = new();
        private readonly List<double> _times = [];

        public List<string> Faults { get; } = [];

        public int Sent { get; private set; }

        public int Answered => _times.Count;

        public int Refused { get; private set; }

        public int Cut { get; private set; }

        public int Bad { get; private set; }

        public void SendOne() => Change(() => Sent++);

        public void CutOne() => Change(() => Cut++);

        public void Refuse(bool saysWhen) => Change(() =>
        {
            Refused++;
            Fault(saysWhen ? null : "a 503 without Retry-After");
        });

        public void Refuse400(HttpStatusCode status) => Change(() =>
        {
            Bad++;
            Fault(status == HttpStatusCode.BadRequest ? null : $"{(int)status} for half a body");
        });

        public void Answer(string? fault, TimeSpan time) => Change(() =>
        {
            _times.Add(time.TotalSeconds);
            Fault(fault);
        });

        public string Report()
        {
            lock (_lock)
            {
                _times.Sort();
                double Share(double share) => _times.Count == 0 ? double.NaN : _times[(int)(share * (_times.Count - 1))];
                return $"{Sent} sent, {Answered} answered, {Refused} refused with 503, {Bad} with 400, {Cut} cut or slow; "
                    + $"whole answers p50 {Share(0.5):0.00} s, p90 {Share(0.9):0.00} s, p99 {Share(0.99):0.00} s";
            }
        }

        private void Fault(string? fault)
        {
            if (fault is not null && Faults.Count < 5)
            {
                Faults.Add(fault);
            }
        }

        private void Change(Action change)
        {
            lock (_lock)
            {
                change();
            }
        }
    }
}
