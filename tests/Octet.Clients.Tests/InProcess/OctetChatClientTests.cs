using System.Text.Json;
using Microsoft.Extensions.AI;
using Octet.Extensions.AI;
using Octet.Inference.Chat;
using Octet.Inference.Models;
using ChatFinishReason = Microsoft.Extensions.AI.ChatFinishReason;

namespace Octet.Clients.Tests.InProcess;

/// <summary>What a client of a model in this process answers.</summary>
public sealed class OctetChatClientTests(SmallModel small) : IClassFixture<SmallModel>
{
    private static readonly AIFunctionDeclaration s_function = AIFunctionFactory.CreateDeclaration("f", null, JsonElement.Parse("{}"));

    private static readonly ChatOptions s_short = new() { MaxOutputTokens = 8, Temperature = 0 };

    private readonly OctetChatClient _client = small.Client;

    [Fact]
    public async Task Answer_has_text_a_reason_usage_and_names()
    {
        var before = DateTimeOffset.UtcNow;
        var response = await _client.GetResponseAsync("Hello", s_short);
        var message = Assert.Single(response.Messages);
        Assert.Equal(ChatRole.Assistant, message.Role);
        Assert.NotEmpty(response.Text);
        Assert.Equal(ChatFinishReason.Length, response.FinishReason);
        Assert.Equal("small", response.ModelId);
        Assert.StartsWith("chatcmpl-", response.ResponseId);
        Assert.Equal(response.ResponseId, message.MessageId);
        Assert.InRange(response.CreatedAt!.Value, before, DateTimeOffset.UtcNow);
        Assert.Null(response.ConversationId);
        var prompt = small.Model.Tokenizer.Encode("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n").Length;
        Assert.Equal((prompt, 8, prompt + 8), (response.Usage!.InputTokenCount, response.Usage.OutputTokenCount, response.Usage.TotalTokenCount));
    }

    [Fact]
    public async Task Stream_has_the_text_of_the_whole_answer_and_usage_in_its_last_update()
    {
        var updates = await _client.GetStreamingResponseAsync("Hello", s_short).ToListAsync();
        Assert.Equal((await _client.GetResponseAsync("Hello", s_short)).Text, string.Concat(updates.Select(update => update.Text)));
        Assert.True(updates.Count > 2);
        Assert.Single(updates.Select(update => (update.ResponseId, update.MessageId, update.Role, update.ModelId, update.CreatedAt)).Distinct());
        Assert.All(updates.SkipLast(1), update => Assert.Null(update.FinishReason));
        Assert.All(updates.SkipLast(1), update => Assert.IsType<TextContent>(Assert.Single(update.Contents)));
        Assert.Equal(ChatFinishReason.Length, updates[^1].FinishReason);
        Assert.Equal(8, Assert.IsType<UsageContent>(updates[^1].Contents[^1]).Details.OutputTokenCount);
        Assert.All(updates, update => Assert.IsType<ChatUpdate>(update.RawRepresentation));
    }

    [Fact]
    public async Task Answer_that_ends_by_itself_or_by_a_stop_sequence_has_the_reason_stop()
    {
        var response = await _client.GetResponseAsync("Hello", new() { RawRepresentationFactory = _ => small.Says("Good day to you, sir.") });
        Assert.Equal(("Good day to you, sir.", ChatFinishReason.Stop), (response.Text, response.FinishReason));
        Assert.Equal(small.Model.Tokenizer.Encode(response.Text).Length, response.Usage!.OutputTokenCount);

        var stopped = await _client.GetResponseAsync(
            "Hello", new() { RawRepresentationFactory = _ => small.Says("Good day to you, sir."), StopSequences = [" to"] });
        Assert.Equal(("Good day", ChatFinishReason.Stop), (stopped.Text, stopped.FinishReason));
    }

    [Fact]
    public async Task Conversation_of_many_turns_hits_the_prefix_cache_with_all_that_was_said_before()
    {
        List<ChatMessage> history = [new(ChatRole.System, string.Concat(Enumerable.Range(0, 30).Select(i => $"Rule {i}: be kind. ")))];
        UsageDetails? last = null;
        for (var turn = 0; turn < 6; turn++)
        {
            history.Add(new(ChatRole.User, $"Turn {turn}: what is the news, and who brought it to the castle in the night?"));
            var response = await _client.GetResponseAsync(history, new() { MaxOutputTokens = 16, Temperature = 0 });
            history.AddMessages(response);
            if (last is not null)
            {
                // All whole blocks of the last prompt but the end of it, where the answer's first characters may change the last tokens.
                var blocks = (last.InputTokenCount!.Value - 8) / 64 * 64;
                Assert.InRange(response.Usage!.CachedInputTokenCount!.Value, blocks, response.Usage.InputTokenCount!.Value);
                Assert.True(blocks > 0);
            }

            last = response.Usage;
        }

        await small.IdleAsync();
    }

