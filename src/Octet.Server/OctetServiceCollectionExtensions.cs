using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using Octet.Inference.Chat;
using Octet.Inference.Models;
using Octet.Server;
using Octet.Server.Api;
using Octet.Server.Hosting;
using Octet.Server.Observability;
using Octet.Server.Security;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers a model that an application serves.</summary>
public static class OctetServiceCollectionExtensions
{
    /// <summary>
    /// Loads a model when the application has started, and lets running requests end when it stops. <c>MapOctet</c> maps what serves it; health
    /// checks <c>octet</c> (tag live) and <c>octet-ready</c> (tag ready) are registered.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">Sets the model, the devices and the limits; they are checked when the application starts.</param>
    public static IServiceCollection AddOctet(this IServiceCollection services, Action<OctetServerOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddSingleton<IValidateOptions<OctetServerOptions>, OptionsCheck>();
        services.AddOptions<OctetServerOptions>().Configure(configure).ValidateOnStart();
        services.TryAddSingleton<ServedModel>();
        services.AddHostedService(provider => provider.GetRequiredService<ServedModel>());
        services.AddOptions<HostOptions>().Configure<IOptions<OctetServerOptions>>((host, octet) =>
        {
            // What drains must not be cut by the host first.
            var needed = octet.Value.DrainTimeout + TimeSpan.FromSeconds(10);
            host.ShutdownTimeout = host.ShutdownTimeout > needed ? host.ShutdownTimeout : needed;
        });
        services.TryAddSingleton<ApiKeys>();
        services.TryAddSingleton<RequestRates>();
        services.TryAddSingleton<ServerMetrics>();
        services.TryAddSingleton<PrometheusText>();
        services.TryAddSingleton<PromptLog>();
        services.TryAddSingleton<EngineStatus>();
        services.TryAddSingleton<ModelHealth>();
        services.TryAddSingleton<ModelReadiness>();
        services.TryAddSingleton<ApiEndpoint>();
        services.TryAddSingleton<ChatCompletions>();
        services.TryAddSingleton<Completions>();
        services.TryAddSingleton<ModelEndpoints>();
        services.TryAddSingleton<Tokenization>();
        services.AddHealthChecks().AddCheck<ModelHealth>("octet", tags: ["live"]).AddCheck<ModelReadiness>("octet-ready", tags: ["ready"]);
        return services;
    }

    private sealed class OptionsCheck : IValidateOptions<OctetServerOptions>
    {
        public ValidateOptionsResult Validate(string? name, OctetServerOptions options) =>
            options.Problem() is { } problem ? ValidateOptionsResult.Fail(problem) : ValidateOptionsResult.Success;
    }
}
