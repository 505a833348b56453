using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void Rope(DeviceStream stream, in RopeArgs args)
    {
        var native = new NativeRopeArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeRopeArgs>(),
            Q = args.Q.Address,
            K = args.K.Address,
            V = args.V.Address,
            QNorm = args.QNorm.Address,
            KNorm = args.KNorm.Address,
            CosSin = args.CosSin.Address,
            Positions = args.Positions.Address,
            Slots = args.Slots.Address,
            QOutput = args.QOutput.Address,
            Cache = Pack(args.Cache),
            Tokens = args.Q.Shape[0],
            MaxPosition = args.CosSin.Shape[0],
            QStride = args.Q.Strides[0],
            KStride = args.K.Strides[0],
            VStride = args.V.Strides[0],
            QOutputStride = args.QOutput.Strides[0],
            QHeads = (int)args.Q.Shape[1],
            Eps = args.Eps,
            RotaryDim = (int)args.CosSin.Shape[1],
            NormProjection = args.NormsProjection ? 1 : 0,
        };
        Check(octet_rope(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_rope(in NativeRopeArgs args, SafeHandle stream);
}

/// <summary><c>octet_rope_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeRopeArgs
{
    public nuint StructSize;
    public nint Q;
    public nint K;
    public nint V;
    public nint QNorm;
    public nint KNorm;
    public nint CosSin;
    public nint Positions;
    public nint Slots;
    public nint QOutput;
    public NativeKvCache Cache;
    public long Tokens;
    public long MaxPosition;
    public long QStride;
    public long KStride;
    public long VStride;
    public long QOutputStride;
    public int QHeads;
    public float Eps;
    public int RotaryDim;
    public int NormProjection;
}
