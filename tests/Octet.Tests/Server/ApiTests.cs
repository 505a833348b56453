using System.Net;
using System.Text;
using System.Text.Json;

namespace Octet.Tests.Server;

/// <summary>One server for all tests of what clients ask.</summary>
public sealed class ApiServer : IAsyncLifetime
{
    internal TestServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Server = await TestServer.StartAsync(options => options.ServedModelName = "org/small");

    public ValueTask DisposeAsync() => Server.DisposeAsync();
}

/// <summary>What clients of OpenAI's API send, and get.</summary>
public sealed class ApiTests(ApiServer fixture) : IClassFixture<ApiServer>
{
    private const string Chat = "/v1/chat/completions";
    private const string Plain = "/v1/completions";
    private const string Hello = "\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]";

    private readonly TestServer _server = fixture.Server;

    public static TheoryData<string, string> BadChatFields => new()
    {
        { "\"messages\": []", "messages" },
        { "\"messages\": \"Hello\"", "messages" },
        { "\"messages\": [1]", "messages[0]" },
        { "\"messages\": [{\"content\": \"x\"}]", "messages[0].role" },
        { "\"messages\": [{\"role\": \"judge\", \"content\": \"x\"}]", "messages[0].role" },
        { "\"messages\": [{\"role\": \"user\"}]", "messages[0].content" },
        { "\"messages\": [{\"role\": \"user\", \"content\": 1}]", "messages[0].content" },
        { "\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"x\"}}]}]", "messages[0].content[0].type" },
        { "\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{}]}]", "messages[0].tool_calls[0].function" },
        { Hello + ", \"max_tokens\": 0", "max_tokens" },
        { Hello + ", \"max_tokens\": 1.5", "max_tokens" },
        { Hello + ", \"max_tokens\": \"9\"", "max_tokens" },
        { Hello + ", \"max_completion_tokens\": -1", "max_completion_tokens" },
        { Hello + ", \"temperature\": -1", "temperature" },
        { Hello + ", \"temperature\": 1e999", "temperature" },
        { Hello + ", \"top_p\": 0", "top_p" },
        { Hello + ", \"top_p\": 1.01", "top_p" },
        { Hello + ", \"top_k\": -2", "top_k" },
        { Hello + ", \"min_p\": 2", "min_p" },
        { Hello + ", \"n\": 0", "n" },
        { Hello + ", \"n\": 17", "n" },
        { Hello + ", \"stop\": 5", "stop" },
        { Hello + ", \"stop\": [\"\"]", "stop" },
        { Hello + ", \"stop\": [\"a\", 1]", "stop[1]" },
        { Hello + ", \"stop\": [" + string.Join(",", Enumerable.Repeat("\"a\"", 17)) + "]", "stop" },
        { Hello + ", \"stream\": \"yes\"", "stream" },
        { Hello + ", \"stream\": true, \"stream_options\": 1", "stream_options" },
        { Hello + ", \"stream\": true, \"stream_options\": {\"include_usage\": 1}", "stream_options.include_usage" },
        { Hello + ", \"seed\": \"a\"", "seed" },
        { Hello + ", \"seed\": 123456789012345678901234567890", "seed" },
        { Hello + ", \"logprobs\": 1", "logprobs" },
        { Hello + ", \"top_logprobs\": 2", "top_logprobs" },
        { Hello + ", \"logprobs\": true, \"top_logprobs\": 21", "top_logprobs" },
        { Hello + ", \"presence_penalty\": 3", "presence_penalty" },
        { Hello + ", \"frequency_penalty\": -3", "frequency_penalty" },
        { Hello + ", \"repetition_penalty\": 0", "repetition_penalty" },
        { Hello + ", \"logit_bias\": []", "logit_bias" },
        { Hello + ", \"logit_bias\": {\"x\": 1}", "logit_bias" },
        { Hello + ", \"logit_bias\": {\"99999\": 1}", "logit_bias" },
        { Hello + ", \"logit_bias\": {\"5\": 101}", "logit_bias.5" },
        { Hello + ", \"stop_token_ids\": [1, -1]", "stop_token_ids[1]" },
        { Hello + ", \"min_tokens\": 9, \"max_tokens\": 8", "min_tokens" },
        { Hello + ", \"ignore_eos\": 1", "ignore_eos" },
        { Hello + ", \"priority\": \"high\"", "priority" },
        { Hello + ", \"cache_salt\": 1", "cache_salt" },
        { Hello + ", \"response_format\": \"json\"", "response_format" },
        { Hello + ", \"response_format\": {}", "response_format.type" },
        { Hello + ", \"response_format\": {\"type\": \"xml\"}", "response_format.type" },
        { Hello + ", \"response_format\": {\"type\": \"json_schema\"}", "response_format.json_schema" },
        { Hello + ", \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"x\"}}", "response_format.json_schema.schema" },
        { Hello + ", \"tools\": {}", "tools" },
        { Hello + ", \"tools\": [{\"type\": \"web_search\"}]", "tools[0].type" },
        { Hello + ", \"tools\": [{\"type\": \"function\", \"function\": {}}]", "tools[0].function.name" },
        { Hello + ", \"tool_choice\": \"required\"", "tool_choice" },
        { Hello + ", \"tool_choice\": \"perhaps\"", "tool_choice" },
        { Hello + ", \"tools\": [{\"function\": {\"name\": \"f\"}}], \"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"g\"}}", "tool_choice.function.name" },
        { Hello + ", \"functions\": []", "functions" },
        { Hello + ", \"model\": 1", "model" },
    };

