using System.Text.Json;
using Octet.Tests.Cli.Serving;

namespace Octet.Clients.Tests.Http;

/// <summary>
/// octet serve, started for the first test that needs it: one with room for all, and one that a single request makes busy. The tests of the
/// collection run one after the other, so that what a server does is what the test does.
/// </summary>
[CollectionDefinition(nameof(Servers))]
public sealed class ServersCollection : ICollectionFixture<Servers>;

/// <inheritdoc cref="ServersCollection"/>
public sealed class Servers : IAsyncDisposable
{
    public const string Key = "sesame";
    public const string Model = "org/small";

    /// <summary>The token that ends a text: without it an answer goes on until the context is full.</summary>
    public const int EndOfText = 1021;

    private readonly string _keys = Path.GetTempFileName();
    private readonly Lazy<Task<OctetServer>> _roomy;
    private readonly Lazy<Task<OctetServer>> _narrow;

    public Servers()
    {
        File.WriteAllText(_keys, Key);
        _roomy = new(() => StartAsync());
        _narrow = new(() => StartAsync("--max-num-seqs", "1", "--max-queue", "0"));
    }

    /// <summary>The base of the API of the one with room.</summary>
    public async Task<Uri> RoomyAsync() => Api(await _roomy.Value);

    /// <summary>The base of the API of the one that refuses a second request with 503.</summary>
    public async Task<Uri> NarrowAsync() => Api(await _narrow.Value);

    /// <summary>Waits until the server runs nothing and no KV block is held.</summary>
    public static async Task IdleAsync(Uri api)
    {
        using var client = new HttpClient();
        for (var turn = 0; ; turn++)
        {
            var status = await client.GetStringAsync(new Uri(api, "/status"));
            var groups = JsonElement.Parse(status).GetProperty("groups").EnumerateArray();
            if (groups.All(IsIdle))
            {
                return;
            }

            Assert.True(turn < 500, status);
            await Task.Delay(10);
        }

        static bool IsIdle(JsonElement group) =>
            ((string[])["running", "waiting", "used_kv_blocks"]).All(name => group.GetProperty(name).GetInt32() == 0);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var server in (Lazy<Task<OctetServer>>[])[_roomy, _narrow])
        {
            if (server.IsValueCreated)
            {
                await (await server.Value).DisposeAsync();
            }
        }

        File.Delete(_keys);
    }

    private Task<OctetServer> StartAsync(params string[] options) =>
        OctetServer.StartAsync(["--api-key-file", _keys, "--served-model-name", Model, .. options]);

    private static Uri Api(OctetServer server) => new($"{server.Address}/v1");
}
