using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args) =>
        Check(octet_attention_prefill(Pack(in args), stream.Handle));

    public override long AttentionPrefillWorkspace(in AttentionPrefillArgs args)
    {
        Check(octet_attention_prefill_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    private static NativeAttentionPrefillArgs Pack(in AttentionPrefillArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeAttentionPrefillArgs>(),
        Q = args.Q.Address,
        Cache = Pack(args.Cache),
        BlockTable = args.BlockTable.Address,
        QueryStarts = args.QueryStarts.Address,
        ContextLengths = args.ContextLengths.Address,
        Sinks = args.Sinks.Address,
        Output = args.Output.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        Tokens = args.Q.Shape[0],
        Sequences = args.ContextLengths.ElementCount,
        MaxQueries = args.MaxQueries,
        MaxContext = args.MaxContext,
        QStride = args.Q.Strides[0],
        OutputStride = args.Output.Strides[0],
        BlockTableStride = args.BlockTable.Strides[0],
        QHeads = (int)args.Q.Shape[1],
        Window = args.Window,
        Scale = args.Scale,
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_attention_prefill(in NativeAttentionPrefillArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_attention_prefill_workspace(in NativeAttentionPrefillArgs args, SafeHandle device, out nuint size);

    public override void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args) =>
        Check(octet_attention_decode(Pack(in args), stream.Handle));

    public override long AttentionDecodeWorkspace(in AttentionDecodeArgs args)
    {
        Check(octet_attention_decode_workspace(Pack(in args), _device, out var size));
        return (long)size;
    }

    private static NativeAttentionDecodeArgs Pack(in AttentionDecodeArgs args) => new()
    {
        StructSize = (nuint)Unsafe.SizeOf<NativeAttentionDecodeArgs>(),
        Q = args.Q.Address,
        Cache = Pack(args.Cache),
        BlockTable = args.BlockTable.Address,
        ContextLengths = args.ContextLengths.Address,
        Sinks = args.Sinks.Address,
        Output = args.Output.Address,
        Workspace = args.Workspace.Address,
        WorkspaceSize = (nuint)args.Workspace.SizeInBytes,
        Sequences = args.ContextLengths.ElementCount,
        MaxContext = args.MaxContext,
        QStride = args.Q.Strides[0],
        OutputStride = StrideOf(args.Output),
        BlockTableStride = args.BlockTable.Strides[0],
        QueryLength = args.QueryLength,
        QHeads = (int)args.Q.Shape[1],
        Window = args.Window,
        Scale = args.Scale,
        Quantized = (args.Quantized?.Values ?? default).Address,
        Scales = (args.Quantized?.Scales ?? default).Address,
        QuantizedStride = StrideOf(args.Quantized?.Values ?? default),
        ScaleStride = StrideOf(args.Quantized?.Scales ?? default),
    };

    [LibraryImport(Library)]
    private static partial OctetStatus octet_attention_decode(in NativeAttentionDecodeArgs args, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_attention_decode_workspace(in NativeAttentionDecodeArgs args, SafeHandle device, out nuint size);
}

/// <summary><c>octet_attention_prefill_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeAttentionPrefillArgs
{
    public nuint StructSize;
    public nint Q;
    public NativeKvCache Cache;
    public nint BlockTable;
    public nint QueryStarts;
    public nint ContextLengths;
    public nint Sinks;
    public nint Output;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long Tokens;
    public long Sequences;
    public long MaxQueries;
    public long MaxContext;
    public long QStride;
    public long OutputStride;
    public long BlockTableStride;
    public int QHeads;
    public int Window;
    public float Scale;
    public int Reserved;
}

/// <summary><c>octet_attention_decode_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeAttentionDecodeArgs
{
    public nuint StructSize;
    public nint Q;
    public NativeKvCache Cache;
    public nint BlockTable;
    public nint ContextLengths;
    public nint Sinks;
    public nint Output;
    public nint Workspace;
    public nuint WorkspaceSize;
    public long Sequences;
    public long MaxContext;
    public long QStride;
    public long OutputStride;
    public long BlockTableStride;
    public int QueryLength;
    public int QHeads;
    public int Window;
    public float Scale;
    public nint Quantized;
    public nint Scales;
    public long QuantizedStride;
    public long ScaleStride;
}
