using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary><c>octet_weight</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeWeight
{
    public nint Data;
    public nint Scales;
    public long N;
    public long K;
    public long RowStride;
    public long ExpertStride;
    public long ScaleRowStride;
    public long ScaleExpertStride;
    public int Experts;
    public int ScaleRowOffset;
    public int ScaleColumnOffset;
    public DType Dtype;
    public WeightLayout Layout;
    public int Reserved;
}

/// <summary><c>octet_kv_cache</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeKvCache
{
    public nint K;
    public nint V;
    public nint KScales;
    public nint VScales;
    public long Blocks;
    public int KvHeads;
    public int BlockSize;
    public int HeadDim;
    public int ScaleCount;
    public DType Dtype;
    public int Reserved;
}