    public static TheoryData<string, string> BadPlainFields => new()
    {
        { "\"max_tokens\": 4", "prompt" },
        { "\"prompt\": \"\"", "prompt" },
        { "\"prompt\": []", "prompt" },
        { "\"prompt\": [\"a\", \"b\"]", "prompt" },
        { "\"prompt\": [1, 2, 1024]", "prompt[2]" },
        { "\"prompt\": [1, \"a\"]", "prompt[1]" },
        { "\"prompt\": {\"a\": 1}", "prompt" },
        { "\"prompt\": \"a\", \"echo\": true", "echo" },
        { "\"prompt\": \"a\", \"suffix\": \"b\"", "suffix" },
        { "\"prompt\": \"a\", \"best_of\": 3", "best_of" },
        { "\"prompt\": \"a\", \"logprobs\": 21", "logprobs" },
    };

    public static TheoryData<string> NoBodies => new() { "", " ", "{", "[]", "1", "\"a\"", "nul", "{\"a\": }", "{\"messages\": [}", new string('[', 200), "{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}", "{\"\\udc00\": 1}", "{\"a\":" + new string('{', 100) };

    [Theory]
    [MemberData(nameof(BadChatFields))]
    public async Task A_wrong_field_of_a_chat_is_named(string body, string field)
    {
        var error = await _server.RefusedAsync(Chat, $"{{{body}}}");
        Assert.Equal(field, error.GetProperty("param").GetString());
        Assert.Equal("invalid_request_error", error.GetProperty("type").GetString());
    }

    [Theory]
    [MemberData(nameof(BadPlainFields))]
    public async Task A_wrong_field_of_a_completion_is_named(string body, string field) =>
        Assert.Equal(field, (await _server.RefusedAsync(Plain, $"{{{body}}}")).GetProperty("param").GetString());

    [Theory]
    [MemberData(nameof(NoBodies))]
    public async Task What_is_no_JSON_object_is_refused(string body) => await _server.RefusedAsync(Chat, body);

    [Fact]
    public async Task A_body_that_is_no_UTF8_is_refused()
    {
        using var content = new ByteArrayContent([(byte)'{', (byte)'"', 0xFF, (byte)'"', (byte)':', (byte)'1', (byte)'}']);
        using var response = await _server.Client.PostAsync(new Uri(Chat, UriKind.Relative), content);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
    }

