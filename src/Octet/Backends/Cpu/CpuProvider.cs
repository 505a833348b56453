namespace Octet.Backends;
internal sealed class CpuProvider : BackendProvider
{
    public override string Prefix => "cpu";
    public override int Preference => 3;
    public override IReadOnlyList<DeviceProbe> Probe() => [];
    public override Backend Open(string name) => throw new OctetException(OctetStatus.NoDevice, "absent");
}
