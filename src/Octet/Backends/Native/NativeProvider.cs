namespace Octet.Backends;
internal sealed class NativeProvider(string prefix, int preference) : BackendProvider
{
    public override string Prefix => prefix;
    public override int Preference => preference;
    public override IReadOnlyList<DeviceProbe> Probe() => [];
    public override Backend Open(string name) => throw new OctetException(OctetStatus.NoDevice, "absent");
}
