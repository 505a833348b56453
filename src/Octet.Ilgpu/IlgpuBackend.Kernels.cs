using System.Diagnostics.CodeAnalysis;
using ILGPU;
using ILGPU.Algorithms;
using ILGPU.Algorithms.ScanReduceOperations;
using ILGPU.Runtime;

namespace Octet.Ilgpu;

// Every kernel the ops launch; the generic ones once for each type of element they meet.
public sealed unsafe partial class IlgpuBackend
{
    private IlgpuKernel<EmbeddingKernel> _embedding;
    private IlgpuKernel<NormKernel> _norm;
    private IlgpuKernel<QuantizeKernel<ushort>> _quantizeBFloat16;
    private IlgpuKernel<QuantizeKernel<float>> _quantizeSingle;
    private IlgpuKernel<RepackKernel> _repack;
    private IlgpuKernel<ActivationKernel> _activation;
    private IlgpuKernel<GemmKernel<ushort>> _gemmBFloat16;
    private IlgpuKernel<GemmKernel<byte>> _gemmFloat8;
    private IlgpuKernel<MoeRouteKernel> _moeRoute;
    private IlgpuKernel<MoeSortKernel> _moeSortBegin, _moeSortEnd;
    private IlgpuKernel<MoeGateUpKernel> _moeGateUp;
    private IlgpuKernel<MoeDownKernel> _moeDown;
    private IlgpuKernel<MoeCombineKernel> _moeCombine;
    private IlgpuKernel<RopeKernel<ushort>> _ropeBFloat16;
    private IlgpuKernel<RopeKernel<byte>> _ropeFloat8;
    private IlgpuKernel<KvWriteKernel<ushort>> _kvWriteBFloat16;
    private IlgpuKernel<KvWriteKernel<byte>> _kvWriteFloat8;
    private IlgpuKernel<KvCopyKernel> _kvCopy;
    private IlgpuKernel<AttentionPrefillKernel<ushort>> _prefillBFloat16;
    private IlgpuKernel<AttentionPrefillKernel<byte>> _prefillFloat8;
    private IlgpuKernel<AttentionDecodeKernel<ushort>> _decodeBFloat16, _joinBFloat16;
    private IlgpuKernel<AttentionDecodeKernel<byte>> _decodeFloat8, _joinFloat8;
    private IlgpuKernel<SamplingKernel> _sampling;

    // ILGPU's own algorithms, for moe_sort.
    private RadixSortPairs<int, Stride1D.Dense, int, Stride1D.Dense> _sortPairs;
    private HistogramUnchecked<int, Stride1D.Dense, int> _countKeys;
    private Scan<int, Stride1D.Dense, Stride1D.Dense> _scanCounts;

