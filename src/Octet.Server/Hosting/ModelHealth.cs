using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;

namespace Octet.Server.Hosting;

/// <summary>Whether the process is of use: requests that run get steps, and a device is left that works.</summary>
internal sealed class ModelHealth(ServedModel served, IOptions<OctetServerOptions> options) : IHealthCheck
{
    private readonly Lock _lock = new();
    private StallClock _clock;

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
            var waits = groups.Any(group => group.Running + group.Waiting > 0);
            var stalled = _clock.Look(model.Statistics.Steps, waits, Environment.TickCount64);
            return stalled <= options.Value.StallTimeout.TotalMilliseconds ? null
                : $"no step has ended for {stalled / 1000} s, and requests wait for one";
        }
    }

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(Problem() is { } problem ? HealthCheckResult.Unhealthy(problem) : HealthCheckResult.Healthy());
}

/// <summary>How long no step has ended while texts wait for one, as far as looks at it tell. Pure: no clock, no lock.</summary>
internal struct StallClock
{
    private bool _waits;
    private long _steps;
    private long _since;

    /// <summary>Looks.</summary>
    /// <param name="steps">Steps that have ended.</param>
    /// <param name="waits">Whether texts wait for one.</param>
    /// <param name="now">The time, in milliseconds.</param>
    /// <returns>Milliseconds since texts were first seen to wait for the next step; 0: they are not, or were not before.</returns>
    public long Look(long steps, bool waits, long now)
    {
        // A text that came since a look at an idle engine has not waited since that look.
        if (!waits || !_waits || steps != _steps)
        {
            (_waits, _steps, _since) = (waits, steps, now);
        }

        return now - _since;
    }
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
