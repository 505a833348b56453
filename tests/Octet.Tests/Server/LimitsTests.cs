using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Octet.Server.Hosting;

namespace Octet.Tests.Server;

/// <summary>Keys, rates, queues, times, and the end of a server.</summary>
public sealed class LimitsTests
{
    private const string Plain = "/v1/completions";

    // Long enough to be still running when something else is done.
    private const string Long = "{\"prompt\": \"ROMEO:\", \"max_tokens\": 1800, \"ignore_eos\": true, \"stream\": true}";
    private const string Short = "{\"prompt\": \"ROMEO:\", \"max_tokens\": 2}";

    [Fact]
    public async Task Only_who_shows_a_key_is_served_and_no_key_is_logged()
    {
        var file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, "# keys\n\n  filed-key-1  \nfiled-key-2\n");
        await using var server = await TestServer.StartAsync(options =>
        {
            options.ApiKeys.Add("given-key");
            options.ApiKeyFile = file;
        });
        foreach (var (key, status) in new[]
        {
            ("given-key", HttpStatusCode.OK), ("filed-key-1", HttpStatusCode.OK), ("filed-key-2", HttpStatusCode.OK), ("# keys", HttpStatusCode.Unauthorized),
            ("other", HttpStatusCode.Unauthorized), ("given-ke", HttpStatusCode.Unauthorized), ("given-key2", HttpStatusCode.Unauthorized),
        })
        {
            server.Client.DefaultRequestHeaders.Authorization = new("Bearer", key);
            using var response = await server.PostAsync(Plain, Short);
            Assert.Equal(status, response.StatusCode);
        }

        server.Client.DefaultRequestHeaders.Authorization = null;
        var error = await server.RefusedAsync(Plain, Short, HttpStatusCode.Unauthorized);
        Assert.Equal("missing_api_key", error.GetProperty("code").GetString());
        server.Client.DefaultRequestHeaders.Authorization = new("Basic", "given-key");
        await server.RefusedAsync(Plain, Short, HttpStatusCode.Unauthorized);
        foreach (var (path, status) in new[]
        {
            ("/health", HttpStatusCode.OK), ("/ready", HttpStatusCode.OK), ("/metrics", HttpStatusCode.OK), ("/version", HttpStatusCode.OK), ("/", HttpStatusCode.OK),
            ("/v1/models", HttpStatusCode.Unauthorized),
        })
        {
            using var response = await server.Client.GetAsync(new Uri(path, UriKind.Relative));
            Assert.Equal(status, response.StatusCode);
        }

