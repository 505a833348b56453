using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Octet.Extensions.AI;
using Octet.Inference.Models;

namespace Octet.Clients.Tests.InProcess;

/// <summary>Clients that a container makes.</summary>
public sealed class RegistrationTests(SmallModel small) : IClassFixture<SmallModel>
{
    [Fact]
    public async Task Registered_client_loads_its_model_once_and_the_container_disposes_it()
    {
        var services = new ServiceCollection().AddOctetChatClient(Configure);
        LanguageModel model;
        await using (var provider = services.BuildServiceProvider(new ServiceProviderOptions { ValidateOnBuild = true, ValidateScopes = true }))
        {
            var client = provider.GetRequiredService<IChatClient>();
            Assert.Same(client, provider.GetRequiredService<OctetChatClient>());
            Assert.Equal("tiny-shakespeare", client.GetRequiredService<ChatClientMetadata>().DefaultModelId);
            Assert.NotEmpty((await client.GetResponseAsync("Hello", new() { MaxOutputTokens = 2 })).Text);
            model = client.GetRequiredService<LanguageModel>();
        }

        Assert.Throws<ObjectDisposedException>(() => { model.GenerateAsync("Hello"); });
    }

    [Fact]
    public async Task Keyed_clients_have_models_of_their_own()
    {
        var services = new ServiceCollection()
            .AddOctetChatClient(Configure, "first")
            .AddOctetChatClient(options => { Configure(options); options.ModelId = "other"; }, "second");
        await using var provider = services.BuildServiceProvider();
        var (first, second) = (provider.GetRequiredKeyedService<IChatClient>("first"), provider.GetRequiredKeyedService<IChatClient>("second"));
        Assert.Equal("other", second.GetRequiredService<ChatClientMetadata>().DefaultModelId);
        Assert.NotSame(first.GetRequiredService<LanguageModel>(), second.GetRequiredService<LanguageModel>());
        Assert.Null(provider.GetService<IChatClient>());
    }

    [Fact]
    public async Task Model_that_is_there_already_stays_when_the_container_ends()
    {
        var services = new ServiceCollection()
            .AddSingleton(small)
            .AddOctetChatClient(provider => provider.GetRequiredService<SmallModel>().Model, "small");
        services.AddChatClient(provider => provider.GetRequiredService<OctetChatClient>()).UseFunctionInvocation();
        await using (var provider = services.BuildServiceProvider())
        {
            var client = provider.GetRequiredService<IChatClient>();
            Assert.NotNull(client.GetService<FunctionInvokingChatClient>());
            Assert.Same(small.Model, client.GetService<LanguageModel>());
        }

        Assert.NotEmpty((await small.Client.GetResponseAsync("Hello", new() { MaxOutputTokens = 2 })).Text);
    }

    [Theory]
    [InlineData("", null, "Model is not set")]
    [InlineData("/nowhere", null, "Model is '/nowhere', but there is no such folder")]
    [InlineData(".", "", "ModelId is empty")]
    public void What_is_wrong_shows_when_the_application_starts(string folder, string? id, string problem)
    {
        using var provider = new ServiceCollection()
            .AddOctetChatClient(options => (options.Model, options.ModelId) = (folder, id), "key")
            .BuildServiceProvider();
        var error = Assert.Throws<OptionsValidationException>(provider.GetRequiredService<IStartupValidator>().Validate);
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
    }

    private static void Configure(OctetChatClientOptions options) => (options.Model, options.Device) = (SmallModel.Folder, "cpu");
}
