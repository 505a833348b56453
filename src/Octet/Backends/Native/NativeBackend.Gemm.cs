using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void Gemm(DeviceStream stream, in GemmArgs args) =>
        Check(octet_gemm(Pack(in args), stream.Handle));

    public override long GemmWorkspace(in GemmArgs args)
    {
        Check(octet_gemm_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    public override int GemmSegments(in GemmArgs args)
    {
        Check(octet_gemm_segments(Pack(in args), _device, out var segments));
        return segments;
    }

    private static NativeGemmArgs Pack(in GemmArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeGemmArgs>(),
        A = args.A.Address,
        AScales = args.AScales.Address,
        B = Pack(args.B),
        Bias = args.Bias.Address,
        Output = args.Output.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        M = args.A.Shape[0],
        AStride = args.A.Strides[0],
        AScaleStride = StrideOf(args.AScales),
        OutputStride = args.Output.Strides[^2],
        OutputDtype = args.Output.DType,
        OutputSegments = args.Output.Rank == 3 ? (int)args.Output.Shape[0] : 0,
        OutputSegmentStride = args.Output.Rank == 3 ? args.Output.Strides[0] : 0,
        FullN = args.FullN,
        FullK = args.FullK,
        Leaves = args.Leaves,
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_gemm(in NativeGemmArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_gemm_workspace(in NativeGemmArgs args, SafeHandle device, out nuint size);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_gemm_segments(in NativeGemmArgs args, SafeHandle device, out int segments);
}

/// <summary><c>octet_gemm_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeGemmArgs
{
    public nuint StructSize;
    public nint A;
    public nint AScales;
    public NativeWeight B;
    public nint Bias;
    public nint Output;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long M;
    public long AStride;
    public long AScaleStride;
    public long OutputStride;
    public DType OutputDtype;
    public int OutputSegments;
    public long OutputSegmentStride;
    public long FullN;
    public long FullK;
    public int Leaves;
    public int Reserved;
}
