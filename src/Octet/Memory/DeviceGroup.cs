namespace Octet;

/// <summary>
/// Devices of one kind that run one model together, in order: rank r of a group is its device r. "cpu" and the simulator may be in a group
/// several times; each is then a device of its own.
/// </summary>
/// <example><c>using var group = DeviceGroup.Open("hip:0-3");</c></example>
public sealed class DeviceGroup : IDisposable
{
    private readonly bool _owns;

    private DeviceGroup(Device[] devices, bool owns)
    {
        (Devices, _owns) = (devices, owns);
        Name = DeviceGroupNames.Of(Array.ConvertAll(devices, device => device.Name));
    }

    /// <summary>The devices, in order.</summary>
    public IReadOnlyList<Device> Devices { get; }

    /// <summary>The name that opens these devices: "hip:0,2,5", "cpu*4".</summary>
    public string Name { get; }

    /// <summary>Bytes in buffers of the devices that are not disposed.</summary>
    public long LiveBytes => Devices.Sum(device => device.LiveBytes);

    /// <summary>Opens all devices of a group, or none.</summary>
    /// <param name="names">
    /// GPUs by number, "hip:0-3", "hip:0,2,5", "cuda:0-7"; a device so many times, "cpu*4", "cpu:fnuz*8", "sim:gfx942*4"; or one device as for
    /// <see cref="Device.Open"/>. Null takes the environment variable OCTET_DEVICE, and without it the one device that
    /// <see cref="Device.Open"/> would.
    /// </param>
    /// <exception cref="ArgumentException">The name is none of a group, or the devices are not all alike.</exception>
    /// <exception cref="OctetException">A device is absent or failed; the message has the reason and the remedy. Those opened before are closed.</exception>
    public static DeviceGroup Open(string? names = null)
    {
        if (!string.IsNullOrEmpty(names))
        {
            return OpenNamed(names);
        }

        if (Device.NameFromEnvironment is not { } chosen)
        {
            return new DeviceGroup([Device.Open()], owns: true);
        }

        try
        {
            return OpenNamed(chosen);
        }
        catch (Exception error) when (Device.FromEnvironment(error) is { } said)
        {
            throw said;
        }
    }

    /// <summary>A group of one device, which stays its owner's.</summary>
    internal static DeviceGroup Of(Device device) => new([device], owns: false);

    /// <summary>Consecutive parts of the same size; their devices stay this group's, and are closed with it.</summary>
    /// <param name="parts">How many; a divisor of the number of devices.</param>
    /// <exception cref="ArgumentException">The devices cannot be split so.</exception>
    public IReadOnlyList<DeviceGroup> Split(int parts)
    {
        if (parts < 1 || Devices.Count % parts != 0)
        {
            throw new ArgumentException($"the {Devices.Count} devices of {Name} cannot be split into {parts} equal parts");
        }

        return [.. Devices.Chunk(Devices.Count / parts).Select(devices => new DeviceGroup(devices, owns: false))];
    }

    /// <summary>Closes the devices, the last first. Their tensors and streams are to be disposed before.</summary>
    public void Dispose()
    {
        if (_owns)
        {
            Close(Devices);
        }
    }

    /// <summary>The name and the product.</summary>
    public override string ToString() => $"{Name} ({Devices[0].Properties.Description})";

    private static DeviceGroup OpenNamed(string group)
    {
        var names = DeviceGroupNames.Parse(group);
        var devices = new List<Device>();
        try
        {
            foreach (var name in names)
            {
                devices.Add(Device.OpenShared(name, names.Length));
                RequireAlike(group, devices[0], devices[^1]);
            }
        }
        catch
        {
            Close(devices);
            throw;
        }

        return new DeviceGroup([.. devices], owns: true);
    }

    // The bytes of a weight and the order of a sum are a target's own.
    private static void RequireAlike(string group, Device first, Device other)
    {
        if (first.Properties.Target != other.Properties.Target || first.Float8 != other.Float8)
        {
            throw new ArgumentException(
                $"devices '{group}': {first.Name} is {first.Properties.Target} ({first.Float8}), {other.Name} is {other.Properties.Target} "
                + $"({other.Float8}); a group has one kind: open a group for each");
        }
    }

    private static void Close(IReadOnlyList<Device> devices)
    {
        for (var i = devices.Count - 1; i >= 0; i--)
        {
            devices[i].Dispose();
        }
    }
}
