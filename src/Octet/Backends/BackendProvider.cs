namespace Octet.Backends;

/// <summary>One line of <c>octet devices</c>: a device that is there, or one that is not and what would bring it.</summary>
/// <param name="Name">"hip:0", or the driver's name ("hip") where it has no device.</param>
/// <param name="Present">Whether the device is there; <see cref="IsUsable"/> says whether <see cref="Device.Open"/> would take it.</param>
/// <param name="Description">The product, or the driver's title.</param>
/// <param name="Reason">Why it is absent, or present but of no use; null where it can be opened.</param>
/// <param name="Remedy">What the user can do about it; null where it can be opened.</param>
/// <param name="Properties">What the device is; null where absent.</param>
public sealed record DeviceProbe(
    string Name, bool Present, string Description, string? Reason, string? Remedy, DeviceProperties? Properties)
{
    /// <summary>Whether the device is there and nothing keeps it from being opened.</summary>
    public bool IsUsable => Present && Reason is null;
}

/// <summary>Finds and opens the devices of one kind of backend.</summary>
public abstract class BackendProvider
{
    /// <summary>The part of a device name before the colon: "hip", "cpu", "ilgpu".</summary>
    public abstract string Prefix { get; }

    /// <summary>Devices of this kind, present or absent. Never throws.</summary>
    public abstract IReadOnlyList<DeviceProbe> Probe();

    /// <summary>Opens a device by its full name.</summary>
    /// <exception cref="ArgumentException">The name does not belong to this provider's devices.</exception>
    /// <exception cref="OctetException">The device is absent or failed.</exception>
    public abstract Backend Open(string name);

    /// <summary>Opens a device that is one of several in a group: what they would each take whole, such as the processor's threads, they share.</summary>
    /// <param name="name">The full name.</param>
    /// <param name="sharers">Devices of the group.</param>
    /// <inheritdoc cref="Open(string)" path="/exception"/>
    public virtual Backend Open(string name, int sharers) => Open(name);

    /// <summary>Devices <see cref="Device.Open"/> may take when none is named, best first, by <see cref="Preference"/>.</summary>
    public virtual bool IsDefaultCandidate(DeviceProbe probe) => probe.IsUsable;

    /// <summary>Order among providers when no device is named; the lowest wins (hip 0, cuda 1, ilgpu 2, cpu 3).</summary>
    public abstract int Preference { get; }
}
