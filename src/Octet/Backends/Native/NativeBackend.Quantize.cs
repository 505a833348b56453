using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void Quantize(DeviceStream stream, in QuantizeArgs args)
    {
        var native = new NativeQuantizeArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeQuantizeArgs>(),
            X = args.X.Address,
            Output = args.Output.Values.Address,
            Scales = args.Output.Scales.Address,
            Rows = args.X.Shape[0],
            Columns = args.X.Shape[1],
            XStride = args.X.Strides[0],
            OutputStride = args.Output.Values.Strides[0],
            ScaleStride = args.Output.Scales.Strides[0],
            XDtype = args.X.DType,
            OutputDtype = args.Output.Values.DType,
        };
        Check(octet_quantize(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_quantize(in NativeQuantizeArgs args, SafeHandle stream);

    public override void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args)
    {
        var native = new NativeQuantizeWeightArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeQuantizeWeightArgs>(),
            X = args.X.Address,
            Output = args.Output.Values.Address,
            Scales = args.Output.Scales.Address,
            Rows = args.X.Shape[0],
            Columns = args.X.Shape[1],
            XStride = args.X.Strides[0],
            OutputStride = args.Output.Values.Strides[^2],
            ScaleStride = args.Output.Scales.Strides[^2],
            XDtype = args.X.DType,
            OutputDtype = args.Output.Values.DType,
        };
        Check(octet_quantize_weight(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_quantize_weight(in NativeQuantizeWeightArgs args, SafeHandle stream);

    public override void Repack(DeviceStream stream, in RepackArgs args)
    {
        var native = new NativeRepackArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeRepackArgs>(),
            X = args.Values.Address,
            XScales = args.Scales.Address,
            Output = args.OutputValues.Address,
            Scales = args.OutputScales.Address,
            Count = args.Values.ElementCount,
            ScaleCount = args.Scales.ElementCount,
        };
        Check(octet_repack(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_repack(in NativeRepackArgs args, SafeHandle stream);
}

/// <summary><c>octet_quantize_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeQuantizeArgs
{
    public nuint StructSize;
    public nint X;
    public nint Output;
    public nint Scales;
    public long Rows;
    public long Columns;
    public long XStride;
    public long OutputStride;
    public long ScaleStride;
    public DType XDtype;
    public DType OutputDtype;
}

/// <summary><c>octet_quantize_weight_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeQuantizeWeightArgs
{
    public nuint StructSize;
    public nint X;
    public nint Output;
    public nint Scales;
    public long Rows;
    public long Columns;
    public long XStride;
    public long OutputStride;
    public long ScaleStride;
    public DType XDtype;
    public DType OutputDtype;
}

/// <summary><c>octet_repack_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeRepackArgs
{
    public nuint StructSize;
    public nint X;
    public nint XScales;
    public nint Output;
    public nint Scales;
    public long Count;
    public long ScaleCount;
}
