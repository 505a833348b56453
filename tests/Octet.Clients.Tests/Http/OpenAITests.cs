using System.ClientModel;
using System.ClientModel.Primitives;
using System.Text.Json;
using OpenAI;
using OpenAI.Chat;

namespace Octet.Clients.Tests.Http;

/// <summary>The OpenAI package against octet serve.</summary>
[Collection(nameof(Servers))]
public sealed class OpenAITests(Servers servers)
{
    private static readonly ChatMessage[] s_hello = [new SystemChatMessage("Be kind."), new UserChatMessage("Hello")];

    /// <summary>A client that does not retry, unless told to.</summary>
    internal static ChatClient Client(Uri api, string key = Servers.Key, string model = Servers.Model, int retries = 0) =>
        new(model, new ApiKeyCredential(key), new OpenAIClientOptions { Endpoint = api, RetryPolicy = new ClientRetryPolicy(retries) });

    /// <summary>Options of an answer that goes on until someone stops it.</summary>
    internal static ChatCompletionOptions Endless() => new() { LogitBiases = { [Servers.EndOfText] = -100 } };

    [Fact]
    public async Task Chat_has_text_reason_usage_and_log_probabilities()
    {
        ChatCompletion answer = await Client(await servers.RoomyAsync()).CompleteChatAsync(
            s_hello, new() { MaxOutputTokenCount = 6, Temperature = 0, IncludeLogProbabilities = true, TopLogProbabilityCount = 2 });
        Assert.Equal((ChatFinishReason.Length, ChatMessageRole.Assistant, Servers.Model), (answer.FinishReason, answer.Role, answer.Model));
        Assert.NotEmpty(Assert.Single(answer.Content).Text);
        Assert.StartsWith("chatcmpl-", answer.Id);
        Assert.InRange(answer.CreatedAt, DateTimeOffset.UtcNow.AddMinutes(-1), DateTimeOffset.UtcNow.AddMinutes(1));
        Assert.Equal((6, answer.Usage.InputTokenCount + 6), (answer.Usage.OutputTokenCount, answer.Usage.TotalTokenCount));
        Assert.Equal(6, answer.ContentTokenLogProbabilities.Count);
        Assert.Equal(answer.Content[0].Text, string.Concat(answer.ContentTokenLogProbabilities.Select(token => token.Token)));
    }