        Assert.DoesNotContain("-key", server.Log.Text, StringComparison.Ordinal);
        File.Delete(file);
    }

    [Fact]
    public async Task A_key_has_its_own_rate()
    {
        await using var server = await TestServer.StartAsync(options =>
        {
            options.ApiKeys.Add("a");
            options.ApiKeys.Add("b");
            options.RequestsPerMinute = 2;
        });
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", "a");
        await server.AskAsync(Plain, Short);
        await server.AskAsync(Plain, Short);
        using (var response = await server.PostAsync(Plain, Short))
        {
            Assert.Equal(HttpStatusCode.TooManyRequests, response.StatusCode);
            Assert.InRange(response.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
        }

        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", "b");
        await server.AskAsync(Plain, Short);
    }

    [Fact]
    public async Task One_more_than_may_wait_is_told_to_try_again()
    {
        await using var server = await TestServer.StartAsync(options => (options.Run, options.MaxQueue) = (options.Run with { MaxSequences = 1 }, 1));
        using var running = await StartStreamAsync(server, Long);
        using var cancellation = new CancellationTokenSource();
        var waiting = server.PostAsync(Plain, Short, cancellation.Token);
        await UntilAsync(() => server.Model.Loads[0].Waiting == 1);
        using (var response = await server.PostAsync(Plain, Short))
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
            Assert.True(response.Headers.RetryAfter!.Delta >= TimeSpan.FromSeconds(1));
        }

        // Who waits and goes away makes room.
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        await UntilAsync(() => server.Model.Loads[0].Waiting == 0);
    }

    [Fact]
    public async Task A_client_that_goes_away_stops_its_request()
    {
        await using var server = await TestServer.StartAsync();
        using (var running = await StartStreamAsync(server, Long.Replace("{", "{\"n\": 8, ", StringComparison.Ordinal)))
        {
            Assert.InRange(server.Model.Loads[0].Running, 1, 8);
        }

        // Of 8 x 1,800: a busy machine takes a while to see the connection's end.
        await server.IdleAsync();
        Assert.InRange(server.Model.Statistics.GeneratedTokens, 1, 12_000);

        using var cancellation = new CancellationTokenSource();
        var whole = server.PostAsync(Plain, Long.Replace("true}", "false}", StringComparison.Ordinal), cancellation.Token);
        await UntilAsync(() => server.Model.Loads[0].Running == 1);
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => whole);
        await server.IdleAsync();
        Assert.DoesNotContain("Error", server.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_request_that_takes_too_long_ends_with_504_or_with_an_error_in_its_stream()
    {
        await using var server = await TestServer.StartAsync(options => options.RequestTimeout = TimeSpan.FromMilliseconds(150));
        var error = await server.RefusedAsync(Plain, Long.Replace("true}", "false}", StringComparison.Ordinal), HttpStatusCode.GatewayTimeout);
        Assert.Equal("timeout", error.GetProperty("code").GetString());

        var text = await ReadToCutAsync(server, Long);
        Assert.Contains("data: {\"error\":{", text, StringComparison.Ordinal);
        Assert.DoesNotContain("[DONE]", text, StringComparison.Ordinal);
        await server.IdleAsync();
    }

    [Fact]
    public async Task A_body_beyond_the_limit_is_413()
    {
        await using var server = await TestServer.StartAsync(options => options.MaxRequestBytes = 1000);
        await server.RefusedAsync(Plain, $"{{\"prompt\": \"{new string('a', 2000)}\"}}", HttpStatusCode.RequestEntityTooLarge);
        await server.AskAsync(Plain, Short);
    }

    [Fact]
    public async Task A_server_that_stops_ends_what_runs_and_takes_nothing_more()
    {
        await using var server = await TestServer.StartAsync(options => options.DrainTimeout = TimeSpan.FromMinutes(1));
        using var running = await StartStreamAsync(server, Long);
        var stop = server.StopAsync();
        await UntilAsync(() => server.Served.State == ServingState.Draining);
        using (var ready = await server.Client.GetAsync(new Uri("/ready", UriKind.Relative)))
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        }

        await server.RefusedAsync(Plain, Short, HttpStatusCode.ServiceUnavailable);
        Assert.EndsWith("data: [DONE]\n\n", await running.Content.ReadAsStringAsync());
        await stop;
    }

    [Fact]
    public async Task What_does_not_end_in_time_is_cut()
    {
        await using var server = await TestServer.StartAsync(options => options.DrainTimeout = TimeSpan.FromMilliseconds(100));
        using var running = await StartStreamAsync(server, Long);
        var stop = server.StopAsync();
        var text = await ReadAsync(await running.Content.ReadAsStreamAsync());
        Assert.Contains("data: {\"error\":{", text, StringComparison.Ordinal);
        Assert.DoesNotContain("[DONE]", text, StringComparison.Ordinal);
        await stop;
    }

    [Fact]
    public async Task A_slow_reader_holds_nobody_up()
    {
        await using var server = await TestServer.StartAsync();
        using var slow = new TcpClient { ReceiveBufferSize = 1024 };
        await slow.ConnectAsync(IPAddress.Loopback, server.Client.BaseAddress!.Port);
        await slow.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"POST {Plain} HTTP/1.1\r\nHost: x\r\nContent-Length: {Long.Length}\r\n\r\n{Long}"));
        await UntilAsync(() => server.Model.Loads[0].Running == 1);
        for (var i = 0; i < 5; i++)
        {
            await server.AskAsync(Plain, Short);
        }

        slow.Close();
        await server.IdleAsync();
    }

    [Fact]
    public async Task A_server_that_is_disposed_of_while_it_loads_has_not_failed()
    {
        var server = await TestServer.StartAsync(waits: false);
        var served = server.Served;
        await server.DisposeAsync();
        Assert.True(served.State is ServingState.Draining or ServingState.Ready, $"{served.State}: {server.Log.Text}");
    }

    [Fact]
    public async Task Every_group_has_generated_a_text_when_the_server_is_ready()
    {
        await using var server = await TestServer.StartAsync(
            options => (options.Device, options.Run) = ("cpu*2", options.Run with { DataParallel = 2 }));
        await UntilAsync(() => server.Model.Statistics.Steps == 2 * 4);
    }

    [Fact]
    public async Task A_model_that_cannot_be_loaded_is_no_server()
    {
        await using var server = await TestServer.StartAsync(options => options.Model = Path.GetTempPath(), waits: false);
        await UntilAsync(() => server.Served.State == ServingState.Failed);
        Assert.NotNull(server.Served.Failure);
        Assert.Contains("could not be loaded", server.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Options_are_checked_when_the_application_starts()
    {
        foreach (var (configure, field) in new (Action<Octet.Server.OctetServerOptions>, string)[]
        {
            (options => options.Model = "", "Model"), (options => options.MaxQueue = -1, "MaxQueue"), (options => options.RequestsPerMinute = 0, "RequestsPerMinute"),
            (options => options.RequestTimeout = TimeSpan.Zero, "RequestTimeout"), (options => options.ApiKeys.Add("a b"), "ApiKeys"),
            (options => options.MaxRequestBytes = 0, "MaxRequestBytes"), (options => options.DrainTimeout = TimeSpan.FromSeconds(-1), "DrainTimeout"),
        })
        {
            var error = await Assert.ThrowsAsync<Microsoft.Extensions.Options.OptionsValidationException>(() => TestServer.StartAsync(configure));
            Assert.Contains(field, error.Message, StringComparison.Ordinal);
        }
    }

    // A stream whose first bytes are there.
    private static async Task<HttpResponseMessage> StartStreamAsync(TestServer server, string body)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Plain) { Content = new StringContent(body, Encoding.UTF8, MediaTypeHeaderValue.Parse("application/json")) };
        var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        return response;
    }

    private static async Task<string> ReadToCutAsync(TestServer server, string body)
    {
        using var response = await StartStreamAsync(server, body);
        return await ReadAsync(await response.Content.ReadAsStreamAsync());
    }

    // All that comes before the connection is cut.
    private static async Task<string> ReadAsync(Stream stream)
    {
        var (text, buffer) = (new StringBuilder(), new byte[4096]);
        var error = await Assert.ThrowsAnyAsync<Exception>(async () =>
        {
            for (int read; (read = await stream.ReadAsync(buffer)) > 0;)
            {
                text.Append(Encoding.UTF8.GetString(buffer, 0, read));
            }
        });
        Assert.True(error is IOException or HttpRequestException, $"{error}");
        return text.ToString();
    }

    private static async Task UntilAsync(Func<bool> isSo)
    {
        for (var turn = 0; !isSo(); turn++)
        {
            Assert.True(turn < 4000, "it never was so");
            await Task.Delay(5);
        }
    }
}
