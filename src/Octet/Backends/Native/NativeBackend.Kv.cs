using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void KvWrite(DeviceStream stream, in KvWriteArgs args)
    {
        var native = new NativeKvWriteArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeKvWriteArgs>(),
            K = args.K.Address,
            V = args.V.Address,
            Slots = args.Slots.Address,
            Cache = Pack(args.Cache),
            Tokens = args.K.Shape[0],
            KStride = args.K.Strides[0],
            VStride = args.V.Strides[0],
        };
        Check(octet_kv_write(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_kv_write(in NativeKvWriteArgs args, SafeHandle stream);

    public override void KvCopy(DeviceStream stream, in KvCopyArgs args)
    {
        var native = new NativeKvCopyArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeKvCopyArgs>(),
            Pairs = args.Pairs.Address,
            Cache = Pack(args.Cache),
            Count = args.Pairs.Shape[0],
        };
        Check(octet_kv_copy(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_kv_copy(in NativeKvCopyArgs args, SafeHandle stream);
}

/// <summary><c>octet_kv_write_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeKvWriteArgs
{
    public nuint StructSize;
    public nint K;
    public nint V;
    public nint Slots;
    public NativeKvCache Cache;
    public long Tokens;
    public long KStride;
    public long VStride;
}

/// <summary><c>octet_kv_copy_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeKvCopyArgs
{
    public nuint StructSize;
    public nint Pairs;
    public NativeKvCache Cache;
    public long Count;
}