    [MemberNotNull(
        nameof(_embedding), nameof(_norm), nameof(_quantizeBFloat16), nameof(_quantizeSingle), nameof(_repack), nameof(_activation),
        nameof(_gemmBFloat16), nameof(_gemmFloat8), nameof(_moeRoute), nameof(_moeSortBegin), nameof(_moeSortEnd), nameof(_moeGateUp),
        nameof(_moeDown), nameof(_moeCombine), nameof(_ropeBFloat16), nameof(_ropeFloat8), nameof(_kvWriteBFloat16),
        nameof(_kvWriteFloat8), nameof(_kvCopy), nameof(_prefillBFloat16), nameof(_prefillFloat8), nameof(_decodeBFloat16),
        nameof(_joinBFloat16), nameof(_decodeFloat8), nameof(_joinFloat8), nameof(_sampling), nameof(_sortPairs), nameof(_countKeys),
        nameof(_scanCounts))]
    private void Compile(IlgpuCompiler compiler)
    {
        _embedding = compiler.Compile<EmbeddingKernel>("embedding", EmbeddingKernel.Run);
        _norm = compiler.Compile<NormKernel>("norm", NormKernel.Run);
        _quantizeBFloat16 = compiler.Compile<QuantizeKernel<ushort>>("quantize", QuantizeKernel<ushort>.Run<BFloat16Element>);
        _quantizeSingle = compiler.Compile<QuantizeKernel<float>>("quantize", QuantizeKernel<float>.Run<SingleElement>);
        _repack = compiler.Compile<RepackKernel>("repack", RepackKernel.Run);
        _activation = compiler.Compile<ActivationKernel>("activation", ActivationKernel.Run);
        _moeRoute = compiler.Compile<MoeRouteKernel>("moe_route", MoeRouteKernel.Run);
        _moeSortBegin = compiler.Compile<MoeSortKernel>("moe_sort", MoeSortKernel.Begin);
        _moeSortEnd = compiler.Compile<MoeSortKernel>("moe_sort", MoeSortKernel.End);
        _moeCombine = compiler.Compile<MoeCombineKernel>("moe_combine", MoeCombineKernel.Run);
        _ropeBFloat16 = compiler.Compile<RopeKernel<ushort>>("rope", RopeKernel<ushort>.Run<BFloat16Element>);
        _ropeFloat8 = compiler.Compile<RopeKernel<byte>>("rope", RopeKernel<byte>.Run<Float8Element>);
        _kvWriteBFloat16 = compiler.Compile<KvWriteKernel<ushort>>("kv_write", KvWriteKernel<ushort>.Run<BFloat16Element>);
        _kvWriteFloat8 = compiler.Compile<KvWriteKernel<byte>>("kv_write", KvWriteKernel<byte>.Run<Float8Element>);
        _kvCopy = compiler.Compile<KvCopyKernel>("kv_copy", KvCopyKernel.Run);
        _prefillBFloat16 = compiler.Compile<AttentionPrefillKernel<ushort>>(
            "attention_prefill", AttentionPrefillKernel<ushort>.Run<BFloat16Element>);
        _prefillFloat8 = compiler.Compile<AttentionPrefillKernel<byte>>(
            "attention_prefill", AttentionPrefillKernel<byte>.Run<Float8Element>);
        _decodeBFloat16 = compiler.Compile<AttentionDecodeKernel<ushort>>(
            "attention_decode", AttentionDecodeKernel<ushort>.Run<BFloat16Element>);
        _decodeFloat8 = compiler.Compile<AttentionDecodeKernel<byte>>(
            "attention_decode", AttentionDecodeKernel<byte>.Run<Float8Element>);
        _joinBFloat16 = compiler.Compile<AttentionDecodeKernel<ushort>>("attention_decode", AttentionDecodeKernel<ushort>.Join);
        _joinFloat8 = compiler.Compile<AttentionDecodeKernel<byte>>("attention_decode", AttentionDecodeKernel<byte>.Join);
        _sampling = compiler.Compile<SamplingKernel>("sampling", SamplingKernel.Run);
        if (_shape.IsTiled)
        {
            CompileProducts<SharedTile>(compiler);
        }
        else
        {
            CompileProducts<SerialTile>(compiler);
        }

        (_sortPairs, _countKeys, _scanCounts) = compiler.Guarded("moe_sort", () => (
            _accelerator.CreateRadixSortPairs<int, Stride1D.Dense, int, Stride1D.Dense, ExpertKey>(),
            _accelerator.CreateHistogramUnchecked<int, Stride1D.Dense, int, CountIncrement, ExpertBin>(),
            _accelerator.CreateScan<int, Stride1D.Dense, Stride1D.Dense, AddInt32>(ScanKind.Exclusive)));
    }

    [MemberNotNull(nameof(_gemmBFloat16), nameof(_gemmFloat8), nameof(_moeGateUp), nameof(_moeDown))]
    private void CompileProducts<TTile>(IlgpuCompiler compiler) where TTile : struct, ITile
    {
        _gemmBFloat16 = compiler.Compile<GemmKernel<ushort>>("gemm", GemmKernel<ushort>.Run<TTile, BFloat16Element>);
        _gemmFloat8 = compiler.Compile<GemmKernel<byte>>("gemm", GemmKernel<byte>.Run<TTile, Float8Element>);
        _moeGateUp = compiler.Compile<MoeGateUpKernel>("moe_gate_up", MoeGateUpKernel.Run<TTile>);
        _moeDown = compiler.Compile<MoeDownKernel>("moe_down", MoeDownKernel.Run<TTile>);
    }
}
