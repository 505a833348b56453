using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;

namespace Octet.Server.Hosting;

/// <summary>Whether the process is of use: requests that run get steps, and a device is left that works.</summary>
internal sealed class ModelHealth(ServedModel served, IOptions<OctetServerOptions> options) : IHealthCheck
{
    private readonly Lock _lock = new();
    private long _steps = -1;
    private long _since = Environment.TickCount64;

    /// <summary>What is wrong; null: nothing.</summary>
    public string? Problem()
    {
        if (served.State == ServingState.Failed)
        {
            return "the model could not be loaded";
        }

        if (served.Model is not { } model)
        {
            return null;
        }

        var groups = model.Loads;
        if (groups.All(group => group.Lost is not null))
        {
            return groups[0].Lost!.Message;
        }

        lock (_lock)
        {
            var (steps, now) = (model.Statistics.Steps, Environment.TickCount64);
            if (steps != _steps || groups.Sum(group => group.Running + group.Waiting) == 0)
            {
                (_steps, _since) = (steps, now);
            }

            return now - _since <= options.Value.StallTimeout.TotalMilliseconds ? null
                : $"no step has ended for {(now - _since) / 1000} s, and requests wait for one";
        }
    }

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(Problem() is { } problem ? HealthCheckResult.Unhealthy(problem) : HealthCheckResult.Healthy());
}

/// <summary>Whether requests are taken: the model is loaded, and the application is not stopping.</summary>
internal sealed class ModelReadiness(ServedModel served, ModelHealth health) : IHealthCheck
{
    /// <summary>Why they are not; null: they are.</summary>
    public string? Problem() => served.State switch
    {
        ServingState.Loading => $"the model is being loaded ({served.Loaded:p0})",
        ServingState.Draining => "the server is stopping",
        _ => health.Problem(),
    };

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(Problem() is { } problem ? HealthCheckResult.Unhealthy(problem) : HealthCheckResult.Healthy());
}
