using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Octet.Cli.Serving;

namespace Octet.Tests.Cli.Serving;

/// <summary>What the load generator sends, and what it makes of the answers.</summary>
public sealed class LoadGeneratorTests
{
    private const string Done = "[DONE]";

    [Fact]
    public void Chunks_of_both_endpoints_are_read()
    {
        var chat = ApiChunk.Parse("""{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"h\u00e9"},"logprobs":{"content":[]},"finish_reason":"stop"}],"usage":null}"""u8);
        Assert.Equal(("hé", true, "stop", null), (chat.Text, chat.HasText, chat.FinishReason, chat.CompletionTokens));
        var plain = ApiChunk.Parse("""{"choices":[{"text":"a","finish_reason":null}],"x":[{"choices":[{"text":"no"}]}]}"""u8);
        Assert.Equal(("a", true, null), (plain.Text, plain.HasText, plain.FinishReason));
        var usage = ApiChunk.Parse("""{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}"""u8);
        Assert.Equal((3, 4, 2, false), (usage.PromptTokens, usage.CompletionTokens, usage.CachedTokens, usage.HasText));
        var reasoning = ApiChunk.Parse("""{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}"""u8);
        Assert.Equal((null, true), (reasoning.Text, reasoning.HasText));
        Assert.False(ApiChunk.Parse("""{"choices":[{"delta":{"role":"assistant","content":""}}]}"""u8).HasText);
        Assert.Equal("boom", ApiChunk.Parse("""{"error":{"message":"boom","code":null}}"""u8).Error);
        Assert.True(ApiChunk.Parse("[DONE]"u8).IsDone);
        Assert.ThrowsAny<JsonException>(() => ApiChunk.Parse("[1]"u8));
    }

    [Fact]
    public async Task Times_are_of_chunks_with_text_and_tokens_are_the_servers()
    {
        await using var server = await ScriptedServer.StreamingAsync(
            (0, ScriptedServer.Chunk("")), (60, ScriptedServer.Chunk("a")), (30, ScriptedServer.Chunk("b")),
            (30, """{"choices":[{"delta":{},"finish_reason":"length"}]}"""), (0, """{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"""), (60, Done));
        var record = Assert.Single(await SendAsync(server, Texts(1)));
        Assert.Null(record.Error);
        Assert.Equal((7, 5), (record.PromptTokens, record.OutputTokens));
        Assert.InRange(record.FirstToken, 0.059, 5);
        Assert.InRange(Assert.Single(record.Gaps), 0.020, 5);
        Assert.InRange(record.Latency - record.FirstToken, 0.050, 5);
        Assert.Equal((record.Latency - record.FirstToken) / 4, record.PerToken!.Value, 9);
    }

    [Fact]
    public async Task Without_usage_each_chunk_with_text_is_a_token()
    {
        await using var server = await ScriptedServer.StreamingAsync((0, ScriptedServer.Chunk("a")), (0, ScriptedServer.Chunk("b")), (0, Done));
        var record = Assert.Single(await SendAsync(server, [new([new("hi") { MaxTokens = 2, ExpectedTokens = 9 }])]));
        Assert.Equal((9, 2), (record.PromptTokens, record.OutputTokens));
    }

