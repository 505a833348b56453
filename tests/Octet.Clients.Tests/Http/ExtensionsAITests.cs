using System.ClientModel;
using Microsoft.Extensions.AI;
using Octet.Clients.Tests.InProcess;

namespace Octet.Clients.Tests.Http;

/// <summary>IChatClient of Microsoft.Extensions.AI.OpenAI against octet serve: the same interface as of a model in this process.</summary>
[Collection(nameof(Servers))]
public sealed class ExtensionsAITests(Servers servers, SmallModel small) : IClassFixture<SmallModel>
{
    private static readonly ChatOptions s_short = new() { MaxOutputTokens = 16, Temperature = 0, Instructions = "Be kind." };

    [Fact]
    public async Task Chat_and_stream_say_what_a_model_in_this_process_says()
    {
        using var client = await ClientAsync();
        var here = await small.Client.GetResponseAsync("Hello", s_short);
        var there = await client.GetResponseAsync("Hello", s_short);
        var streamed = await client.GetStreamingResponseAsync("Hello", s_short).ToChatResponseAsync();
        foreach (var response in (ChatResponse[])[there, streamed])
        {
            Assert.Equal((here.Text, here.FinishReason, Servers.Model), (response.Text, response.FinishReason, response.ModelId));
            Assert.Equal(here.Usage!.InputTokenCount, response.Usage!.InputTokenCount);
            Assert.Equal(here.Usage.OutputTokenCount, response.Usage.OutputTokenCount);
        }
    }

    [Fact]
    public async Task Next_turn_of_a_conversation_says_what_was_cached()
    {
        using var client = await ClientAsync();
        List<ChatMessage> history = [new(ChatRole.User, string.Concat(Enumerable.Range(0, 60).Select(i => $"line {i} of extensions; ")))];
        history.AddMessages(await client.GetResponseAsync(history, s_short));
        history.Add(new(ChatRole.User, "Go on."));
        var second = await client.GetResponseAsync(history, s_short);
        Assert.InRange(second.Usage!.CachedInputTokenCount!.Value, 64, second.Usage.InputTokenCount!.Value);
    }

    [Fact]
    public async Task Structured_output_has_the_type_that_was_asked_for()
    {
        using var client = await ClientAsync();
        var typed = await client.GetResponseAsync<Weather>("How is the weather?", new ChatOptions { MaxOutputTokens = 250 });
        Assert.NotNull(typed.Result.Winds);
    }

    [Fact]
    public async Task Function_that_must_be_called_is_called_and_its_result_answered()
    {
        var told = new List<string>();
        var tell = AIFunctionFactory.Create((Sky sky, long days) => { told.Add(Weather.Tell(sky, days)); return told[^1]; }, "tell");
        using var client = (await ClientAsync()).AsBuilder().UseFunctionInvocation().Build();
        var options = new ChatOptions
        {
            Tools = [tell],
            ToolMode = ChatToolMode.RequireSpecific("tell"),
            AllowMultipleToolCalls = false,
            MaxOutputTokens = 200,
        };
        var response = await client.GetStreamingResponseAsync("How is the weather?", options).ToChatResponseAsync();
        Assert.Single(told);
        Assert.Equal([ChatRole.Assistant, ChatRole.Tool, ChatRole.Assistant], response.Messages.Select(message => message.Role));
    }

    [Fact]
    public async Task Faults_have_their_status()
    {
        var api = await servers.RoomyAsync();
        using var stranger = OpenAITests.Client(api, key: "other").AsIChatClient();
        using var client = await ClientAsync();
        await RefusedAsync(401, stranger);
        await RefusedAsync(400, client, new() { MaxOutputTokens = 5000 });
        await RefusedAsync(404, client, new() { ModelId = "gpt-9" });

        static async Task RefusedAsync(int status, IChatClient client, ChatOptions? options = null) =>
            Assert.Equal(status, (await Assert.ThrowsAsync<ClientResultException>(() => client.GetResponseAsync("Hello", options))).Status);
    }

    [Fact]
    public async Task Abandoned_stream_leaves_the_server()
    {
        using var client = await ClientAsync();
        await foreach (var _ in client.GetStreamingResponseAsync("Hello", new() { RawRepresentationFactory = _ => OpenAITests.Endless() }))
        {
            break;
        }

        await Servers.IdleAsync(await servers.RoomyAsync());
    }

    private async Task<IChatClient> ClientAsync() => OpenAITests.Client(await servers.RoomyAsync()).AsIChatClient();
}
