using Octet.Backends;

namespace Octet;

/// <summary>
/// A device that holds tensors and runs ops: a GPU through HIP or CUDA, the simulator, or the CPU. Thread-safe, except that
/// one <see cref="DeviceStream"/> belongs to one thread at a time.
/// </summary>
public sealed class Device : IDisposable
{
    private static readonly Lock RegistryLock = new();
    private static readonly List<BackendProvider> Registry =
        [new NativeProvider("hip", 0), new NativeProvider("cuda", 1), new NativeProvider("sim", 8), new NativeProvider("plan", 9), new CpuProvider()];

    private readonly Lock _lock = new();
    private Backend? _backend;
    private DeviceStream? _stream;

    private Device(Backend backend, string? fallbackReason = null)
    {
        _backend = backend;
        FallbackReason = fallbackReason;
    }

    /// <summary>The backend behind this device.</summary>
    /// <exception cref="ObjectDisposedException">The device is closed.</exception>
    public Backend Backend => _backend ?? throw new ObjectDisposedException(nameof(Device));

    /// <summary>What the device is: name, product, size, FP8 encoding.</summary>
    public DeviceProperties Properties => Backend.Properties;

    /// <summary>The full name: "cpu", "sim:gfx942", "hip:0".</summary>
    public string Name => Properties.Name;

    /// <summary>The FP8 encoding the device computes in.</summary>
    public DType Float8 => Properties.Float8;

    /// <summary>
    /// Why this is not the device <see cref="Open"/> would rather have taken: the native library is missing, or a device that is there
    /// cannot be used; each with its remedy. Null where nothing went wrong, or where the device was named.
    /// </summary>
    public string? FallbackReason { get; }

    /// <summary>Bytes in buffers of this device that are not disposed.</summary>
    public long LiveBytes => Backend.LiveBytes;

    /// <summary>
    /// Bytes that can still be allocated, as far as the driver or the system tells: what other processes hold does not count. On a device
    /// that uses the host's memory (cpu, the simulator) what is available there, within the limits of the process's cgroups.
    /// </summary>
    /// <exception cref="OctetException">The driver failed.</exception>
    public long FreeMemory => Backend.FreeMemory;

    /// <summary>The stream used where none is named: tensor creation and read-back.</summary>
    public DeviceStream Stream
    {
        get
        {
            lock (_lock)
            {
                return _stream ??= CreateStream();
            }
        }
    }

    /// <summary>
    /// Opens a device: "hip:0", "cuda:0", "sim" ("sim:gfx942"), "sim:gfx950", "sim:sm_90", "cpu" (OCP), "cpu:fnuz", or one
    /// of a registered provider.
    /// </summary>
    /// <param name="name">
    /// Null takes the environment variable OCTET_DEVICE, and without it the best device that opens: hip, cuda, a registered GPU
    /// provider, then cpu. What went wrong with a better one is said by <see cref="FallbackReason"/> and, once, by a warning of the
    /// event source "Octet". One that was named is opened or an error.
    /// </param>
    /// <exception cref="ArgumentException">No device is called that.</exception>
    /// <exception cref="OctetException">The device is absent or failed; the message has the reason and the remedy.</exception>
    public static Device Open(string? name = null)
    {
        if (!string.IsNullOrEmpty(name))
        {
            return OpenShared(name, sharers: 1);
        }

        if (NameFromEnvironment is { } chosen)
        {
            try
            {
                return OpenShared(chosen, sharers: 1);
            }
            catch (Exception error) when (FromEnvironment(error) is { } said)
            {
                throw said;
            }
        }

        var selection = DeviceSelection.Open(
            Providers(), NativeLibraryLoader.TryLoad(out var failure) ? null : $"{failure}; {NativeLibraryLoader.Remedy}");
        if (selection.FallbackReason is { } reason)
        {
            DeviceEvents.Log.FellBackOnce(selection.Backend.Properties.Name, reason);
        }

        return new Device(selection.Backend, selection.FallbackReason);
    }

    /// <summary>Opens the named device, one of so many that a group opens under such names.</summary>
    internal static Device OpenShared(string name, int sharers) => new(FindProvider(name).Open(name, sharers));

    /// <summary>A device of a backend that no name opens.</summary>
    internal static Device Over(Backend backend) => new(backend);

    /// <summary>What went wrong with the device that OCTET_DEVICE names, saying so; null for what has other causes.</summary>
    internal static Exception? FromEnvironment(Exception error) => error switch
    {
        ArgumentException => new ArgumentException($"OCTET_DEVICE: {error.Message}", error),
        OctetException failure => new OctetException(failure.Status, $"OCTET_DEVICE: {error.Message}", error),
        _ => null,
    };

    /// <summary>OCTET_DEVICE; null where it is not set.</summary>
    internal static string? NameFromEnvironment => Environment.GetEnvironmentVariable("OCTET_DEVICE") is { Length: > 0 } name ? name : null;

    /// <summary>The devices <see cref="Open"/> tries where none is named, in order.</summary>
    internal static IReadOnlyList<string> DefaultCandidates() => [.. DeviceSelection.Candidates(Providers()).Select(c => c.Probe.Name)];

    /// <summary>Every device with its properties, and for each kind that is absent the reason and the remedy. Never throws.</summary>
    public static IReadOnlyList<DeviceProbe> Probe() => [.. Providers().SelectMany(p => p.Probe())];

    /// <summary>Adds a kind of device; a provider of the same prefix is replaced.</summary>
    public static void Register(BackendProvider provider)
    {
        ArgumentNullException.ThrowIfNull(provider);
        lock (RegistryLock)
        {
            Registry.RemoveAll(p => p.Prefix == provider.Prefix);
            Registry.Add(provider);
        }
    }

    /// <summary>Creates a stream: ops on it run in order.</summary>
    public DeviceStream CreateStream() => new(this, Backend.CreateStream(null));

    /// <summary>Wraps a stream the caller owns (a <c>hipStream_t</c> or <c>CUstream</c>); it is never destroyed here.</summary>
    /// <param name="native">The stream's handle; 0 is the device's default stream.</param>
    public DeviceStream BorrowStream(nint native) => new(this, Backend.CreateStream(native));

    /// <summary>Lets ops of this device read and write tensors of a peer, those to come too; one direction, and repeating is fine.</summary>
    /// <exception cref="OctetException">The two do not reach each other (Unsupported).</exception>
    public void EnablePeer(Device peer)
    {
        ArgumentNullException.ThrowIfNull(peer);
        if (peer != this)
        {
            Backend.EnablePeer(peer.Backend);
        }
    }

    /// <summary>Creates an event.</summary>
    public DeviceEvent CreateEvent() => new(this, Backend.CreateEvent());

    /// <summary>Closes the device. Its tensors and streams are to be disposed before.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _stream?.Dispose();
            _stream = null;
            _backend?.Dispose();
            _backend = null;
        }
    }

    /// <summary>The name and the product.</summary>
    public override string ToString() => $"{Name} ({Properties.Description})";

    private static BackendProvider FindProvider(string name)
    {
        var prefix = name.Split(':', 2)[0];
        return Providers().FirstOrDefault(p => p.Prefix == prefix)
            ?? throw new ArgumentException(
                $"unknown device '{name}': known are {string.Join(", ", Providers().Select(p => p.Prefix))}; "
                + "'octet devices' lists what is present");
    }

    private static BackendProvider[] Providers()
    {
        lock (RegistryLock)
        {
            return [.. Registry];
        }
    }
}
