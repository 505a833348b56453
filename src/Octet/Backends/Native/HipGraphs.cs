namespace Octet.Backends;

/// <summary>Versions of HIP whose graphs are known to replay wrongly: there, what would be recorded runs eagerly.</summary>
internal static class HipGraphs
{
    /// <summary>Why graphs of a device must not be used; null where nothing is known against them.</summary>
    /// <param name="device">"hip:0".</param>
    /// <param name="version">What hipRuntimeGetVersion gives: major * 10,000,000 + minor * 100,000 + patch.</param>
    public static string? Obstacle(string device, int version)
    {
        var (major, minor) = (version / 10_000_000, version / 100_000 % 100);

        // NOTE: ROCm 7.2.0 to 7.2.3 corrupt replays on MI300X (ROCm/clr issue 279). The version does not tell these from later ones of 7.2.
        return device.StartsWith("hip:", StringComparison.Ordinal) && (major, minor) == (7, 2)
            ? $"HIP {major}.{minor} is known to replay graphs wrongly; steps run eagerly, install another ROCm to have graphs"
            : null;
    }
}
