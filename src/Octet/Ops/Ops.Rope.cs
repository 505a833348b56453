namespace Octet;

/// <summary>Arguments of <see cref="Ops.Rope"/>.</summary>
public struct RopeArgs
{
    /// <summary>[tokens, q_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView Q;

    /// <summary>[tokens, kv_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView K;

    /// <summary>[tokens, kv_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView V;

    /// <summary>BF16, [head_dim]: each q head is normed by itself; or [q_heads*head_dim]: all of them together; left out: no norm.</summary>
    public TensorView QNorm;

    /// <summary>BF16, [head_dim]: each k head is normed by itself; or [kv_heads*head_dim]: all of them together; left out: no norm.</summary>
    /// <remarks>Where both are there, both are of one kind.</remarks>
    public TensorView KNorm;

    /// <summary>Of the norms.</summary>
    public float Eps;

    /// <summary>[max_position, rotary_dim] f32: rotary_dim/2 cosines, then rotary_dim/2 sines. rotary_dim: a multiple of 16 up to head_dim.</summary>
    public required TensorView CosSin;

    /// <summary>[tokens] i32.</summary>
    public required TensorView Positions;

    /// <summary>[tokens] i64: slot of each token in the cache; outside it nothing is written.</summary>
    public required TensorView Slots;

    /// <summary>[tokens, q_heads, head_dim] BF16; heads contiguous within a token.</summary>
    public required TensorView QOutput;

    /// <summary>K and V are rounded into it.</summary>
    public required KvCache Cache;

    /// <summary>Whether the norms are over all heads of a token together, by the lengths of their weights; with one head it is the same.</summary>
    public readonly bool NormsProjection => QNorm.ElementCount > Cache.HeadDim || KNorm.ElementCount > Cache.HeadDim;
}

public static partial class Ops
{
    /// <summary>Per token: optional RMSNorm of q and k (QK-norm), rotary embedding in the rotate-half form, q to the output, k and v rounded into the paged cache.</summary>
    /// <remarks>
    /// y = x / sqrt(mean(x^2) + eps) * weight, the mean over each head (Henry et al., "Query-Key Normalization for Transformers", 2020) or
    /// over all heads of the token together, before they are split (OLMo 2, MiniMax-M2). With d = rotary_dim and i below d/2:
    /// out[i] = y[i] cos - y[i + d/2] sin; out[i + d/2] = y[i + d/2] cos + y[i] sin; what lies from d on passes: out[i] = y[i].
    /// Source: Su et al., "RoFormer", 2021. One launch.
    /// </remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Rope(DeviceStream stream, in RopeArgs args)
    {
        var contract = new Contract("rope", stream);
        Check(contract, in args);
        stream.Device.Backend.Rope(stream, in args);
    }

    private static void Check(in Contract contract, in RopeArgs args)
    {
        contract.Cache(args.Cache);
        contract.Heads("q", args.Q, args.Cache.HeadDim);
        var (tokens, heads, dim) = (args.Q.Shape[0], args.Q.Shape[1], args.Q.Shape[2]);
        contract.Heads("k", args.K, tokens, args.Cache.KvHeads, dim);
        contract.Heads("v", args.V, tokens, args.Cache.KvHeads, dim);
        contract.Heads("q_output", args.QOutput, tokens, heads, dim);
        var together = args.NormsProjection;
        if (!args.QNorm.IsNull)
        {
            contract.Vector("q_norm", args.QNorm, DType.BFloat16, together ? heads * dim : dim);
        }

        if (!args.KNorm.IsNull)
        {
            contract.Vector("k_norm", args.KNorm, DType.BFloat16, together ? args.Cache.KvHeads * dim : dim);
        }

        contract.Matrix("cos_sin", args.CosSin, DType.Float32);
        contract.Contiguous("cos_sin", args.CosSin, DType.Float32);
        contract.Require(
            args.CosSin.Shape[0] >= 1 && args.CosSin.Shape[1] >= 16 && args.CosSin.Shape[1] <= dim && args.CosSin.Shape[1] % 16 == 0,
            $"cos_sin {args.CosSin}: must be [max_position, rotary_dim], rotary_dim a multiple of 16 up to head_dim = {dim}");
        contract.Vector("positions", args.Positions, DType.Int32, tokens);
        contract.Vector("slots", args.Slots, DType.Int64, tokens);
    }
}