    [Fact]
    public async Task A_chat_has_the_form_that_clients_read()
    {
        var answer = await _server.AskAsync(Chat, $"{{{Hello}, \"max_tokens\": 6, \"temperature\": 0, \"unknown\": [1], \"user\": \"me\", \"top_p\": null}}");
        Assert.StartsWith("chatcmpl-", answer.GetProperty("id").GetString());
        Assert.Equal("chat.completion", answer.GetProperty("object").GetString());
        Assert.Equal("org/small", answer.GetProperty("model").GetString());
        Assert.InRange(answer.GetProperty("created").GetInt64(), DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 60, DateTimeOffset.UtcNow.ToUnixTimeSeconds());
        var choice = Assert.Single(answer.GetProperty("choices").EnumerateArray());
        Assert.Equal("length", choice.GetProperty("finish_reason").GetString());
        Assert.Equal(JsonValueKind.Null, choice.GetProperty("logprobs").ValueKind);
        var message = choice.GetProperty("message");
        Assert.Equal("assistant", message.GetProperty("role").GetString());
        Assert.Equal(JsonValueKind.Null, message.GetProperty("refusal").ValueKind);
        Assert.NotEmpty(message.GetProperty("content").GetString()!);
        var usage = answer.GetProperty("usage");
        Assert.Equal(6, usage.GetProperty("completion_tokens").GetInt32());
        Assert.Equal(usage.GetProperty("total_tokens").GetInt32(), usage.GetProperty("prompt_tokens").GetInt32() + 6);
    }

