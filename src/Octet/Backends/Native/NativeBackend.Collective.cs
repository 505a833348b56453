using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed unsafe partial class NativeBackend
{
    public override void EnablePeer(Backend peer)
    {
        if (peer is not NativeBackend native)
        {
            throw Unreachable(peer);
        }

        Check(octet_device_enable_peer(_device, native._device));
    }

    public override void GroupSync(DeviceStream stream, in GroupSyncArgs args)
    {
        var native = new NativeGroupSyncArgs
        {
            StructSize = (nuint)sizeof(NativeGroupSyncArgs),
            Epoch = args.Epoch.Address,
            Status = args.Status.Address,
            Rank = args.Rank,
            Ranks = args.Signals.Count,
            TimeoutMs = args.TimeoutMs,
        };
        for (var rank = 0; rank < args.Signals.Count; rank++)
        {
            native.Signals[rank] = args.Signals[rank].Address;
        }

        Check(octet_group_sync(in native, stream.Handle));
    }

    public override void Gather(DeviceStream stream, in GatherArgs args)
    {
        var ranks = args.Starts.Count - 1;
        var native = new NativeGatherArgs
        {
            StructSize = (nuint)sizeof(NativeGatherArgs),
            ArrayCount = args.Arrays.Count,
            Rank = args.Rank,
            Ranks = ranks,
        };
        for (var rank = 0; rank <= ranks; rank++)
        {
            native.Starts[rank] = args.Starts[rank];
        }

        for (var i = 0; i < args.Arrays.Count; i++)
        {
            var array = args.Arrays[i];
            var (output, size) = (array.Output, array.Output.DType.SizeInBytes());
            var packed = (NativeGatherArray*)native.Arrays + i;
            packed->Output = output.Address;
            packed->RowBytes = output.Shape[1] * size;
            packed->SourceStride = array.Sources[0].Strides[0] * size;
            packed->OutputStride = output.Strides[0] * size;
            for (var rank = 0; rank < ranks; rank++)
            {
                packed->Sources[rank] = array.Sources[rank].Address;
            }
        }

        Check(octet_gather(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_device_enable_peer(SafeHandle device, SafeHandle peer);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_group_sync(in NativeGroupSyncArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_gather(in NativeGatherArgs args, SafeHandle stream);
}

/// <summary><c>octet_group_sync_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeGroupSyncArgs
{
    public nuint StructSize;
    public fixed long Signals[GroupSignals.MaxRanks];
    public nint Epoch;
    public nint Status;
    public int Rank;
    public int Ranks;
    public int TimeoutMs;
    public int Reserved;
}

/// <summary><c>octet_gather_array</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeGatherArray
{
    public const int Words = GroupSignals.MaxRanks + 4;

    public fixed long Sources[GroupSignals.MaxRanks];
    public nint Output;
    public long RowBytes;
    public long SourceStride;
    public long OutputStride;
}

/// <summary><c>octet_gather_args</c>; a fixed buffer holds no structs, so the arrays are words.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeGatherArgs
{
    public nuint StructSize;
    public fixed long Arrays[4 * NativeGatherArray.Words];
    public fixed long Starts[GroupSignals.MaxRanks + 1];
    public int ArrayCount;
    public int Rank;
    public int Ranks;
    public int Reserved;
}
