using System.Globalization;
using System.Runtime.InteropServices;
using ILGPU;
using Octet.Backends;

namespace Octet.Ilgpu;

/// <summary>The devices "ilgpu:cuda:N", "ilgpu:opencl:N" and "ilgpu:cpu".</summary>
internal sealed class IlgpuProvider : BackendProvider
{
    private const string Cpu = "ilgpu:cpu";

    public override string Prefix => "ilgpu";

    public override int Preference => 2;

    // A GPU may be taken unasked; ILGPU's CPU accelerator and OpenCL on the processor are slower than "cpu".
    public override bool IsDefaultCandidate(DeviceProbe probe) =>
        probe is { IsUsable: true, Properties: { } properties }
        && (properties.Target.StartsWith("sm_", StringComparison.Ordinal) || properties.Target == "opencl-gpu");

    public override IReadOnlyList<DeviceProbe> Probe() => [.. IlgpuDevices.Gpus.SelectMany(Probe), ProbeCpu()];

    public override Backend Open(string name)
    {
        if (name == Cpu)
        {
            return Create(name, () => IlgpuDevices.CreateCpuContext(), context => context.Devices[0], IlgpuShape.Cpu);
        }

        foreach (var kind in IlgpuDevices.Gpus)
        {
            var prefix = $"ilgpu:{kind.Name}";
            if (name == prefix)
            {
                return Open(kind, $"{prefix}:0", 0);
            }

            if (name.StartsWith(prefix + ":", StringComparison.Ordinal)
                && int.TryParse(name.AsSpan(prefix.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var index))
            {
                return Open(kind, name, index);
            }
        }

        throw new ArgumentException($"unknown device '{name}': known are ilgpu:cuda:0, ilgpu:opencl:0, ..., and {Cpu}");
    }

    /// <summary>The devices of one kind, each with what keeps it from being used; without any, why. Never throws.</summary>
    internal static IReadOnlyList<DeviceProbe> Probe(IlgpuKind kind)
    {
        DeviceProbe Absent(string reason) => new($"ilgpu:{kind.Name}", false, kind.Title, reason, kind.Remedy, null);
        try
        {
            if (!TryLoad(kind.Library, out var failure))
            {
                return [Absent(failure)];
            }

            using var context = IlgpuDevices.CreateContext(kind.Add);
            DeviceProbe[] probes = [.. DevicesOf(context, kind).Select((device, i) => ProbeDevice(kind, $"ilgpu:{kind.Name}:{i}", device))];
            return probes.Length == 0 ? [Absent($"{kind.Library} is there but lists no device")] : probes;
        }
        catch (Exception error)
        {
            return [Absent(IlgpuDevices.Reason(error))];
        }
    }

    // The loader's own messages stand behind .NET's advice, one for each place: a broken library is not the same as none.
    private static bool TryLoad(string library, out string failure)
    {
        try
        {
            NativeLibrary.Load(library);
            failure = "";
            return true;
        }
        catch (Exception error) when (error is DllNotFoundException or BadImageFormatException)
        {
            var places = error.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Skip(1);
            var broken = places.FirstOrDefault(place => !place.EndsWith("No such file or directory", StringComparison.Ordinal));
            failure = broken is null ? $"{library} was not found" : $"{library} cannot be loaded: {broken}";
            return false;
        }
    }

    // A context without any other device holds ILGPU's CPU accelerator.
    private static IEnumerable<ILGPU.Runtime.Device> DevicesOf(Context context, IlgpuKind kind) =>
        context.Devices.Where(device => device.AcceleratorType == kind.Type);

    private static DeviceProbe ProbeDevice(IlgpuKind kind, string name, ILGPU.Runtime.Device device)
    {
        try
        {
            var properties = IlgpuDevices.Describe(name, device);
            var obstacle = IlgpuDevices.Obstacle(device);
            return new DeviceProbe(name, true, properties.Description, obstacle, obstacle is null ? null : kind.Remedy, properties);
        }
        catch (Exception error)
        {
            return new DeviceProbe(name, false, kind.Title, IlgpuDevices.Reason(error), kind.Remedy, null);
        }
    }

    private static DeviceProbe ProbeCpu()
    {
        try
        {
            using var context = IlgpuDevices.CreateCpuContext();
            var properties = IlgpuDevices.Describe(Cpu, context.Devices[0]);
            return new DeviceProbe(Cpu, true, properties.Description, null, null, properties);
        }
        catch (Exception error)
        {
            return new DeviceProbe(Cpu, false, "ILGPU's CPU accelerator", IlgpuDevices.Reason(error), "report it: this one needs no driver", null);
        }
    }

    private static IlgpuBackend Open(IlgpuKind kind, string name, int index)
    {
        var probes = Probe(kind);
        var probe = probes.FirstOrDefault(p => p.Name == name);
        if (probe is not { IsUsable: true })
        {
            var reason = probe?.Reason ?? (probes[0].Present ? $"there are {probes.Count} of that kind" : probes[0].Reason);
            throw new OctetException(OctetStatus.NoDevice, $"device '{name}': {reason}; {kind.Remedy}");
        }

        return Create(name, () => IlgpuDevices.CreateContext(kind.Add), context => DevicesOf(context, kind).ElementAt(index), IlgpuShape.Gpu);
    }

    private static IlgpuBackend Create(string name, Func<Context> create, Func<Context, ILGPU.Runtime.Device> find, IlgpuShape shape)
    {
        Context context;
        try
        {
            context = create();
        }
        catch (Exception error)
        {
            throw new OctetException(OctetStatus.DeviceError, $"device '{name}': {IlgpuDevices.Reason(error)}", error);
        }

        return new IlgpuBackend(name, context, find(context), shape);
    }
}
