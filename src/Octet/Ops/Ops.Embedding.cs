namespace Octet;

/// <summary>Arguments of <see cref="Ops.Embedding"/>.</summary>
public struct EmbeddingArgs
{
    /// <summary>[vocabulary, hidden] BF16, contiguous.</summary>
    public required TensorView Table;

    /// <summary>[tokens] i32.</summary>
    public required TensorView Ids;

    /// <summary>[tokens, hidden] BF16.</summary>
    public required TensorView Output;
}

public static partial class Ops
{
    /// <summary>output[t] = table[ids[t]]; an id outside the vocabulary gives a row of zeros.</summary>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Embedding(DeviceStream stream, in EmbeddingArgs args)
    {
        var contract = new Contract("embedding", stream);
        Check(contract, in args);
        stream.Device.Backend.Embedding(stream, in args);
    }

    private static void Check(in Contract contract, in EmbeddingArgs args)
    {
        contract.Matrix("table", args.Table, DType.BFloat16);
        contract.Contiguous("table", args.Table, DType.BFloat16);
        contract.Matrix("output", args.Output, DType.BFloat16);
        contract.Tokens("output", args.Output.Shape[0], args.Output.Shape[1]);
        contract.Vector("ids", args.Ids, DType.Int32, args.Output.Shape[0]);
        contract.Require(args.Output.Shape[1] == args.Table.Shape[1], $"output {args.Output} and table {args.Table} differ in hidden");
    }
}
