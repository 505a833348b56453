using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed partial class NativeBackend
{
    public override void Embedding(DeviceStream stream, in EmbeddingArgs args)
    {
        var native = new NativeEmbeddingArgs
        {
            StructSize = (nuint)Unsafe.SizeOf<NativeEmbeddingArgs>(),
            Table = args.Table.Address,
            Ids = args.Ids.Address,
            Output = args.Output.Address,
            Vocabulary = args.Table.Shape[0],
            Tokens = args.Output.Shape[0],
            Hidden = args.Table.Shape[1],
            OutputStride = args.Output.Strides[0],
        };
        Check(octet_embedding(in native, stream.Handle));
    }

    [LibraryImport(Library)]
    private static partial OctetStatus octet_embedding(in NativeEmbeddingArgs args, SafeHandle stream);
}

/// <summary><c>octet_embedding_args</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeEmbeddingArgs
{
    public nuint StructSize;
    public nint Table;
    public nint Ids;
    public nint Output;
    public long Vocabulary;
    public long Tokens;
    public long Hidden;
    public long OutputStride;
}