    [Fact]
    public async Task Stream_has_the_text_of_the_whole_answer_and_usage()
    {
        var client = Client(await servers.RoomyAsync());
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 24, Temperature = 0 };
        ChatCompletion whole = await client.CompleteChatAsync(s_hello, options);
        var updates = await client.CompleteChatStreamingAsync(s_hello, options).ToListAsync();
        Assert.Equal(whole.Content[0].Text, string.Concat(updates.SelectMany(update => update.ContentUpdate).Select(part => part.Text)));
        Assert.Equal(ChatFinishReason.Length, Assert.Single(updates, update => update.FinishReason is not null).FinishReason);
        Assert.Equal((24, whole.Usage.InputTokenCount), (updates[^1].Usage.OutputTokenCount, updates[^1].Usage.InputTokenCount));
        Assert.Single(updates.Select(update => update.CompletionId).Distinct());
    }

    [Fact]
    public async Task Stop_sequence_ends_the_answer_before_it()
    {
        var client = Client(await servers.RoomyAsync());
        ChatCompletion whole = await client.CompleteChatAsync(s_hello, new() { MaxOutputTokenCount = 24, Temperature = 0 });
        var text = whole.Content[0].Text;
        var stop = text[8..11];
        ChatCompletion stopped = await client.CompleteChatAsync(
            s_hello, new() { MaxOutputTokenCount = 24, Temperature = 0, StopSequences = { stop } });
        Assert.Equal(ChatFinishReason.Stop, stopped.FinishReason);
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)], stopped.Content[0].Text);
    }

    [Fact]
    public async Task Next_turn_of_a_conversation_says_what_was_cached()
    {
        var client = Client(await servers.RoomyAsync());
        List<ChatMessage> history = [new UserChatMessage(string.Concat(Enumerable.Range(0, 60).Select(i => $"line {i} of OpenAI; ")))];
        ChatCompletion first = await client.CompleteChatAsync(history, new() { MaxOutputTokenCount = 4 });
        history.AddRange([new AssistantChatMessage(first), new UserChatMessage("Go on.")]);
        ChatCompletion second = await client.CompleteChatAsync(history, new() { MaxOutputTokenCount = 4 });
        var cached = second.Usage.InputTokenDetails.CachedTokenCount;
        Assert.InRange(cached, (first.Usage.InputTokenCount - 8) / 64 * 64, second.Usage.InputTokenCount);
        Assert.True(cached > 0);
    }

    [Fact]
    public async Task Calls_and_results_of_tools_are_taken_as_history()
    {
        var call = ChatToolCall.CreateFunctionToolCall("c1", "weather", BinaryData.FromString("{\"city\": \"York\"}"));
        ChatCompletion answer = await Client(await servers.RoomyAsync()).CompleteChatAsync(
            [new UserChatMessage("How is it?"), new AssistantChatMessage([call]), new ToolChatMessage("c1", "mild")],
            new() { MaxOutputTokenCount = 4, Tools = { ChatTool.CreateFunctionTool("weather") }, ToolChoice = ChatToolChoice.CreateAutoChoice() });
        Assert.Equal(ChatFinishReason.Length, answer.FinishReason);
    }

    [Fact]
    public async Task Function_that_must_be_called_is_called_whether_streamed_or_not()
    {
        var client = Client(await servers.RoomyAsync());
        var options = new ChatCompletionOptions
        {
            MaxOutputTokenCount = 200,
            Temperature = 0,
            Tools = { ChatTool.CreateFunctionTool("tell", null, BinaryData.FromString(Weather.Schema)), ChatTool.CreateFunctionTool("other") },
            ToolChoice = ChatToolChoice.CreateFunctionChoice("tell"),
            AllowParallelToolCalls = false,
        };
        ChatCompletion whole = await client.CompleteChatAsync(s_hello, options);
        Assert.Equal(ChatFinishReason.ToolCalls, whole.FinishReason);
        Assert.Empty(whole.Content);
        var call = Assert.Single(whole.ToolCalls);
        Assert.Equal("tell", call.FunctionName);
        Weather.Check(call.FunctionArguments.ToString());

        var updates = await client.CompleteChatStreamingAsync(s_hello, options).ToListAsync();
        var pieces = updates.SelectMany(update => update.ToolCallUpdates).ToList();
        Assert.Equal("tell", Assert.Single(pieces, piece => piece.FunctionName is not null).FunctionName);
        Assert.NotEmpty(Assert.Single(pieces, piece => piece.ToolCallId is not null).ToolCallId);
        Assert.Equal(
            call.FunctionArguments.ToString(), string.Concat(pieces.Select(piece => $"{piece.FunctionArgumentsUpdate}")));
        Assert.Equal(ChatFinishReason.ToolCalls, Assert.Single(updates, update => update.FinishReason is not null).FinishReason);

        options.ToolChoice = ChatToolChoice.CreateRequiredChoice();
        Assert.NotEmpty((await client.CompleteChatAsync(s_hello, options)).Value.ToolCalls);
    }

    [Fact]
    public async Task Structured_output_is_of_its_schema()
    {
        var client = Client(await servers.RoomyAsync());
        var format = ChatResponseFormat.CreateJsonSchemaFormat("weather", BinaryData.FromString(Weather.Schema), jsonSchemaIsStrict: true);
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 200, ResponseFormat = format };
        for (var i = 0; i < 3; i++)
        {
            Weather.Check((await client.CompleteChatAsync(s_hello, options)).Value.Content[0].Text);
        }

        options.ResponseFormat = ChatResponseFormat.CreateJsonObjectFormat();
        var any = (await client.CompleteChatAsync(s_hello, options)).Value.Content[0].Text;
        Assert.Equal(JsonValueKind.Object, JsonElement.Parse(any).ValueKind);

        options.ResponseFormat = ChatResponseFormat.CreateJsonSchemaFormat("weather", BinaryData.FromString(Weather.Unsupported));
        var error = await Assert.ThrowsAsync<ClientResultException>(() => client.CompleteChatAsync(s_hello, options));
        Assert.Equal(400, error.Status);
        Assert.Contains("$.properties.city.pattern", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Faults_of_the_client_have_their_status_and_message()
    {
        var api = await servers.RoomyAsync();
        await RefusedAsync(Client(api, key: "other"), 401, "key");
        await RefusedAsync(Client(api, model: "gpt-9"), 404, "model_not_found");
        await RefusedAsync(Client(api), 400, "context_length_exceeded", new() { MaxOutputTokenCount = 5000 });
        await RefusedAsync(Client(api), 400, "top_p", new() { TopP = 7 });

        static async Task RefusedAsync(ChatClient client, int status, string named, ChatCompletionOptions? options = null)
        {
            var error = await Assert.ThrowsAsync<ClientResultException>(() => client.CompleteChatAsync(s_hello, options));
            Assert.Equal(status, error.Status);
            Assert.Contains(named, error.Message, StringComparison.Ordinal);
            error = await Assert.ThrowsAsync<ClientResultException>(
                async () => await client.CompleteChatStreamingAsync(s_hello, options).ToListAsync());
            Assert.Equal(status, error.Status);
        }
    }

    [Fact]
    public async Task Busy_server_says_503_and_a_client_that_retries_gets_its_answer()
    {
        var api = await servers.NarrowAsync();
        await using var running = Client(api).CompleteChatStreamingAsync(s_hello, Endless()).GetAsyncEnumerator();
        Assert.True(await running.MoveNextAsync());
        var error = await Assert.ThrowsAsync<ClientResultException>(() => Client(api).CompleteChatAsync(s_hello));
        Assert.Equal(503, error.Status);
        Assert.True(error.GetRawResponse()!.Headers.TryGetValue("Retry-After", out _));

        var retried = Client(api, retries: 3).CompleteChatAsync(s_hello, new() { MaxOutputTokenCount = 2 });
        await running.DisposeAsync();
        Assert.Equal(2, (await retried).Value.Usage.OutputTokenCount);
    }

    [Fact]
    public async Task Cancelled_request_leaves_the_server_whether_streamed_or_not()
    {
        var api = await servers.RoomyAsync();
        using var source = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var _ in Client(api).CompleteChatStreamingAsync(s_hello, Endless(), source.Token))
            {
                await source.CancelAsync();
            }
        });
        using var timed = new CancellationTokenSource(TimeSpan.FromMilliseconds(200));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Client(api).CompleteChatAsync(s_hello, Endless(), timed.Token));
        await Servers.IdleAsync(api);
    }
}
