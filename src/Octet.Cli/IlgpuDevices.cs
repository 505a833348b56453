using Octet.Backends;

namespace Octet.Cli;

/// <summary>The devices of Octet.Ilgpu, or in a program compiled ahead of time, which is built without it, their absence.</summary>
internal static class IlgpuDevices
{
#if OCTET_ILGPU
    public static void Register() => Ilgpu.IlgpuBackend.Register();
#else
    public static void Register() => Device.Register(new AbsentProvider());
#endif

    /// <summary>Says why there are no such devices, in the list and where one is asked for.</summary>
    internal sealed class AbsentProvider : BackendProvider
    {
        private const string Reason = "this program was compiled ahead of time, and ILGPU compiles its kernels at run time";
        private const string Remedy = "use the octet tool, or run Octet.Cli with 'dotnet run'";

        public override string Prefix => "ilgpu";

        public override int Preference => 2;

        public override IReadOnlyList<DeviceProbe> Probe() => [new("ilgpu", false, "GPUs through ILGPU", Reason, Remedy, null)];

        public override Backend Open(string name) =>
            throw new OctetException(OctetStatus.NoDevice, $"device '{name}': {Reason}; {Remedy}");
    }
}
