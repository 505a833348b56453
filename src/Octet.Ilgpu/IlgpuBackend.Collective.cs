using Octet.Backends;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void GroupSync(DeviceStream stream, in GroupSyncArgs args) => throw NoGroups("group_sync");

    /// <inheritdoc/>
    public override void Gather(DeviceStream stream, in GatherArgs args) => throw NoGroups("gather");

    private OctetException NoGroups(string op) => new(
        OctetStatus.Unsupported, $"{op}: {Properties.Name} cannot be in a group of several devices: ILGPU has no memory that devices share");
}
