using Octet.Backends;

namespace Octet;

/// <summary>The device to open where none is named, and why better ones were passed over.</summary>
/// <param name="Backend">The opened device.</param>
/// <param name="FallbackReason">What was there and did not work, in the order of preference; null where nothing went wrong.</param>
internal sealed record DeviceSelection(Backend Backend, string? FallbackReason)
{
    /// <summary>Names a device may have where it is taken unasked, best first.</summary>
    public static IEnumerable<(BackendProvider Provider, DeviceProbe Probe)> Candidates(IEnumerable<BackendProvider> providers) =>
        from provider in providers.OrderBy(p => p.Preference)
        from probe in provider.Probe()
        // One that is there and unusable is kept, for its reason.
        where provider.IsDefaultCandidate(probe.Present ? probe with { Reason = null } : probe)
        select (provider, probe);

    /// <summary>Opens the best device that opens.</summary>
    /// <param name="providers">In any order.</param>
    /// <param name="missing">Why a whole kind cannot be there (the native library's absence); null where it can.</param>
    /// <exception cref="OctetException">Not one opens; the message has the reason of each.</exception>
    public static DeviceSelection Open(IEnumerable<BackendProvider> providers, string? missing)
    {
        var reasons = new List<string>();
        if (missing is not null)
        {
            reasons.Add(missing);
        }

        OctetException? last = null;
        foreach (var (provider, probe) in Candidates(providers))
        {
            if (!probe.IsUsable)
            {
                reasons.Add(Named(probe, probe.Remedy is null ? $"{probe.Reason}" : $"{probe.Reason}; {probe.Remedy}"));
                continue;
            }

            try
            {
                return new DeviceSelection(provider.Open(probe.Name), reasons.Count == 0 ? null : string.Join("; ", reasons));
            }
            catch (OctetException error)
            {
                reasons.Add(Named(probe, error.Message));
                last = error;
            }
        }

        throw new OctetException(last?.Status ?? OctetStatus.NoDevice, $"no device opens: {string.Join("; ", reasons)}", last);
    }

    // Most messages of a device begin with its name.
    private static string Named(DeviceProbe probe, string reason) =>
        reason.Contains(probe.Name, StringComparison.Ordinal) ? reason : $"{probe.Name}: {reason}";
}
