using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void Sampling(DeviceStream stream, in SamplingArgs args) =>
        Check(octet_sampling(Pack(in args), stream.Handle));

    public override long SamplingWorkspace(in SamplingArgs args)
    {
        Check(octet_sampling_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    private static NativeSamplingArgs Pack(in SamplingArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeSamplingArgs>(),
        Logits = args.Logits.Address,
        Temperatures = args.Temperatures.Address,
        TopK = args.TopK.Address,
        TopP = args.TopP.Address,
        Seeds = args.Seeds.Address,
        Counters = args.Counters.Address,
        Ids = args.Ids.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        Rows = args.Logits.Shape[0],
        Vocabulary = args.Logits.Shape[1],
        LogitsStride = args.Logits.Strides[0],
        MinP = args.MinP.Address,
        AdjustmentStarts = (args.Adjustments?.Starts ?? default).Address,
        AdjustedTokens = (args.Adjustments?.Tokens ?? default).Address,
        Penalties = (args.Adjustments?.Penalties ?? default).Address,
        Biases = (args.Adjustments?.Biases ?? default).Address,
        MaskRows = (args.Masks?.Rows ?? default).Address,
        Masks = (args.Masks?.Words ?? default).Address,
        LogprobCounts = (args.Logprobs?.Counts ?? default).Address,
        TokenLogprobs = (args.Logprobs?.Drawn ?? default).Address,
        TopIds = (args.Logprobs?.Ids ?? default).Address,
        TopLogprobs = (args.Logprobs?.Values ?? default).Address,
        Adjustments = args.Adjustments?.Tokens.ElementCount ?? 0,
        MasksStride = args.Masks?.Words.Strides[0] ?? 0,
        Alternatives = (int)(args.Logprobs?.Ids.Shape[1] ?? 0),
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_sampling(in NativeSamplingArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_sampling_workspace(in NativeSamplingArgs args, SafeHandle device, out nuint size);
}

/// <summary><c>octet_sampling_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeSamplingArgs
{
    public nuint StructSize;
    public nint Logits;
    public nint Temperatures;
    public nint TopK;
    public nint TopP;
    public nint Seeds;
    public nint Counters;
    public nint Ids;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long Rows;
    public long Vocabulary;
    public long LogitsStride;
    public nint MinP;
    public nint AdjustmentStarts;
    public nint AdjustedTokens;
    public nint Penalties;
    public nint Biases;
    public nint MaskRows;
    public nint Masks;
    public nint LogprobCounts;
    public nint TokenLogprobs;
    public nint TopIds;
    public nint TopLogprobs;
    public long Adjustments;
    public long MasksStride;
    public int Alternatives;
}
