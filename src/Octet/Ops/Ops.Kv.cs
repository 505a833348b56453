namespace Octet;

/// <summary>Arguments of <see cref="Ops.KvWrite"/>.</summary>
public struct KvWriteArgs
{
    /// <summary>[tokens, kv_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView K;

    /// <summary>[tokens, kv_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView V;

    /// <summary>[tokens] i64; a slot outside the cache writes nothing.</summary>
    public required TensorView Slots;

    /// <summary>Where K and V go.</summary>
    public required KvCache Cache;
}

/// <summary>Arguments of <see cref="Ops.KvCopy"/>.</summary>
public struct KvCopyArgs
{
    /// <summary>[count, 2] i64: source and destination block.</summary>
    public required TensorView Pairs;

    /// <summary>The cache.</summary>
    public required KvCache Cache;
}

public static partial class Ops
{
    /// <summary>K and V rounded into the paged cache at the slots of their tokens.</summary>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void KvWrite(DeviceStream stream, in KvWriteArgs args)
    {
        var contract = new Contract("kv_write", stream);
        Check(contract, in args);
        stream.Device.Backend.KvWrite(stream, in args);
    }

    private static void Check(in Contract contract, in KvWriteArgs args)
    {
        contract.Cache(args.Cache);
        contract.Heads("k", args.K, args.Cache.HeadDim);
        contract.Heads("k", args.K, args.K.Shape[0], args.Cache.KvHeads, args.Cache.HeadDim);
        contract.Heads("v", args.V, args.K.Shape[0], args.Cache.KvHeads, args.Cache.HeadDim);
        contract.Vector("slots", args.Slots, DType.Int64, args.K.Shape[0]);
    }

    /// <summary>Copies whole blocks of K and V; pairs outside the cache are left out.</summary>
    /// <remarks>No block may be both a source and a destination.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void KvCopy(DeviceStream stream, in KvCopyArgs args)
    {
        var contract = new Contract("kv_copy", stream);
        Check(contract, in args);
        stream.Device.Backend.KvCopy(stream, in args);
    }

    private static void Check(in Contract contract, in KvCopyArgs args)
    {
        contract.Cache(args.Cache);
        contract.Matrix("pairs", args.Pairs, DType.Int64);
        contract.Contiguous("pairs", args.Pairs, DType.Int64);
        contract.Require(args.Pairs.Shape[1] == 2, $"pairs {args.Pairs} must be [count, 2]");
        contract.Tokens("pairs", args.Pairs.Shape[0], 2);
    }
}
