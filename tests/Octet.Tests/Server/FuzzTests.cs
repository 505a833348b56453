using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;

namespace Octet.Tests.Server;

/// <summary>Bodies that nobody should send. FUZZ_BODIES says how many; 5,000 without it.</summary>
public sealed class FuzzTests
{
    private const int Clients = 8;

    private static readonly (string Path, string Body)[] s_seeds =
    [
        ("/v1/chat/completions", """{"model": "tiny-shakespeare", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi \u00e9\ud83d\ude00"}]}], "max_tokens": 4, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.01, "n": 2, "stop": ["x", "yz"], "seed": 3, "logprobs": true, "top_logprobs": 3}"""),
        ("/v1/chat/completions", """{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "1"}], "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"]}}}], "tool_choice": "auto", "parallel_tool_calls": false, "max_completion_tokens": 4, "stream": true, "stream_options": {"include_usage": true}}"""),
        ("/v1/chat/completions", """{"messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"enum": [1, null, "é"]}}, "required": ["a"], "additionalProperties": false}}}, "max_tokens": 6}"""),
        ("/v1/completions", """{"prompt": [1, 2, 3], "max_tokens": 3, "logit_bias": {"5": 10, "6": -100}, "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1, "logprobs": 2, "stream": true}"""),
        ("/v1/completions", """{"prompt": "ROMEO:", "max_tokens": 3, "min_tokens": 1, "ignore_eos": true, "stop_token_ids": [7], "include_stop_str_in_output": true, "cache_salt": "s", "priority": 1, "best_of": 1, "echo": false, "suffix": ""}"""),
        ("/v1/chat/completions/render", """{"messages": [{"role": "user", "content": "Hi", "name": "n"}], "chat_template_kwargs": {"a": [1, {"b": null}]}, "add_generation_prompt": false}"""),
        ("/tokenize", """{"prompt": "a b <|im_end|>"}"""),
        ("/detokenize", """{"tokens": [1, 2, 1023]}"""),
    ];

    private static readonly string[] s_values =
        ["null", "true", "0", "-1", "1e308", "1e999", "99999999999999999999", "0.5", "\"\"", "\"x\"", "\"\\ud800\"", "\"\\udc00x\"", "[]", "{}", "[[]]", "[null]", "{\"\":1}", "{\"\\ud800\":1}"];

    [Fact]
    public async Task No_body_is_the_servers_fault()
    {
        var bodies = int.Parse(Environment.GetEnvironmentVariable("FUZZ_BODIES") ?? "5000", CultureInfo.InvariantCulture);
        await using var server = await TestServer.StartAsync(options => options.Run = options.Run with { MaxContext = 96 });
        var counts = new int[600];
        await Parallel.ForAsync(0, Clients, async (client, cancellation) =>
        {
            for (var i = client; i < bodies; i += Clients)
            {
                var (path, body) = Mutate(new Random(i));
                using var content = new ByteArrayContent(body);
                using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = content };
                using var response = await server.Client.SendAsync(request, cancellation).WaitAsync(TimeSpan.FromMinutes(1), cancellation);
                Interlocked.Increment(ref counts[(int)response.StatusCode]);
                Assert.True(
                    response.StatusCode is HttpStatusCode.OK or HttpStatusCode.BadRequest or HttpStatusCode.NotFound,
                    $"body {i}: {(int)response.StatusCode} {await response.Content.ReadAsStringAsync(cancellation)}\n{Encoding.UTF8.GetString(body)}");
            }
        });
        Assert.True(counts[200] > bodies / 100, $"{counts[200]} of {bodies} bodies are right");
        Assert.True(counts[400] > bodies / 4, $"{counts[400]} of {bodies} bodies are refused");
        await server.IdleAsync();
        Assert.DoesNotContain("Error", server.Log.Text, StringComparison.Ordinal);
    }

    private static (string Path, byte[] Body) Mutate(Random random)
    {
        var (path, seed) = s_seeds[random.Next(s_seeds.Length)];
        var body = random.Next(3) == 0 ? seed : Replace(random, seed);
        var bytes = Encoding.UTF8.GetBytes(body);
        return (path, random.Next(3) == 0 ? Damage(random, bytes) : bytes);
    }

    // Of one or several values, wherever they stand, something else.
    private static string Replace(Random random, string body)
    {
        for (var times = random.Next(1, 4); times > 0; times--)
        {
            var places = Places(body);
            if (places.Count == 0)
            {
                break;
            }

            var (start, end) = places[random.Next(places.Count)];
            body = string.Concat(body.AsSpan(0, start), s_values[random.Next(s_values.Length)], body.AsSpan(end));
        }

        return body;
    }

    // Where values begin and end, in bytes that are characters here.
    private static List<(int Start, int End)> Places(string body)
    {
        var places = new List<(int, int)>();
        var bytes = Encoding.Latin1.GetBytes(body.Replace('é', 'e'));
        var reader = new Utf8JsonReader(bytes);
        try
        {
            while (reader.Read())
            {
                var copy = reader;
                if (reader.TokenType is not (JsonTokenType.PropertyName or JsonTokenType.EndArray or JsonTokenType.EndObject) && copy.TrySkip())
                {
                    places.Add(((int)reader.TokenStartIndex, (int)copy.BytesConsumed));
                }
            }
        }
        catch (JsonException)
        {
            // It was replaced by what is no JSON; up to there it can be again.
        }

        return places;
    }

    private static byte[] Damage(Random random, byte[] bytes)
    {
        var damaged = bytes.ToList();
        for (var times = random.Next(1, 5); times > 0 && damaged.Count > 1; times--)
        {
            var at = random.Next(damaged.Count);
            switch (random.Next(5))
            {
                case 0:
                    damaged[at] = (byte)random.Next(256);
                    break;
                case 1:
                    damaged.RemoveAt(at);
                    break;
                case 2:
                    damaged.Insert(at, (byte)"{}[]\",:\\0\0\u00FF"[random.Next(11)]);
                    break;
                case 3:
                    damaged.RemoveRange(at, random.Next(damaged.Count - at));
                    break;
                default:
                    damaged.InsertRange(at, damaged.GetRange(at, random.Next(Math.Min(40, damaged.Count - at))));
                    break;
            }
        }

        return [.. damaged];
    }
}
