namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Embedding(DeviceStream stream, in EmbeddingArgs args)
    {
        var table = Pointer<BFloat16>(args.Table);
        var ids = Pointer<int>(args.Ids);
        var output = Pointer<BFloat16>(args.Output);
        var (vocabulary, hidden) = (args.Table.Shape[0], args.Table.Shape[1]);
        var sizeInBytes = hidden * sizeof(BFloat16);
        for (long token = 0; token < args.Output.Shape[0]; token++)
        {
            var row = output + (token * args.Output.Strides[0]);
            var id = ids[token];
            if (id >= 0 && id < vocabulary)
            {
                Buffer.MemoryCopy(table + (id * hidden), row, sizeInBytes, sizeInBytes);
            }
            else
            {
                new Span<BFloat16>(row, checked((int)hidden)).Clear();
            }
        }
    }
}