    [Fact]
    public async Task A_stream_has_the_text_of_the_whole_answer_and_ends_with_usage()
    {
        var body = $"{Hello}, \"max_tokens\": 24, \"temperature\": 0";
        var whole = await _server.AskAsync(Chat, $"{{{body}}}");
        var events = await _server.StreamAsync(Chat, $"{{{body}, \"stream\": true, \"stream_options\": {{\"include_usage\": true}}}}");
        Assert.Equal("[DONE]", events[^1]);
        var chunks = events[..^1].ConvertAll(text => JsonElement.Parse(text));
        Assert.All(chunks, chunk => Assert.Equal("chat.completion.chunk", chunk.GetProperty("object").GetString()));
        Assert.Single(chunks.Select(chunk => chunk.GetProperty("id").GetString()).Distinct());
        var first = chunks[0].GetProperty("choices")[0].GetProperty("delta");
        Assert.Equal(("assistant", ""), (first.GetProperty("role").GetString(), first.GetProperty("content").GetString()));
        Assert.Equal(0, chunks[^1].GetProperty("choices").GetArrayLength());
        Assert.Equal(whole.GetProperty("usage").GetProperty("completion_tokens").GetInt32(), chunks[^1].GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        var choices = chunks[..^1].ConvertAll(chunk => chunk.GetProperty("choices")[0]);
        Assert.All(choices[..^1], choice => Assert.Equal(JsonValueKind.Null, choice.GetProperty("finish_reason").ValueKind));
        Assert.Equal("length", choices[^1].GetProperty("finish_reason").GetString());
        Assert.Equal(
            whole.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString(),
            string.Concat(choices.Select(choice => choice.GetProperty("delta").TryGetProperty("content", out var text) ? text.GetString() : "")));
    }

    [Fact]
    public async Task Without_being_asked_a_stream_has_no_usage()
    {
        var events = await _server.StreamAsync(Plain, "{\"prompt\": \"ROMEO:\", \"max_tokens\": 3, \"stream\": true}");
        Assert.Equal("[DONE]", events[^1]);
        Assert.All(events[..^1], text => Assert.DoesNotContain("usage", text, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Choices_stops_seeds_and_limits_do_what_they_say()
    {
        var body = "\"prompt\": \"ROMEO:\\n\", \"max_tokens\": 12, \"temperature\": 1";
        var texts = (await _server.AskAsync(Plain, $"{{{body}, \"seed\": 7, \"n\": 3}}")).GetProperty("choices").EnumerateArray().ToList();
        Assert.Equal([0, 1, 2], texts.ConvertAll(choice => choice.GetProperty("index").GetInt32()));
        Assert.Equal(3, texts.ConvertAll(choice => choice.GetProperty("text").GetString()).Distinct().Count());

        // Choice i has the seed plus i, and the text it would have alone.
        var alone = await _server.AskAsync(Plain, $"{{{body}, \"seed\": 9}}");
        Assert.Equal(texts[2].GetProperty("text").GetString(), alone.GetProperty("choices")[0].GetProperty("text").GetString());

        var text = texts[0].GetProperty("text").GetString()!;
        var stop = text[3..6];
        var stopped = (await _server.AskAsync(Plain, $"{{{body}, \"seed\": 7, \"stop\": {JsonSerializer.Serialize(stop)}}}")).GetProperty("choices")[0];
        Assert.Equal("stop", stopped.GetProperty("finish_reason").GetString());
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)], stopped.GetProperty("text").GetString());

        var biased = await _server.AskAsync(Plain, $"{{{body}, \"logit_bias\": {{\"50\": 100}}}}");
        var fifty = _server.Model.Tokenizer.Decode([50]);
        Assert.Equal(string.Concat(Enumerable.Repeat(fifty, 12)), biased.GetProperty("choices")[0].GetProperty("text").GetString());
    }

    [Fact]
    public async Task Log_probabilities_are_of_each_token_in_its_place()
    {
        const string Body = "\"max_tokens\": 8, \"temperature\": 0";
        var whole = await _server.AskAsync(Chat, $"{{{Hello}, {Body}, \"logprobs\": true, \"top_logprobs\": 2}}");
        var entries = whole.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content").EnumerateArray().ToList();
        Assert.Equal(8, entries.Count);
        Assert.All(entries, entry => Assert.Equal(entry.GetProperty("token").GetString(), entry.GetProperty("top_logprobs")[0].GetProperty("token").GetString()));
        Assert.All(entries, entry => Assert.InRange(entry.GetProperty("logprob").GetDouble(), -100, 0));
        var bytes = entries.SelectMany(entry => entry.GetProperty("bytes").EnumerateArray().Select(b => (byte)b.GetInt32())).ToArray();
        Assert.Equal(whole.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString(), Encoding.UTF8.GetString(bytes));

        var plain = await _server.AskAsync(Plain, $"{{\"prompt\": \"ROMEO:\", {Body}, \"logprobs\": 2}}");
        var logprobs = plain.GetProperty("choices")[0].GetProperty("logprobs");
        var tokens = logprobs.GetProperty("tokens").EnumerateArray().Select(token => token.GetString()!).ToList();
        Assert.Equal(plain.GetProperty("choices")[0].GetProperty("text").GetString(), string.Concat(tokens));
        Assert.Equal(8, logprobs.GetProperty("token_logprobs").GetArrayLength());
        Assert.Equal(tokens[0].Length, logprobs.GetProperty("text_offset")[1].GetInt32());
        Assert.All(logprobs.GetProperty("top_logprobs").EnumerateArray(), top => Assert.Equal(2, top.EnumerateObject().Count()));
    }

    [Fact]
    public async Task A_context_that_is_too_short_says_so()
    {
        var words = string.Concat(Enumerable.Repeat("word ", 3000));
        foreach (var (path, body) in new[] { (Chat, $"{{\"messages\": [{{\"role\": \"user\", \"content\": \"{words}\"}}]}}"), (Plain, $"{{\"prompt\": \"{words}\"}}"), (Chat, $"{{{Hello}, \"max_tokens\": 2048}}"), (Plain, "{\"prompt\": \"a\", \"max_tokens\": 99999999999}") })
        {
            var error = await _server.RefusedAsync(path, body);
            Assert.Equal("context_length_exceeded", error.GetProperty("code").GetString());
            Assert.Contains("2048", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task What_is_rendered_is_what_the_model_gets_and_special_tokens_are_text()
    {
        var template = await _server.AskAsync("/v1/chat/completions/render", $"{{{Hello}}}");
        var ids = template.GetProperty("token_ids").EnumerateArray().Select(id => id.GetInt32()).ToArray();
        Assert.Equal(ids.Length, template.GetProperty("count").GetInt32());
        Assert.Equal("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", (await DetokenizeAsync(ids)).GetString());
        var usage = (await _server.AskAsync(Chat, $"{{{Hello}, \"max_tokens\": 1}}")).GetProperty("usage");
        Assert.Equal(ids.Length, usage.GetProperty("prompt_tokens").GetInt32());

        var spoof = await _server.AskAsync("/tokenize", "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im_end|>\"}]}");
        var end = _server.Model.Tokenizer.FindAddedToken("<|im_end|>")!.Value;
        Assert.Single(spoof.GetProperty("tokens").EnumerateArray(), id => id.GetInt32() == end);
        var plain = await _server.AskAsync("/v1/completions/render", "{\"prompt\": \"<|im_end|>\"}");
        Assert.DoesNotContain(plain.GetProperty("token_ids").EnumerateArray(), id => id.GetInt32() == end);
        Assert.Equal("<|im_end|>", (await DetokenizeAsync([.. plain.GetProperty("token_ids").EnumerateArray().Select(id => id.GetInt32())])).GetString());
    }

    [Fact]
    public async Task Messages_of_every_role_and_form_are_read()
    {
        var parts = await _server.AskAsync("/tokenize", """
            {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief"}]},
              {"role": "user", "content": "2+2?", "name": "ann"},
              {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 2}"}}]},
              {"role": "tool", "tool_call_id": "c1", "content": "4"}]}
            """);
        var text = (await DetokenizeAsync([.. parts.GetProperty("tokens").EnumerateArray().Select(id => id.GetInt32())])).GetString();
        Assert.StartsWith("<|im_start|>system\nBe\nbrief<|im_end|>\n<|im_start|>user\n2+2?", text);
        Assert.EndsWith("<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n", text);
    }

    [Fact]
    public async Task Models_have_their_name_and_the_context_that_is_there()
    {
        var list = JsonElement.Parse(await _server.Client.GetStringAsync(new Uri("/v1/models", UriKind.Relative)));
        var model = Assert.Single(list.GetProperty("data").EnumerateArray());
        Assert.Equal(("org/small", 2048), (model.GetProperty("id").GetString(), model.GetProperty("max_model_len").GetInt32()));
        var one = JsonElement.Parse(await _server.Client.GetStringAsync(new Uri("/v1/models/org/small", UriKind.Relative)));
        Assert.Equal("org/small", one.GetProperty("id").GetString());

        var error = await _server.RefusedAsync(Chat, $"{{{Hello}, \"model\": \"gpt-9\"}}", HttpStatusCode.NotFound);
        Assert.Equal("model_not_found", error.GetProperty("code").GetString());
        await _server.AskAsync(Chat, $"{{{Hello}, \"model\": \"org/small\", \"max_tokens\": 1}}");
    }

    [Theory]
    [InlineData("/v1/nothing", HttpStatusCode.NotFound)]
    [InlineData("/v1/models/other", HttpStatusCode.NotFound)]
    public async Task What_is_not_there_is_an_error_of_the_same_form(string path, HttpStatusCode status)
    {
        using var response = await _server.Client.GetAsync(new Uri(path, UriKind.Relative));
        Assert.Equal(status, response.StatusCode);
        Assert.NotEmpty(JsonElement.Parse(await response.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("message").GetString()!);
    }

    [Theory]
    [InlineData(Chat, false)]
    [InlineData(Chat, true)]
    [InlineData(Plain, false)]
    public async Task An_answer_of_a_schema_is_JSON_of_it_whatever_the_model_would_say(string path, bool streams)
    {
        const string Format = """
            "response_format": {"type": "json_schema", "json_schema": {"name": "who", "schema": {"type": "object", "properties":
              {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 1, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}}}
            """;
        var input = path == Chat ? Hello : "\"prompt\": \"ROMEO:\"";
        for (var seed = 0; seed < 4; seed++)
        {
            var body = $"{{{input}, {Format}, \"seed\": {seed}, \"temperature\": 1.5, \"max_tokens\": 120, \"stream\": {(streams ? "true" : "false")}}}";
            var text = streams
                ? string.Concat((await _server.StreamAsync(path, body))[..^1].Select(item =>
                    JsonElement.Parse(item).GetProperty("choices")[0].GetProperty("delta").TryGetProperty("content", out var piece) ? piece.GetString() : ""))
                : TextOf((await _server.AskAsync(path, body)).GetProperty("choices")[0]);
            var value = JsonElement.Parse(text);
            Assert.InRange(value.GetProperty("name").GetString()!.EnumerateRunes().Count(), 0, 8);
            Assert.InRange(value.GetProperty("age").GetInt32(), 1, 120);
            Assert.Equal(2, value.GetPropertyCount());
        }

        static string TextOf(JsonElement choice) => (choice.TryGetProperty("text", out var text) ? text : choice.GetProperty("message").GetProperty("content")).GetString()!;
    }

    [Fact]
    public async Task A_tool_that_must_be_called_is_called_with_what_its_schema_allows()
    {
        const string Tools = """
            "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"], "additionalProperties": false}}},
              {"type": "function", "function": {"name": "now"}}]
            """;
        var named = await _server.AskAsync(Chat, $"{{{Hello}, {Tools}, \"tool_choice\": {{\"type\": \"function\", \"function\": {{\"name\": \"add\"}}}}, \"parallel_tool_calls\": false, \"max_tokens\": 200}}");
        var choice = named.GetProperty("choices")[0];
        Assert.Equal("tool_calls", choice.GetProperty("finish_reason").GetString());
        Assert.Equal(JsonValueKind.Null, choice.GetProperty("message").GetProperty("content").ValueKind);
        var call = Assert.Single(choice.GetProperty("message").GetProperty("tool_calls").EnumerateArray());
        Assert.StartsWith("call_", call.GetProperty("id").GetString());
        Assert.Equal("add", call.GetProperty("function").GetProperty("name").GetString());
        Assert.InRange(JsonElement.Parse(call.GetProperty("function").GetProperty("arguments").GetString()!).GetProperty("a").GetInt32(), 0, 9);

        // Streamed: the first piece has id and name, the rest the arguments.
        var events = await _server.StreamAsync(Chat, $"{{{Hello}, {Tools}, \"tool_choice\": \"required\", \"parallel_tool_calls\": false, \"max_tokens\": 200, \"stream\": true}}");
        var choices = events[..^1].ConvertAll(item => JsonElement.Parse(item).GetProperty("choices")[0]);
        Assert.Equal("tool_calls", choices[^1].GetProperty("finish_reason").GetString());
        var pieces = choices.Where(c => c.GetProperty("delta").TryGetProperty("tool_calls", out _)).Select(c => c.GetProperty("delta").GetProperty("tool_calls")[0]).ToList();
        Assert.True(pieces[0].TryGetProperty("id", out _) && pieces[0].GetProperty("function").GetProperty("arguments").GetString() == "");
        Assert.All(pieces[1..], piece => Assert.False(piece.TryGetProperty("id", out _)));
        Assert.Equal(JsonValueKind.Object, JsonElement.Parse(string.Concat(pieces.Select(piece => piece.GetProperty("function").GetProperty("arguments").GetString()))).ValueKind);
    }

    [Fact]
    public async Task A_schema_that_is_not_supported_is_refused_by_its_path()
    {
        var error = await _server.RefusedAsync(Chat, $"{{{Hello}, \"response_format\": {{\"type\": \"json_schema\", \"json_schema\": {{\"schema\": {{\"type\": \"object\", \"properties\": {{\"a\": {{\"type\": \"integer\", \"multipleOf\": 3}}}}}}}}}}}}");
        Assert.Equal("response_format", error.GetProperty("param").GetString());
        Assert.Contains("$.properties.a.multipleOf", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        error = await _server.RefusedAsync(Chat, $"{{{Hello}, \"tools\": [{{\"function\": {{\"name\": \"f\", \"parameters\": {{\"type\": \"object\", \"patternProperties\": {{}}}}}}}}], \"tool_choice\": \"required\"}}");
        Assert.Equal("tools", error.GetProperty("param").GetString());
    }

    [Fact]
    public async Task A_prompt_asked_again_says_what_was_cached()
    {
        var prompt = string.Concat(Enumerable.Range(0, 60).Select(i => $"line {i}; "));
        await _server.AskAsync(Plain, $"{{\"prompt\": \"{prompt}\", \"max_tokens\": 1}}");
        var again = await _server.AskAsync(Plain, $"{{\"prompt\": \"{prompt}\", \"max_tokens\": 1}}");
        Assert.InRange(again.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32(), 64, 2048);
        var salted = await _server.AskAsync(Plain, $"{{\"prompt\": \"{prompt}\", \"max_tokens\": 1, \"cache_salt\": \"mine\"}}");
        Assert.Equal(0, salted.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());
    }

    [Fact]
    public async Task No_line_of_the_log_has_a_prompt_or_an_answer()
    {
        await _server.AskAsync(Chat, "{\"messages\": [{\"role\": \"user\", \"content\": \"xyzzy-plugh\"}], \"max_tokens\": 2}");
        await _server.RefusedAsync(Chat, "{\"messages\": [{\"role\": \"xyzzy-plugh\", \"content\": \"xyzzy-plugh\"}]}");
        Assert.DoesNotContain("xyzzy", _server.Log.Text, StringComparison.Ordinal);
    }

    private async Task<JsonElement> DetokenizeAsync(int[] ids) =>
        (await _server.AskAsync("/detokenize", $"{{\"tokens\": [{string.Join(",", ids)}]}}")).GetProperty("prompt");
}
