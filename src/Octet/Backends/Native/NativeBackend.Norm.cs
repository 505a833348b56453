using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override unsafe void Norm(DeviceStream stream, in NormArgs args)
    {
        var native = new NativeNormArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeNormArgs>(),
            X = args.Nodes is null ? args.X.Address : 0,
            Residual = args.Residual.Address,
            Weight = args.Weight.Address,
            Output = args.Output.Address,
            Quantized = (args.Quantized?.Values ?? default).Address,
            Scales = (args.Quantized?.Scales ?? default).Address,
            Tokens = args.Tokens,
            Hidden = args.X.Shape[^1],
            XStride = args.X.Strides[^2],
            ResidualStride = StrideOf(args.Residual),
            OutputStride = StrideOf(args.Output),
            QuantizedStride = StrideOf(args.Quantized?.Values ?? default),
            ScaleStride = StrideOf(args.Quantized?.Scales ?? default),
            Eps = args.Eps,
            Fp8Dtype = Properties.Float8,
            PairSlots = args.PairSlots.Address,
            PairWeights = args.PairWeights.Address,
            XSegmentStride = args.X.Rank == 3 ? args.X.Strides[0] : 0,
            XSegments = args.X.Rank == 3 ? (int)args.X.Shape[0] : 0,
            TopK = args.PairWeights.IsNull ? 0 : (int)args.PairWeights.Shape[1],
            XLeaves = args.XLeaves,
            NodeCount = args.Nodes?.Count ?? 0,
            PairExperts = args.PairExperts.Address,
            FirstExpert = args.FirstExpert,
            LeafExperts = args.LeafExperts,
            Leaves = args.Leaves,
        };
        for (var i = 0; i < native.NodeCount; i++)
        {
            native.Nodes[i] = args.Nodes![i].Address;
        }

        Check(octet_norm(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_norm(in NativeNormArgs args, SafeHandle stream);
}

/// <summary><c>octet_norm_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeNormArgs
{
    public nuint StructSize;
    public nint X;
    public nint Residual;
    public nint Weight;
    public nint Output;
    public nint Quantized;
    public nint Scales;
    public long Tokens;
    public long Hidden;
    public long XStride;
    public long ResidualStride;
    public long OutputStride;
    public long QuantizedStride;
    public long ScaleStride;
    public float Eps;
    public DType Fp8Dtype;
    public nint PairSlots;
    public nint PairWeights;
    public long XSegmentStride;
    public int XSegments;
    public int TopK;
    public int XLeaves;
    public int NodeCount;
    public fixed long Nodes[8];
    public nint PairExperts;
    public int FirstExpert;
    public int LeafExperts;
    public int Leaves;
    public int Reserved;
}
