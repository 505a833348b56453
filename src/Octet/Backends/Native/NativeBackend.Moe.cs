using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void MoeRoute(DeviceStream stream, in MoeRouteArgs args)
    {
        var native = new NativeMoeRouteArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeMoeRouteArgs>(),
            Logits = args.Logits.Address,
            Ids = args.Ids.Address,
            Weights = args.Weights.Address,
            Tokens = args.Logits.Shape[^2],
            LogitsStride = args.Logits.Strides[^2],
            Experts = (int)args.Logits.Shape[^1],
            TopK = (int)args.Ids.Shape[1],
            Renormalize = args.Renormalize ? 1 : 0,
            LogitsSegments = args.Logits.Rank == 3 ? (int)args.Logits.Shape[0] : 0,
            LogitsSegmentStride = args.Logits.Rank == 3 ? args.Logits.Strides[0] : 0,
            ExpertOffsets = args.ExpertOffsets.Address,
            SlotPairs = args.SlotPairs.Address,
            PairSlots = args.PairSlots.Address,
            FirstExpert = args.FirstExpert,
            LocalExperts = args.ExpertOffsets.IsNull ? 0 : (int)args.ExpertOffsets.ElementCount - 1,
            ScoreBias = args.ScoreBias.Address,
            Scoring = args.Scoring,
        };
        Check(octet_moe_route(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_route(in NativeMoeRouteArgs args, SafeHandle stream);

    public override void MoeSort(DeviceStream stream, in MoeSortArgs args) =>
        Check(octet_moe_sort(Pack(in args), stream.Handle));

    public override long MoeSortWorkspace(in MoeSortArgs args)
    {
        Check(octet_moe_sort_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    private static NativeMoeSortArgs Pack(in MoeSortArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeMoeSortArgs>(),
        Ids = args.Ids.Address,
        ExpertOffsets = args.ExpertOffsets.Address,
        SlotPairs = args.SlotPairs.Address,
        PairSlots = args.PairSlots.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        Tokens = args.Ids.Shape[0],
        TopK = (int)args.Ids.Shape[1],
        Experts = args.Experts,
        FirstExpert = args.FirstExpert,
        LocalExperts = (int)args.ExpertOffsets.ElementCount - 1,
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_sort(in NativeMoeSortArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_sort_workspace(in NativeMoeSortArgs args, SafeHandle device, out nuint size);

    public override void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args) =>
        Check(octet_moe_gate_up(Pack(in args), stream.Handle));

    public override long MoeGateUpWorkspace(in MoeGateUpArgs args)
    {
        Check(octet_moe_gate_up_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    private static NativeMoeGateUpArgs Pack(in MoeGateUpArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeMoeGateUpArgs>(),
        X = args.X.Values.Address,
        XScales = args.X.Scales.Address,
        Gate = Pack(args.Gate),
        Up = Pack(args.Up),
        ExpertOffsets = args.ExpertOffsets.Address,
        SlotPairs = args.SlotPairs.Address,
        Output = args.Output.Values.Address,
        Scales = args.Output.Scales.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        Tokens = args.X.Values.Shape[0],
        XStride = args.X.Values.Strides[0],
        XScaleStride = args.X.Scales.Strides[0],
        OutputStride = args.Output.Values.Strides[0],
        ScaleStride = args.Output.Scales.Strides[0],
        TopK = args.TopK,
        LayerExperts = args.LayerExperts,
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_gate_up(in NativeMoeGateUpArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_gate_up_workspace(in NativeMoeGateUpArgs args, SafeHandle device, out nuint size);

    public override void MoeDown(DeviceStream stream, in MoeDownArgs args) =>
        Check(octet_moe_down(Pack(in args), stream.Handle));

    public override long MoeDownWorkspace(in MoeDownArgs args)
    {
        Check(octet_moe_down_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    private static NativeMoeDownArgs Pack(in MoeDownArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeMoeDownArgs>(),
        X = args.X.Values.Address,
        XScales = args.X.Scales.Address,
        Down = Pack(args.Down),
        ExpertOffsets = args.ExpertOffsets.Address,
        Output = args.Output.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        Tokens = args.X.Values.Shape[0] / args.TopK,
        XStride = args.X.Values.Strides[0],
        XScaleStride = args.X.Scales.Strides[0],
        OutputStride = args.Output.Strides[0],
        TopK = args.TopK,
        LayerExperts = args.LayerExperts,
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_down(in NativeMoeDownArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_down_workspace(in NativeMoeDownArgs args, SafeHandle device, out nuint size);

    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args)
    {
        var native = new NativeMoeCombineArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeMoeCombineArgs>(),
            Y = args.Y.Address,
            PairSlots = args.PairSlots.Address,
            Weights = args.Weights.Address,
            Output = args.Output.Address,
            Tokens = args.Output.Shape[0],
            Hidden = args.Output.Shape[1],
            YStride = args.Y.Strides[0],
            OutputStride = args.Output.Strides[0],
            TopK = (int)args.Weights.Shape[1],
            PairExperts = args.PairExperts.Address,
            FirstExpert = args.FirstExpert,
            LeafExperts = args.LeafExperts,
            Leaves = args.Leaves,
        };
        Check(octet_moe_combine(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_moe_combine(in NativeMoeCombineArgs args, SafeHandle stream);
}

/// <summary><c>octet_moe_route_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeMoeRouteArgs
{
    public nuint StructSize;
    public nint Logits;
    public nint Ids;
    public nint Weights;
    public long Tokens;
    public long LogitsStride;
    public int Experts;
    public int TopK;
    public int Renormalize;
    public int LogitsSegments;
    public long LogitsSegmentStride;
    public nint ExpertOffsets;
    public nint SlotPairs;
    public nint PairSlots;
    public int FirstExpert;
    public int LocalExperts;
    public nint ScoreBias;
    public MoeScoring Scoring;
    public int Reserved;
}

/// <summary><c>octet_moe_sort_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeMoeSortArgs
{
    public nuint StructSize;
    public nint Ids;
    public nint ExpertOffsets;
    public nint SlotPairs;
    public nint PairSlots;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long Tokens;
    public int TopK;
    public int Experts;
    public int FirstExpert;
    public int LocalExperts;
}

/// <summary><c>octet_moe_gate_up_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeMoeGateUpArgs
{
    public nuint StructSize;
    public nint X;
    public nint XScales;
    public NativeWeight Gate;
    public NativeWeight Up;
    public nint ExpertOffsets;
    public nint SlotPairs;
    public nint Output;
    public nint Scales;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long Tokens;
    public long XStride;
    public long XScaleStride;
    public long OutputStride;
    public long ScaleStride;
    public int TopK;
    public int LayerExperts;
}

/// <summary><c>octet_moe_down_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeMoeDownArgs
{
    public nuint StructSize;
    public nint X;
    public nint XScales;
    public NativeWeight Down;
    public nint ExpertOffsets;
    public nint Output;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long Tokens;
    public long XStride;
    public long XScaleStride;
    public long OutputStride;
    public int TopK;
    public int LayerExperts;
}

/// <summary><c>octet_moe_combine_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeMoeCombineArgs
{
    public nuint StructSize;
    public nint Y;
    public nint PairSlots;
    public nint Weights;
    public nint Output;
    public long Tokens;
    public long Hidden;
    public long YStride;
    public long OutputStride;
    public int TopK;
    public int Reserved;
    public nint PairExperts;
    public int FirstExpert;
    public int LeafExperts;
    public int Leaves;
    public int Reserved2;
}
