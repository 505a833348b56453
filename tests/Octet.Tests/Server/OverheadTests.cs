using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Server.Hosting;

namespace Octet.Tests.Server;

/// <summary>
/// What the server adds to the model, both in one run and in turn. The bounds leave room for a busy machine; docs/serving.md has figures.
/// </summary>
[Collection(nameof(Inference.Engine.AllocationTests))]
public sealed class OverheadTests : IAsyncLifetime
{
    private const int Clients = 16;
    private const string Prompt = "\"prompt\":[1,2,3]";
    private static readonly int[] s_prompt = [1, 2, 3];

    private WebApplication _app = null!;
    private LanguageModel _model = null!;

    private IPEndPoint Address => new(IPAddress.Loopback, new Uri(_app.Urls.Single()).Port);

    public async ValueTask InitializeAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        builder.Services.AddOctet(octet => (octet.Model, octet.Device) = (TinyModel.Directory, "cpu"));
        _app = builder.Build();
        _app.MapOctet();
        await _app.StartAsync(TestContext.Current.CancellationToken);
        var served = _app.Services.GetRequiredService<ServedModel>();
        while (served.State == ServingState.Loading)
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        _model = served.Model!;
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();

    [Theory]
    [InlineData("/v1/completions", Prompt)]
    [InlineData("/v1/chat/completions", "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]")]
    public void A_token_allocates_less_than_it_writes(string path, string prompt)
    {
        using (var first = new RawStream(Address, path, prompt, 600))
        {
            first.ReadToEnd(); // compiles, and makes buffers as large as they become
        }

        using var stream = new RawStream(Address, path, prompt, 600);
        stream.ReadEvents(100);
        var (allocated, bytes) = (GC.GetTotalAllocatedBytes(precise: true), stream.Bytes);
        stream.ReadEvents(300);
        (allocated, bytes) = (GC.GetTotalAllocatedBytes(precise: true) - allocated, stream.Bytes - bytes);
        Report($"{path}: {allocated / 300.0:f1} bytes allocated and {bytes / 300.0:f1} written for a chunk, model and server");
        Assert.True(allocated < bytes, $"{allocated} bytes are allocated where {bytes} are written");
    }

    [Fact]
    public async Task Sixteen_clients_get_nearly_what_the_model_gives()
    {
        const int Tokens = 100;
        var rounds = new List<(Load Model, Load Server)>();
        for (var round = 0; round < 6; round++)
        {
            rounds.Add((await RunAsync(Tokens, () => GenerateAsync(Tokens)), await RunAsync(Tokens, () => ReadAsync(Tokens))));
        }

        // Of each the best: the first rounds compile, and others use the machine.
        var (alone, served) = (rounds.Max(round => round.Model.TokensPerSecond), rounds.Max(round => round.Server.TokensPerSecond));
        var (engine, own) = (rounds.Min(round => round.Model.EngineMicroseconds), rounds.Min(round => round.Model.OtherMicroseconds));
        var added = rounds.Min(round => round.Server.OtherMicroseconds);
        Report($"{Clients} clients: {served:f0} tokens/s by HTTP, {alone:f0} in process; processor time of a token: engine {engine:f1} us, "
            + $"besides {own:f1} us in process, {added:f1} us by HTTP");
        Assert.True(served > 0.6 * alone, $"{served} tokens/s by HTTP, {alone} in process");
        Assert.True(engine + own > 0.7 * (engine + added), $"engine {engine} us, besides {own} us in process and {added} us by HTTP");
    }

    [Fact]
    public async Task The_first_byte_comes_soon_after_the_first_token()
    {
        var (model, server) = (new List<double>(), new List<double>());
        for (var i = 0; i < 80; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await GenerateAsync(1);
            model.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            using var stream = new RawStream(Address, "/v1/completions", Prompt, 1);
            server.Add(stream.FirstByte().TotalMilliseconds);
        }

        var (alone, served) = (Median(model), Median(server));
        Report($"first byte: {served:f2} ms, of which the model takes {alone:f2} ms");
        Assert.True(served - alone < 10, $"{served} ms, of which the model takes {alone} ms");
    }