    [Fact]
    public async Task Function_that_the_model_calls_is_run_and_its_result_is_answered()
    {
        string[] texts =
        [
            "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"York\", \"days\": 2}}\n</tool_call>\n"
                + "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bath\"}}\n</tool_call>",
            "It is mild.",
        ];
        var asked = new List<string>();
        var weather = AIFunctionFactory.Create((string city, int days = 1) => { asked.Add($"{city} {days}"); return $"mild in {city}"; }, "weather");
        var turn = 0;
        using var client = small.Client.AsBuilder().UseFunctionInvocation().Build();
        var response = await client.GetResponseAsync(
            "How is the weather?", new() { Tools = [weather], RawRepresentationFactory = _ => small.Says(texts[turn++]) });
        Assert.Equal(["York 2", "Bath 1"], asked);
        Assert.Equal([ChatRole.Assistant, ChatRole.Tool, ChatRole.Assistant], response.Messages.Select(message => message.Role));
        Assert.Equal("It is mild.", response.Messages[^1].Text);
        var calls = response.Messages[0].Contents.OfType<FunctionCallContent>().ToList();
        Assert.Equal(2, calls.Select(call => call.CallId).Distinct().Count());
        Assert.Equal(calls.Select(call => call.CallId), response.Messages[1].Contents.Cast<FunctionResultContent>().Select(result => result.CallId));
        Assert.Equal("Let me see.", response.Messages[0].Text.Trim());
    }

