using System.Text;
using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>How long random prompts and their answers are, in tokens.</summary>
/// <param name="Input">Of a prompt, without the prefix.</param>
/// <param name="Output">Of an answer.</param>
/// <param name="Range">Lengths are uniform within this share of those, below and above; 0: all alike.</param>
/// <param name="Prefix">That all prompts begin with.</param>
internal sealed record RandomLengths(int Input, int Output, double Range, int Prefix)
{
    /// <summary>A length about a mean, at least 1.</summary>
    public static int Draw(int mean, double range, Random random) =>
        range == 0 ? mean : Math.Max(1, random.Next((int)Math.Floor(mean * (1 - range)), (int)Math.Ceiling(mean * (1 + range)) + 1));
}

/// <summary>
/// Prompts that mean nothing. Their tokens are drawn among those that the server's /tokenize makes of a text: plain completions get them
/// as token ids, so that lengths are exact; chat gets their text from /detokenize. Where the server has neither, they are words, of which
/// each counts for one token.
/// </summary>
internal sealed class RandomPrompts
{
    private const string Letters = "abcdefghijklmnopqrstuvwxyz";
    private const int SampleWords = 2000;

    private readonly ApiClient _client;
    private readonly LoadRequest _request;
    private readonly RandomLengths _lengths;
    private readonly Random _random;

    /// <param name="client">The server.</param>
    /// <param name="request">Which model and endpoint.</param>
    /// <param name="lengths">Of prompts and answers.</param>
    /// <param name="seed">The same seed gives the same prompts.</param>
    public RandomPrompts(ApiClient client, LoadRequest request, RandomLengths lengths, int seed) =>
        (_client, _request, _lengths, _random) = (client, request, lengths, new Random(seed));

    /// <summary>What they are made of, in words.</summary>
    public string Kind { get; private set; } = "";

    /// <summary>Makes so many.</summary>
    /// <param name="count">How many.</param>
    /// <param name="progress">Told of each.</param>
    /// <param name="cancellation">Ends the questions to the server.</param>
    public async Task<IReadOnlyList<LoadSession>> CreateAsync(int count, IProgress<int> progress, CancellationToken cancellation)
    {
        var pool = await PoolAsync(cancellation);
        var prefix = Draw(pool, _lengths.Prefix);
        var sessions = new List<LoadSession>();
        for (var i = 0; i < count; i++)
        {
            int[] ids = [.. prefix, .. Draw(pool, RandomLengths.Draw(_lengths.Input, _lengths.Range, _random))];
            var (text, sent) = await RenderAsync(pool, ids, cancellation);
            sessions.Add(new([new(text, sent)
            {
                MaxTokens = RandomLengths.Draw(_lengths.Output, _lengths.Range, _random),
                ExpectedTokens = ids.Length,
            }]));
            progress.Report(i + 1);
        }

        return sessions;
    }

    // The distinct tokens of many words; of a server that tells no tokens: null.
    private async Task<int[]?> PoolAsync(CancellationToken cancellation)
    {
        var words = string.Join(' ', Enumerable.Range(0, SampleWords).Select(_ => Word(_random.Next())));
        using var answer = await _client.TryPostAsync("/tokenize", Body("prompt", json => json.WriteStringValue(words)), cancellation);
        int[] pool = answer?.RootElement.TryGetProperty("tokens", out var tokens) == true && tokens.ValueKind == JsonValueKind.Array
            ? [.. tokens.EnumerateArray().Select(token => token.GetInt32()).Distinct().Order()]
            : [];
        var detokenizes = pool.Length > 0 && (!_request.IsChat || await DetokenizeAsync([pool[0]], cancellation) is not null);
        Kind = !detokenizes ? "words, each counted as one token, as the server has no /tokenize"
            : _request.IsChat ? "text of random tokens" : "random token ids";
        return detokenizes ? pool : null;
    }

    private int[] Draw(int[]? pool, int length)
    {
        var drawn = new int[length];
        for (var i = 0; i < length; i++)
        {
            drawn[i] = pool is null ? _random.Next() : pool[_random.Next(pool.Length)];
        }

        return drawn;
    }

    private async Task<(string? Text, int[]? Ids)> RenderAsync(int[]? pool, int[] ids, CancellationToken cancellation) =>
        pool is null ? (string.Join(' ', ids.Select(Word)), null)
        : !_request.IsChat ? (null, ids)
        : (await DetokenizeAsync(ids, cancellation), null);

    private async Task<string?> DetokenizeAsync(int[] ids, CancellationToken cancellation)
    {
        var body = Body("tokens", json =>
        {
            json.WriteStartArray();
            Array.ForEach(ids, json.WriteNumberValue);
            json.WriteEndArray();
        });
        using var answer = await _client.TryPostAsync("/detokenize", body, cancellation);
        return answer?.RootElement.TryGetProperty("prompt", out var prompt) == true ? prompt.GetString() : null;
    }

    private ReadOnlyMemory<byte> Body(string name, Action<Utf8JsonWriter> value) => LoadRequest.Write(json =>
    {
        json.WriteStartObject();
        json.WriteString("model", _request.Model);
        json.WriteBoolean("add_special_tokens", false);
        json.WritePropertyName(name);
        value(json);
        json.WriteEndObject();
    });

    // Three to six letters, the same for the same number.
    private static string Word(int number)
    {
        var word = new StringBuilder();
        for (var i = 0; i < 3 + number % 4; i++)
        {
            word.Append(Letters[(number >> (5 * i)) % Letters.Length]);
        }

        return word.ToString();
    }
}