    private static void Report(string line) => TestContext.Current.TestOutputHelper!.WriteLine(line);

    // Without what the first runs compile.
    private static double Median(List<double> samples)
    {
        double[] sorted = [.. samples.Skip(samples.Count / 4).Order()];
        return sorted[sorted.Length / 2];
    }

    // All clients at once; away from the test's own synchronization context, which would cost more than what is measured.
    private static async Task<Load> RunAsync(int tokens, Func<Task> client)
    {
        var (before, start) = (ProcessorTime(), Stopwatch.GetTimestamp());
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(_ => Task.Run(client)));
        var (after, seconds, all) = (ProcessorTime(), Stopwatch.GetElapsedTime(start).TotalSeconds, (double)Clients * tokens);
        return new(all / seconds, (after.Engine - before.Engine) / all, (after.Other - before.Other) / all);
    }

    // Microseconds that the engine's threads and all others have run, but for those that have ended, as the clients' do. On a machine that
    // is not idle they say more than the clock.
    private static (double Engine, double Other) ProcessorTime()
    {
        var (engine, other) = (0.0, 0.0);
        foreach (var thread in Directory.GetDirectories("/proc/self/task"))
        {
            try
            {
                var microseconds = double.Parse(File.ReadAllText($"{thread}/schedstat").Split(' ')[0], CultureInfo.InvariantCulture) / 1e3;
                var isEngine = File.ReadAllText($"{thread}/comm").StartsWith("octet", StringComparison.OrdinalIgnoreCase);
                (engine, other) = isEngine ? (engine + microseconds, other) : (engine, other + microseconds);
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        return (engine, other);
    }

    private Task ReadAsync(int tokens) => Task.Factory.StartNew(
        () =>
        {
            using var stream = new RawStream(Address, "/v1/completions", Prompt, tokens);
            stream.ReadToEnd();
        },
        CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private async Task GenerateAsync(int tokens)
    {
        var options = new GenerationOptions { MaxTokens = tokens, IgnoreEndOfText = true, Temperature = 0 };
        await foreach (var _ in _model.GenerateAsync(s_prompt, options))
        {
        }
    }

    /// <summary>What one round gave: tokens per second, and processor time of a token.</summary>
    private sealed record Load(double TokensPerSecond, double EngineMicroseconds, double OtherMicroseconds);

    /// <summary>A request for a stream by a client that costs next to nothing, and allocates nothing while it reads.</summary>
    private sealed class RawStream : IDisposable
    {
        private readonly Socket _socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        private readonly byte[] _buffer = new byte[1 << 16];
        private readonly byte[] _request;

        public RawStream(IPEndPoint address, string path, string prompt, int tokens)
        {
            _socket.Connect(address);
            var body = $"{{{prompt},\"max_tokens\":{tokens},\"ignore_eos\":true,\"temperature\":0,\"stream\":true}}";
            _request = Encoding.ASCII.GetBytes(
                $"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                + $"Content-Length: {body.Length}\r\n\r\n{body}");
        }

        public long Bytes { get; private set; }

        public TimeSpan FirstByte()
        {
            var start = Stopwatch.GetTimestamp();
            Receive();
            return Stopwatch.GetElapsedTime(start);
        }

        public void ReadEvents(int count)
        {
            for (var events = 0; events < count; events += _buffer.AsSpan(0, Receive()).Count("data: "u8))
            {
            }
        }

        public void ReadToEnd()
        {
            while (Receive() > 0)
            {
            }
        }

        public void Dispose() => _socket.Dispose();

        private int Receive()
        {
            if (Bytes == 0)
            {
                _socket.Send(_request);
            }

            var received = _socket.Receive(_buffer);
            Bytes += received;
            return received;
        }
    }
}
