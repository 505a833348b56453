using System.ClientModel;
using System.ClientModel.Primitives;
using System.Net;
using System.Text.Json;
using Microsoft.SemanticKernel;
using Microsoft.SemanticKernel.ChatCompletion;
using Microsoft.SemanticKernel.Connectors.OpenAI;
using OpenAI;
using OpenAI.Chat;

namespace Octet.Clients.Tests.Http;

/// <summary>Semantic Kernel against octet serve.</summary>
[Collection(nameof(Servers))]
public sealed class SemanticKernelTests(Servers servers)
{
    private static readonly OpenAIPromptExecutionSettings s_short = new() { MaxTokens = 16, Temperature = 0, ChatSystemPrompt = "Be kind." };

    [Fact]
    public async Task Chat_and_stream_have_one_text_and_usage()
    {
        var chat = await ServiceAsync();
        var whole = await chat.GetChatMessageContentAsync("Hello", s_short);
        Assert.NotEmpty(whole.Content!);
        Assert.Equal("Length", whole.Metadata!["FinishReason"]);
        Assert.Equal(16, Assert.IsType<ChatTokenUsage>(whole.Metadata["Usage"]).OutputTokenCount);
        var pieces = await chat.GetStreamingChatMessageContentsAsync("Hello", s_short).ToListAsync();
        Assert.Equal(whole.Content, string.Concat(pieces.Select(piece => piece.Content)));
        Assert.Equal(16, Assert.IsType<ChatTokenUsage>(pieces[^1].Metadata!["Usage"]).OutputTokenCount);
    }

    [Fact]
    public async Task Prompt_function_of_a_kernel_is_answered()
    {
        var builder = Kernel.CreateBuilder();
        builder.AddOpenAIChatCompletion(Servers.Model, Connection(await servers.RoomyAsync(), Servers.Key));
        var result = await builder.Build().InvokePromptAsync("Say {{$what}}", new(s_short) { ["what"] = "hello" });
        Assert.NotEmpty(result.GetValue<string>()!);
    }

    [Fact]
    public async Task Structured_output_has_the_type_that_was_asked_for()
    {
        var settings = new OpenAIPromptExecutionSettings { MaxTokens = 250, ResponseFormat = typeof(Weather) };
        var answer = await (await ServiceAsync()).GetChatMessageContentAsync("How is the weather?", settings);
        Assert.NotNull(JsonSerializer.Deserialize<Weather>(answer.Content!)!.Winds);
    }

    [Fact]
    public async Task Function_of_a_plugin_that_must_be_called_is_called()
    {
        var told = new List<string>();
        var builder = Kernel.CreateBuilder();
        builder.AddOpenAIChatCompletion(Servers.Model, Connection(await servers.RoomyAsync(), Servers.Key));
        var tell = KernelFunctionFactory.CreateFromMethod((Sky sky, long days) => { told.Add(Weather.Tell(sky, days)); return told[^1]; }, "tell");
        builder.Plugins.AddFromFunctions("sky", [tell]);
        var settings = new OpenAIPromptExecutionSettings
        {
            MaxTokens = 200,
            FunctionChoiceBehavior = FunctionChoiceBehavior.Required(options: new() { AllowParallelCalls = false }),
        };
        await builder.Build().InvokePromptAsync("How is the weather?", new(settings));
        Assert.Single(told);
    }

    [Fact]
    public async Task Faults_have_their_status()
    {
        var stranger = new OpenAIChatCompletionService(Servers.Model, Connection(await servers.RoomyAsync(), "other"));
        var error = await Assert.ThrowsAsync<HttpOperationException>(() => stranger.GetChatMessageContentAsync("Hello"));
        Assert.Equal(HttpStatusCode.Unauthorized, error.StatusCode);
        var chat = await ServiceAsync();
        var tooLong = new OpenAIPromptExecutionSettings { MaxTokens = 5000 };
        error = await Assert.ThrowsAsync<HttpOperationException>(() => chat.GetChatMessageContentAsync("Hello", tooLong));
        Assert.Equal(HttpStatusCode.BadRequest, error.StatusCode);
        Assert.Contains("context_length_exceeded", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Cancelled_stream_leaves_the_server()
    {
        var endless = new OpenAIPromptExecutionSettings { TokenSelectionBiases = new Dictionary<int, int> { [Servers.EndOfText] = -100 } };
        var chat = await ServiceAsync();
        using var source = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var _ in chat.GetStreamingChatMessageContentsAsync("Hello", endless, cancellationToken: source.Token))
            {
                await source.CancelAsync();
            }
        });
        await Servers.IdleAsync(await servers.RoomyAsync());
    }

    private async Task<OpenAIChatCompletionService> ServiceAsync() =>
        new(Servers.Model, Connection(await servers.RoomyAsync(), Servers.Key));

    private static OpenAIClient Connection(Uri api, string key) =>
        new(new ApiKeyCredential(key), new OpenAIClientOptions { Endpoint = api, RetryPolicy = new ClientRetryPolicy(0) });
}