    [Fact]
    public async Task Call_whose_arguments_are_no_JSON_has_an_exception_and_the_reason_tool_calls()
    {
        var response = await _client.GetResponseAsync("Hello", new()
        {
            Tools = [s_function],
            RawRepresentationFactory = _ => small.Says("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": }}\n</tool_call>"),
        });
        Assert.Equal(ChatFinishReason.ToolCalls, response.FinishReason);
        var call = Assert.IsType<FunctionCallContent>(Assert.Single(response.Messages[0].Contents));
        Assert.Equal("f", call.Name);
        Assert.NotNull(call.Exception);
    }

    [Fact]
    public async Task Tools_that_are_not_to_be_called_leave_the_marker_text()
    {
        const string Text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
        var response = await _client.GetResponseAsync("Hello", new()
        {
            Tools = [s_function],
            ToolMode = ChatToolMode.None,
            RawRepresentationFactory = _ => small.Says(Text),
        });
        Assert.Equal((Text, ChatFinishReason.Stop), (response.Text, response.FinishReason));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Structured_output_has_the_type_that_was_asked_for(long seed)
    {
        var options = new ChatOptions { MaxOutputTokens = 250, Temperature = 1, Seed = seed };
        var typed = await _client.GetResponseAsync<Weather>("How is the weather?", options);
        Assert.NotNull(typed.Result.Winds);

        options.ResponseFormat = ChatResponseFormat.ForJsonSchema(JsonElement.Parse(Weather.Schema));
        Weather.Check((await _client.GetResponseAsync("How is the weather?", options)).Text);

        options.ResponseFormat = ChatResponseFormat.Json;
        Assert.Equal(JsonValueKind.Object, JsonElement.Parse((await _client.GetResponseAsync("How is the weather?", options)).Text).ValueKind);
    }

    [Fact]
    public async Task Keyword_of_a_schema_that_is_not_supported_is_named()
    {
        var options = new ChatOptions { ResponseFormat = ChatResponseFormat.ForJsonSchema(JsonElement.Parse(Weather.Unsupported)) };
        var error = await Assert.ThrowsAnyAsync<ArgumentException>(() => _client.GetResponseAsync("Hello", options));
        Assert.Contains("$.properties.city.pattern", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Function_that_must_be_called_is_called_with_arguments_of_its_types()
    {
        var told = new List<string>();
        var tell = AIFunctionFactory.Create((Sky sky, long days) => { told.Add(Weather.Tell(sky, days)); return told[^1]; }, "tell");
        using var client = small.Client.AsBuilder().UseFunctionInvocation().Build();
        var options = new ChatOptions
        {
            Tools = [tell, s_function],
            ToolMode = ChatToolMode.RequireSpecific("tell"),
            AllowMultipleToolCalls = false,
            MaxOutputTokens = 200,
            Seed = 1,
        };
        var response = await client.GetResponseAsync("How is the weather?", options);
        Assert.Single(told);
        Assert.Equal([ChatRole.Assistant, ChatRole.Tool, ChatRole.Assistant], response.Messages.Select(message => message.Role));
        var call = Assert.IsType<FunctionCallContent>(Assert.Single(response.Messages[0].Contents));
        Assert.Equal(("tell", null), (call.Name, call.Exception));
    }

    [Fact]
    public async Task Cancelled_or_abandoned_stream_leaves_the_batch()
    {
        using var source = new CancellationTokenSource();
        var endless = new ChatOptions { AdditionalProperties = new() { ["ignore_eos"] = true } };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var _ in _client.GetStreamingResponseAsync("Hello", endless, source.Token))
            {
                await source.CancelAsync();
            }
        });
        await small.IdleAsync();

        await foreach (var _ in _client.GetStreamingResponseAsync("Hello", endless))
        {
            break;
        }

        await small.IdleAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _client.GetResponseAsync("Hello", endless, source.Token));
    }

    [Fact]
    public async Task Answers_at_once_are_those_of_each_alone()
    {
        var alone = new List<string>();
        for (var i = 0; i < 8; i++)
        {
            alone.Add((await _client.GetResponseAsync($"Hello {i}", s_short)).Text);
        }

        var together = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() => _client.GetResponseAsync($"Hello {i}", s_short))));
        Assert.Equal(alone, together.Select(response => response.Text));
    }

    [Fact]
    public async Task Options_and_messages_are_not_changed()
    {
        var options = new ChatOptions
        {
            Instructions = "Be brief.",
            MaxOutputTokens = 2,
            StopSequences = ["x"],
            AdditionalProperties = new() { ["min_p"] = 0.1, ["other"] = "value" },
            Tools = [s_function],
        };
        List<ChatMessage> messages = [new(ChatRole.User, "Hello")];
        var before = (Json(options), Json(messages));
        await _client.GetResponseAsync(messages, options);
        Assert.Equal(before, (Json(options), Json(messages)));
        Assert.Single(options.Tools);

        static string Json<T>(T value) => JsonSerializer.Serialize(value, AIJsonUtilities.DefaultOptions);
    }

    [Fact]
    public void Services_are_the_client_its_model_and_what_it_is()
    {
        var metadata = _client.GetRequiredService<ChatClientMetadata>();
        Assert.Equal(("octet", "small"), (metadata.ProviderName, metadata.DefaultModelId));
        Assert.Same(small.Model, _client.GetService<LanguageModel>());
        Assert.Same(small.Model, _client.GetService<ChatModel>()!.Model);
        Assert.Same(_client, _client.GetService<IChatClient>());
        Assert.Null(_client.GetService<string>());
        Assert.Null(_client.GetService(typeof(LanguageModel), "key"));
    }

    public static TheoryData<ChatOptions, string> Unsupported => new()
    {
        { new() { ConversationId = "c1" }, "ConversationId is 'c1'" },
        { new() { Tools = [new HostedWebSearchTool()] }, nameof(HostedWebSearchTool) },
        { new() { RawRepresentationFactory = _ => new Inference.Engine.GenerationOptions { Choices = 2 } }, "Choices is 2" },
    };

    [Theory]
    [MemberData(nameof(Unsupported))]
    public async Task What_is_not_supported_is_named(ChatOptions options, string named)
    {
        var error = await Assert.ThrowsAsync<NotSupportedException>(() => _client.GetResponseAsync("Hello", options));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<ChatOptions, string> Wrong => new()
    {
        { new() { ModelId = "large" }, "ModelId is 'large', but this client's model is 'small'" },
        { new() { MaxOutputTokens = 0 }, "MaxTokens" },
        { new() { TopP = 2 }, "TopP" },
        { new() { AdditionalProperties = new() { ["min_p"] = "a" } }, "'min_p' of \"a\", expected a number" },
        { new() { AdditionalProperties = new() { ["min_p"] = 7 } }, "MinP" },
        { new() { AdditionalProperties = new() { ["logit_bias"] = JsonElement.Parse("{\"a\": 1}") } }, "'logit_bias'" },
        { new() { AdditionalProperties = new() { ["stop_token_ids"] = 3 } }, "'stop_token_ids' of 3" },
        {
            new() { Tools = [s_function, s_function] },
            "two tools are called 'f'"
        },
        {
            new() { Tools = [s_function], ToolMode = ChatToolMode.RequireSpecific("g") },
            "'g' must be called"
        },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public async Task What_is_wrong_is_named(ChatOptions options, string named)
    {
        var error = await Assert.ThrowsAnyAsync<ArgumentException>(() => _client.GetResponseAsync("Hello", options));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Conversation_that_is_too_long_or_empty_is_refused()
    {
        var words = string.Concat(Enumerable.Repeat("word ", 3000));
        var error = await Assert.ThrowsAsync<ArgumentException>(() => _client.GetResponseAsync(words));
        Assert.Contains("context is 2048 tokens", error.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<ArgumentException>(() => _client.GetResponseAsync([]));
    }
}
