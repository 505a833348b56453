namespace Octet;

/// <summary>Arguments of <see cref="Ops.AttentionPrefill"/>; rows are tokens.</summary>
public struct AttentionPrefillArgs
{
    /// <summary>[rows, q_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView Q;

    /// <summary>Holds K and V of the whole context, those of the queries included.</summary>
    public required KvCache Cache;

    /// <summary>[sequences, blocks] i32 block numbers; blocks contiguous.</summary>
    public required TensorView BlockTable;

    /// <summary>[sequences + 1] i32, ascending: the rows of each sequence.</summary>
    public required TensorView QueryStarts;

    /// <summary>[sequences] i32: tokens in the cache, those of this chunk included.</summary>
    public required TensorView ContextLengths;

    /// <summary>Upper bound of the queries of one sequence.</summary>
    public required long MaxQueries;

    /// <summary>Upper bound of the context lengths.</summary>
    public required long MaxContext;

    /// <summary>Of the scores, usually 1/sqrt(head_dim).</summary>
    public required float Scale;

    /// <summary>Sliding window in tokens; 0: none.</summary>
    public int Window;

    /// <summary>[q_heads] f32; left out: none.</summary>
    public TensorView Sinks;

    /// <summary>[rows, q_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView Output;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

/// <summary>Arguments of <see cref="Ops.AttentionDecode"/>; row s*QueryLength + i is query i of sequence s.</summary>
public struct AttentionDecodeArgs
{
    /// <summary>Arguments with their defaults.</summary>
    public AttentionDecodeArgs()
    {
    }

    /// <summary>[rows, q_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView Q;

    /// <summary>Holds K and V of the whole context, those of the queries included.</summary>
    public required KvCache Cache;

    /// <summary>[sequences, blocks] i32 block numbers; blocks contiguous.</summary>
    public required TensorView BlockTable;

    /// <summary>[sequences] i32: tokens in the cache, those of the queries included; 0: padding, its rows become zeros.</summary>
    public required TensorView ContextLengths;

    /// <summary>Queries of each sequence, 1 to 4.</summary>
    public int QueryLength = 1;

    /// <summary>Upper bound of the context lengths.</summary>
    public required long MaxContext;

    /// <summary>Of the scores, usually 1/sqrt(head_dim).</summary>
    public required float Scale;

    /// <summary>Sliding window in tokens; 0: none.</summary>
    public int Window;

    /// <summary>[q_heads] f32; left out: none.</summary>
    public TensorView Sinks;

    /// <summary>[rows, q_heads, head_dim] BF16; heads contiguous within a token; left out: not wanted.</summary>
    public TensorView Output;

    /// <summary>[rows, q_heads*head_dim] FP8 of the device, scales [rows, ceil(q_heads*head_dim/128)]; left out: not wanted.</summary>
    public QuantizedTensor? Quantized;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

public static partial class Ops
{
    /// <summary>Causal attention of a chunk of queries over the paged cache: softmax(scale * q.k) v over the positions each query sees, in f32.</summary>
    /// <remarks>Query i of a sequence stands at position context - queries + i and sees p at most that (and more than that minus the window). sinks add exp(sink) to the denominator. Source of the tiled form: Dao et al., "FlashAttention", 2022.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args)
    {
        var contract = new Contract("attention_prefill", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.AttentionPrefillWorkspace(in args));
        stream.Device.Backend.AttentionPrefill(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="AttentionPrefill"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long AttentionPrefillWorkspace(Device device, in AttentionPrefillArgs args)
    {
        Check(new Contract("attention_prefill", device), in args);
        return device.Backend.AttentionPrefillWorkspace(in args);
    }

    private static void Check(in Contract contract, in AttentionPrefillArgs args)
    {
        contract.Attention(args.Q, args.Cache, args.BlockTable, args.ContextLengths, args.Sinks, args.MaxContext, args.Scale, args.Window);
        contract.Heads("output", args.Output, args.Q.Shape[0], args.Q.Shape[1], args.Cache.HeadDim);
        contract.Vector("query_starts", args.QueryStarts, DType.Int32, args.ContextLengths.ElementCount + 1);
        contract.Require(
            args.MaxQueries is >= 0 and <= Contract.MaxRows, $"max_queries = {args.MaxQueries} must be 0..{Contract.MaxRows}");
    }

    /// <summary>Attention of 1 to 4 queries of each sequence over the paged cache, split over the context in splits of a fixed number of tokens, combined in order; as BF16, as FP8 blocks for the projection behind it, or both.</summary>
    /// <remarks>The FP8 codes come from the f32 values. Same bits whatever the other sequences are. Source of the split: Dao et al., "Flash-Decoding", 2023.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args)
    {
        var contract = new Contract("attention_decode", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.AttentionDecodeWorkspace(in args));
        stream.Device.Backend.AttentionDecode(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="AttentionDecode"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long AttentionDecodeWorkspace(Device device, in AttentionDecodeArgs args)
    {
        Check(new Contract("attention_decode", device), in args);
        return device.Backend.AttentionDecodeWorkspace(in args);
    }

    private static void Check(in Contract contract, in AttentionDecodeArgs args)
    {
        contract.Attention(args.Q, args.Cache, args.BlockTable, args.ContextLengths, args.Sinks, args.MaxContext, args.Scale, args.Window);
        contract.Require(
            args.QueryLength is >= 1 and <= 4 && args.Q.Shape[0] == args.ContextLengths.ElementCount * args.QueryLength,
            $"q {args.Q}: rows must be sequences ({args.ContextLengths.ElementCount}) * query_length ({args.QueryLength}, 1..4)");
        contract.Require(!args.Output.IsNull || args.Quantized is not null, "output and quantized are both null");
        if (!args.Output.IsNull)
        {
            contract.Heads("output", args.Output, args.Q.Shape[0], args.Q.Shape[1], args.Cache.HeadDim);
        }

        if (args.Quantized is { } quantized)
        {
            contract.Quantized("quantized", quantized, args.Q.Shape[0], args.Q.Shape[1] * args.Cache.HeadDim);
        }
    }
}
