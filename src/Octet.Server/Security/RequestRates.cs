using System.Threading.RateLimiting;
using Microsoft.Extensions.Options;
using Octet.Server.Api;

namespace Octet.Server.Security;

/// <summary>Bounds the requests of each key in a minute, or of each address where there are no keys.</summary>
internal sealed class RequestRates : IDisposable
{
    private readonly PartitionedRateLimiter<string>? _limiter;
    private readonly int? _perMinute;

    public RequestRates(IOptions<OctetServerOptions> options)
    {
        _perMinute = options.Value.RequestsPerMinute;
        if (_perMinute is { } perMinute)
        {
            // What a minute allows may come at once; it grows again evenly.
            _limiter = PartitionedRateLimiter.Create<string, string>(client => RateLimitPartition.GetTokenBucketLimiter(client, _ => new()
            {
                TokenLimit = perMinute,
                TokensPerPeriod = 1,
                ReplenishmentPeriod = TimeSpan.FromMinutes(1) / perMinute,
            }));
        }
    }

    /// <summary>Counts a request.</summary>
    /// <param name="key">The number of its key; -1: it has none.</param>
    /// <param name="connection">Where it comes from.</param>
    /// <exception cref="ApiException">There were too many; it says when the next may come.</exception>
    public void Check(int key, ConnectionInfo connection)
    {
        if (_limiter is null)
        {
            return;
        }

        using var lease = _limiter.AttemptAcquire(key >= 0 ? $"key {key}" : $"{connection.RemoteIpAddress}");
        if (!lease.IsAcquired)
        {
            var wait = lease.TryGetMetadata(MetadataName.RetryAfter, out var after) ? after : TimeSpan.FromMinutes(1.0 / _perMinute!.Value);
            throw new ApiException(StatusCodes.Status429TooManyRequests, $"more than {_perMinute} requests in a minute")
            {
                Code = "rate_limit_exceeded",
                RetryAfter = (int)Math.Max(1, Math.Ceiling(wait.TotalSeconds)),
            };
        }
    }

    public void Dispose() => _limiter?.Dispose();
}
