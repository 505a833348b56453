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

    private static NativeGemmArgs Pack(in GemmArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeGemmArgs>(),
        A = args.A.Address,
        AScales = AddressOf(args.AScales),
        B = Pack(args.B),
        Bias = AddressOf(args.Bias),
        Output = args.Output.Address,
        Workspace = AddressOf(args.Workspace),
        WorkspaceSize = (nuint)(args.Workspace?.SizeInBytes ?? 0),
        M = args.A.Shape[0],
        AStride = args.A.Strides[0],
        AScaleStride = StrideOf(args.AScales),
        OutputStride = args.Output.Strides[0],
        OutputDtype = args.Output.DType,
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_gemm(in NativeGemmArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_gemm_workspace(in NativeGemmArgs args, SafeHandle device, out nuint size);
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
    public int Reserved;
}
