using Octet.Backends;
using Octet.Ilgpu;

namespace Octet.Tests.Backends.Ilgpu;

/// <summary>ILGPU's CPU accelerator, opened once for a class of tests: compiling every kernel takes a second.</summary>
public sealed class IlgpuCpu : IDisposable
{
    public IlgpuCpu()
    {
        IlgpuBackend.Register();
        Device = Device.Open("ilgpu:cpu");
    }

    public Device Device { get; }

    public void Dispose() => Device.Dispose();
}

/// <summary>
/// The kernels as GPUs run them, products tiled through shared memory and rows shared by a group's threads, on the CPU accelerator:
/// it takes a thread of the machine for each of the group's and milliseconds for a barrier.
/// </summary>
public sealed class IlgpuGroups : IDisposable
{
    public IlgpuGroups()
    {
        Device.Register(new Provider());
        Device = Device.Open("ilgpu-groups");
    }

    public Device Device { get; }

    public void Dispose() => Device.Dispose();

    private sealed class Provider : BackendProvider
    {
        public override string Prefix => "ilgpu-groups";

        public override int Preference => int.MaxValue;

        public override IReadOnlyList<DeviceProbe> Probe() => [];

        public override Backend Open(string name)
        {
            var context = IlgpuDevices.CreateCpuContext(SharedTile.Threads, multiprocessors: 1);
            return new IlgpuBackend(name, context, context.Devices[0], new IlgpuShape(Threads: 4, IsTiled: true, MaxGroups: 3));
        }
    }
}
