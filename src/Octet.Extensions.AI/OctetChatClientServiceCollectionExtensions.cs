using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using Octet;
using Octet.Extensions.AI;
using Octet.Inference.Models;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers a model in this process as <see cref="IChatClient"/>.</summary>
public static class OctetChatClientServiceCollectionExtensions
{
    /// <summary>
    /// Registers <see cref="IChatClient"/> and <see cref="OctetChatClient"/> over a model that the container loads when one of them is
    /// first asked for, and disposes at its end. For a pipeline:
    /// <c>AddChatClient(p => p.GetRequiredService&lt;OctetChatClient&gt;()).UseFunctionInvocation()</c>.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">Sets the model and the devices; they are checked when the application starts.</param>
    /// <param name="serviceKey">Registers them as keyed services; null: without a key.</param>
    public static IServiceCollection AddOctetChatClient(
        this IServiceCollection services, Action<OctetChatClientOptions> configure, string? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(configure);
        var name = serviceKey ?? Options.Options.DefaultName;
        services.AddOptions<OctetChatClientOptions>(name).Configure(configure).ValidateOnStart();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<OctetChatClientOptions>, OptionsCheck>());
        services.AddKeyedSingleton(serviceKey, (provider, _) => new OwnedModel(OptionsOf(provider, name)));
        return Add(
            services,
            serviceKey,
            provider => new(provider.GetRequiredKeyedService<OwnedModel>(serviceKey).Model, OptionsOf(provider, name).Name));
    }

    /// <summary>Registers <see cref="IChatClient"/> and <see cref="OctetChatClient"/> over a model that is there already.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="model">Finds the model, which whoever made it disposes; called once, when a client is first asked for.</param>
    /// <param name="modelId">What the model is called; null: it has no name.</param>
    /// <param name="serviceKey">Registers them as keyed services; null: without a key.</param>
    public static IServiceCollection AddOctetChatClient(
        this IServiceCollection services, Func<IServiceProvider, LanguageModel> model, string? modelId = null, string? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(model);
        return Add(services, serviceKey, provider => new(model(provider), modelId));
    }

    private static IServiceCollection Add(
        IServiceCollection services, string? serviceKey, Func<IServiceProvider, OctetChatClient> create) => services
        .AddKeyedSingleton(serviceKey, (provider, _) => create(provider))
        .AddKeyedSingleton<IChatClient>(serviceKey, (provider, _) => provider.GetRequiredKeyedService<OctetChatClient>(serviceKey));

    private static OctetChatClientOptions OptionsOf(IServiceProvider provider, string name) =>
        provider.GetRequiredService<IOptionsMonitor<OctetChatClientOptions>>().Get(name);

    private sealed class OptionsCheck : IValidateOptions<OctetChatClientOptions>
    {
        public ValidateOptionsResult Validate(string? name, OctetChatClientOptions options) =>
            options.Problem() is { } problem ? ValidateOptionsResult.Fail(problem) : ValidateOptionsResult.Success;
    }

    /// <summary>A model and its devices, which end with the container.</summary>
    private sealed class OwnedModel : IDisposable
    {
        private readonly DeviceGroup _devices;

        public OwnedModel(OctetChatClientOptions options)
        {
            _devices = DeviceGroup.Open(options.Device);
            try
            {
                Model = LanguageModel.Load(options.Model, _devices, options.Run);
            }
            catch
            {
                _devices.Dispose();
                throw;
            }
        }

        public LanguageModel Model { get; }

        public void Dispose()
        {
            Model.Dispose();
            _devices.Dispose();
        }
    }
}