    [Theory]
    [InlineData("the stream ended without [DONE]", """{"choices":[{"delta":{"content":"a"}}]}""")]
    [InlineData("in mid-stream: out of memory", """{"choices":[{"delta":{"content":"a"}}]}""", """{"error":{"message":"out of memory"}}""", Done)]
    [InlineData("a chunk is not JSON", "{", Done)]
    [InlineData("the answer has no text", """{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}""", Done)]
    public async Task What_does_not_end_as_it_should_has_failed(string reason, params string[] events)
    {
        await using var server = await ScriptedServer.StreamingAsync([.. events.Select(data => (0, data))]);
        Assert.StartsWith(reason, Assert.Single(await SendAsync(server, Texts(1))).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Refused_and_cut_requests_are_counted_with_their_reasons_and_others_go_on()
    {
        var number = 0;
        await using var server = await ScriptedServer.StartAsync(async (http, _) =>
        {
            switch (Interlocked.Increment(ref number))
            {
                case 1:
                    http.Response.StatusCode = 503;
                    await http.Response.WriteAsync("""{"error":{"message":"overloaded","type":"x","code":"busy"}}""");
                    break;
                case 2:
                    await ScriptedServer.StreamAsync(http, (0, ScriptedServer.Chunk("a")));
                    await Task.Delay(100); // what is on its way when a connection is cut is lost
                    http.Abort();
                    break;
                default:
                    await ScriptedServer.StreamAsync(http, (0, ScriptedServer.Chunk("a")), (0, Done));
                    break;
            }
        });
        var records = await SendAsync(server, Texts(4), new(null, 1, 0));
        Assert.Equal("status 503: overloaded", records[0].Error);
        Assert.StartsWith("the connection was lost in mid-stream", records[1].Error, StringComparison.Ordinal);
        var report = new LoadReport(LoadReportTests.Settings, records, 1);
        Assert.Equal((2, 2, 2), (report.Answered.Count, report.Failed, report.Reasons.Count));
    }

    [Fact]
    public async Task No_more_requests_are_under_way_than_allowed_and_as_many()
    {
        await using var server = await ScriptedServer.StreamingAsync((0, ScriptedServer.Chunk("a")), (20, Done));
        Assert.Equal(24, (await SendAsync(server, Texts(24), new(null, 4, 0))).Count(record => record.Error is null));
        Assert.Equal(4, server.MostUnderWay);
    }

    [Fact]
    public async Task The_key_is_shown_without_the_spaces_around_it()
    {
        string? shown = null;
        await using var server = await ScriptedServer.StartAsync((http, _) =>
        {
            shown = http.Request.Headers.Authorization;
            return http.Response.WriteAsync("{\"data\":[{\"id\":\"a/b\"}]}");
        });
        using var client = new ApiClient(server.Address, " secret\n");
        Assert.Equal("a/b", await client.FirstModelAsync(TestContext.Current.CancellationToken));
        Assert.Equal("Bearer secret", shown);
        Assert.Throws<ArgumentException>(() => new ApiClient(server.Address, "a\nb"));
    }

    [Fact]
    public async Task Arrivals_are_those_of_the_seed()
    {
        await using var server = await ScriptedServer.StreamingAsync((0, ScriptedServer.Chunk("a")), (0, Done));
        var records = await SendAsync(server, Texts(40), new(400, null, 5));
        var (random, arrival) = (new Random(5), 0.0);
        foreach (var record in records)
        {
            arrival += -Math.Log(1 - random.NextDouble()) / 400;
            Assert.True(record.Start >= arrival - 1e-6, $"{record.Start} {arrival}");
        }
    }

    [Fact]
    public async Task A_turn_is_sent_behind_the_answers_to_those_before()
    {
        await using var server = await ScriptedServer.StreamingAsync((0, ScriptedServer.Chunk("fine, ")), (0, ScriptedServer.Chunk("thanks")), (0, Done));
        var system = JsonElement.Parse("""{"role":"system","content":"be kind"}""");
        await SendAsync(server, [new([new("hello") { MaxTokens = 3 }, new("bye") { MaxTokens = 4 }]) { Before = [system] }]);
        var bodies = server.Requests.Select(request => request.Body).ToArray();
        Assert.Equal("""[{"role":"system","content":"be kind"},{"role":"user","content":"hello"}]""", bodies[0].GetProperty("messages").GetRawText());
        Assert.Equal(
            """[{"role":"system","content":"be kind"},{"role":"user","content":"hello"},{"role":"assistant","content":"fine, thanks"},{"role":"user","content":"bye"}]""",
            bodies[1].GetProperty("messages").GetRawText());
        Assert.Equal(4, bodies[1].GetProperty("max_completion_tokens").GetInt32());
        Assert.True(bodies[1].GetProperty("stream_options").GetProperty("include_usage").GetBoolean());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Random_prompts_are_those_of_the_seed_and_share_their_prefix(bool tokenizes)
    {
        await using var server = await ScriptedServer.StartAsync((http, _) =>
        {
            http.Response.StatusCode = tokenizes ? 200 : 404;
            return http.Response.WriteAsync(tokenizes ? $$"""{"tokens":[{{string.Join(',', Enumerable.Range(0, 500))}}]}""" : "");
        });
        var prompts = await CreateAsync(server, 1);
        string[] shown = [.. prompts.Select(Shown)];
        Assert.Equal(shown, (await CreateAsync(server, 1)).Select(Shown));
        Assert.NotEqual(shown, (await CreateAsync(server, 2)).Select(Shown));
        Assert.Equal(20, shown.Distinct().Count());
        Assert.All(prompts, session => Assert.InRange(session.Turns[0].MaxTokens, 5, 15));
        Assert.True(prompts.Select(session => session.Turns[0].MaxTokens).Distinct().Count() > 3);
        var lengths = prompts.Select(session => Shown(session).Split(' ').Length).ToArray();
        Assert.All(lengths, length => Assert.InRange(length, 8 + 10, 8 + 30));
        Assert.Equal(prompts.Select(session => session.Turns[0].ExpectedTokens), lengths);
        Assert.Single(shown.Select(prompt => string.Join(' ', prompt.Split(' ').Take(8))).Distinct());
        Assert.Equal(20, shown.Select(prompt => string.Join(' ', prompt.Split(' ').Skip(8))).Distinct().Count());
        Assert.Equal(tokenizes, prompts[0].Turns[0].Ids is not null);

        static string Shown(LoadSession session) => session.Turns[0].Text ?? string.Join(' ', session.Turns[0].Ids!);
    }

    [Fact]
    public void A_dataset_has_texts_tokens_chats_and_sessions()
    {
        var path = Path.GetTempFileName();
        File.WriteAllText(path, "\"hello\"\n\n{\"prompt\": \"hi\", \"max_tokens\": 5}\n");
        Assert.Equal([("hello", 9), ("hi", 5)], PromptDataset.Read(path, isChat: false, 9).Select(session => (session.Turns[0].Text, session.Turns[0].MaxTokens)));
        File.WriteAllText(path, "{\"prompt\": [1, 2, 3]}");
        Assert.Equal([1, 2, 3], PromptDataset.Read(path, isChat: false, 9)[0].Turns[0].Ids!);
        File.WriteAllText(path, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"output_tokens\": 2}\n{\"system\": \"s\", \"turns\": [\"a\", \"b\"]}");
        var sessions = PromptDataset.Read(path, isChat: true, 9);
        Assert.Equal((1, 2, null), (sessions[0].Before.Count, sessions[0].Turns[0].MaxTokens, sessions[0].Turns[0].Text));
        Assert.Equal((1, 2), (sessions[1].Before.Count, sessions[1].Turns.Count));
        File.Delete(path);
    }

    [Theory]
    [InlineData("line 2: turns need --endpoint chat", "\"a\"\n{\"turns\": [\"a\"]}")]
    [InlineData("line 1: messages need --endpoint chat", "{\"messages\": [{}]}")]
    [InlineData("line 1: has none of prompt, messages, turns", "{}")]
    [InlineData("line 1: prompt has what is no token id", "{\"prompt\": [\"a\"]}")]
    [InlineData("line 1: max_tokens is no whole number from 1", "{\"prompt\": \"a\", \"max_tokens\": 0}")]
    [InlineData("line 1: expected a string or an object", "3")]
    [InlineData("line 1: ", "{")]
    [InlineData("has no prompts", "\n")]
    public void A_line_that_is_none_of_these_is_refused_by_its_number(string problem, string text)
    {
        var path = Path.GetTempFileName();
        File.WriteAllText(path, text);
        var error = Assert.Throws<ArgumentException>(() => PromptDataset.Read(path, isChat: false, 9));
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
        File.Delete(path);
    }

    private static LoadSession[] Texts(int count) => [.. Enumerable.Range(0, count).Select(i => new LoadSession([new($"prompt {i}") { MaxTokens = 2 }]))];

    private static async Task<IReadOnlyList<LoadRecord>> SendAsync(ScriptedServer server, LoadSession[] sessions, LoadPace? pace = null)
    {
        using var client = new ApiClient(server.Address, null);
        var generator = new LoadGenerator(client, new LoadRequest("m", IsChat: true));
        var (records, _) = await generator.RunAsync(sessions, pace ?? new(null, null, 0), new Progress<int>(), TestContext.Current.CancellationToken);
        return records;
    }

    private static async Task<IReadOnlyList<LoadSession>> CreateAsync(ScriptedServer server, int seed)
    {
        using var client = new ApiClient(server.Address + "/v1/", "key");
        var prompts = new RandomPrompts(client, new LoadRequest("m", IsChat: false), new(20, 10, 0.5, 8), seed);
        return await prompts.CreateAsync(20, new Progress<int>(), TestContext.Current.CancellationToken);
    }
}
