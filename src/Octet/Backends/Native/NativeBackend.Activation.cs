using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void Activation(DeviceStream stream, in ActivationArgs args)
    {
        var native = new NativeActivationArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeActivationArgs>(),
            Gate = args.Gate.Address,
            Up = args.Up.Address,
            Output = args.Output.Address,
            Scales = args.Scales.Address,
            Rows = args.Gate.Shape[0],
            Columns = args.Gate.Shape[1],
            GateStride = args.Gate.Strides[0],
            UpStride = args.Up.Strides[0],
            OutputStride = args.Output.Strides[0],
            ScaleStride = StrideOf(args.Scales),
            OutputDtype = args.Output.DType,
        };
        Check(octet_activation(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_activation(in NativeActivationArgs args, SafeHandle stream);
}

/// <summary><c>octet_activation_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeActivationArgs
{
    public nuint StructSize;
    public nint Gate;
    public nint Up;
    public nint Output;
    public nint Scales;
    public long Rows;
    public long Columns;
    public long GateStride;
    public long UpStride;
    public long OutputStride;
    public long ScaleStride;
    public DType OutputDtype;
    public int Reserved;
}
