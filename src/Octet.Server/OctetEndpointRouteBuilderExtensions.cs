using Microsoft.AspNetCore.Routing;
using Octet.Server;
using Octet.Server.Api;
using Octet.Server.Hosting;
using Octet.Server.Observability;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Maps what serves the model of <c>AddOctet</c>.</summary>
public static class OctetEndpointRouteBuilderExtensions
{
    /// <summary>
    /// Maps OpenAI's API: <c>chat/completions</c>, <c>completions</c>, each with <c>/render</c>, and <c>models</c>.
    /// </summary>
    /// <param name="endpoints">The application.</param>
    /// <param name="prefix">What stands before them.</param>
    /// <returns>For further conventions, as authorization.</returns>
    public static IEndpointConventionBuilder MapOctet(this IEndpointRouteBuilder endpoints, string prefix = "/v1")
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        var (group, services) = (endpoints.MapGroup(prefix), endpoints.ServiceProvider);
        var api = services.GetRequiredService<ApiEndpoint>();
        var chat = services.GetRequiredService<ChatCompletions>();
        var completions = services.GetRequiredService<Completions>();
        var models = services.GetRequiredService<ModelEndpoints>();
        group.MapPost("/chat/completions", api.Post(chat.AnswerAsync));
        group.MapPost("/chat/completions/render", api.Post(chat.RenderAsync));
        group.MapPost("/completions", api.Post(completions.AnswerAsync));
        group.MapPost("/completions/render", api.Post(completions.RenderAsync));
        group.MapGet("/models", api.Get(models.ListAsync));
        group.MapGet("/models/{**id}", api.Get(models.GetAsync));
        group.Map("/{**rest}", api.NoneAsync);
        return group;
    }

    /// <summary>
    /// Maps what operators and gateways ask, without a key: <c>/health</c>, <c>/ready</c>, <c>/metrics</c>, <c>/version</c>; and
    /// <c>/tokenize</c> and <c>/detokenize</c>, which take the API's keys.
    /// </summary>
    public static IEndpointConventionBuilder MapOctetOperations(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        var (group, services) = (endpoints.MapGroup(""), endpoints.ServiceProvider);
        var api = services.GetRequiredService<ApiEndpoint>();
        var tokenization = services.GetRequiredService<Tokenization>();
        var health = services.GetRequiredService<ModelHealth>();
        var readiness = services.GetRequiredService<ModelReadiness>();
        group.MapGet("/health", http => StatusPages.AnswerAsync(http, health.Problem()));
        group.MapGet("/ready", http => StatusPages.AnswerAsync(http, readiness.Problem()));
        group.MapGet("/metrics", services.GetRequiredService<PrometheusText>().AnswerAsync);
        group.MapGet("/version", StatusPages.VersionAsync);
        group.MapPost("/tokenize", api.Post(tokenization.EncodeAsync));
        group.MapPost("/detokenize", api.Post(tokenization.DecodeAsync));
        return group;
    }

    /// <summary>
    /// Maps the page for people, at <c>/</c>, and what it shows of the engine, at <c>/status</c>. It asks the API at <c>v1</c> below its
    /// own path.
    /// </summary>
    public static IEndpointConventionBuilder MapOctetPage(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        var group = endpoints.MapGroup("");
        var status = endpoints.ServiceProvider.GetRequiredService<EngineStatus>();
        group.MapGet("/", StatusPages.PageAsync);
        group.MapGet("/status", status.AnswerAsync);
        return group;
    }
}
