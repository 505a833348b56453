namespace Octet;

/// <summary>Arguments of <see cref="Ops.Sampling"/>.</summary>
public readonly struct SamplingArgs
{
    /// <summary>[rows, vocabulary] f32.</summary>
    public required Tensor Logits { get; init; }

    /// <summary>[rows] f32; 0: arg max.</summary>
    public required Tensor Temperatures { get; init; }

    /// <summary>[rows] i32; 0: all.</summary>
    public required Tensor TopK { get; init; }

    /// <summary>[rows] f32; 1 and more: all.</summary>
    public required Tensor TopP { get; init; }

    /// <summary>[rows] i64.</summary>
    public required Tensor Seeds { get; init; }

    /// <summary>[rows] i64, usually the position being sampled.</summary>
    public required Tensor Counters { get; init; }

    /// <summary>[rows] i32: the tokens chosen; -1 for a row with a logit that is not finite.</summary>
    public required Tensor Ids { get; init; }

    /// <summary>[bytes] u8 scratch memory; null where the workspace query says 0.</summary>
    public Tensor? Workspace { get; init; }
}

public static partial class Ops
{
    /// <summary>Temperature 0: the index of the largest logit (ties: lowest). Else one draw from softmax(logits/temperature) over the top_k largest and of those the smallest set of mass top_p.</summary>
    /// <remarks>The draw is arg max of logit/temperature - log(-log(u)) with u from Philox4x32-10 of (seed, counter, index): a pure function of its inputs. Ties at either edge are kept. A row with a logit that is not finite (NaN or an infinity of either sign) has no distribution: its id is -1, whatever its settings, and the other rows are not affected. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Sampling(DeviceStream stream, in SamplingArgs args)
    {
        var contract = new Contract("sampling", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.SamplingWorkspace(in args));
        stream.Device.Backend.Sampling(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="Sampling"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long SamplingWorkspace(Device device, in SamplingArgs args)
    {
        Check(new Contract("sampling", device), in args);
        return device.Backend.SamplingWorkspace(in args);
    }

    private static void Check(in Contract contract, in SamplingArgs args)
    {
        contract.Matrix("logits", args.Logits, DType.Float32);
        var (rows, vocabulary) = (args.Logits.Shape[0], args.Logits.Shape[1]);
        contract.Require(vocabulary >= 1 || rows == 0, $"logits {args.Logits}: the vocabulary is empty");
        contract.Tokens("logits", rows, vocabulary);
        contract.Vector("temperatures", args.Temperatures, DType.Float32, rows);
        contract.Vector("top_k", args.TopK, DType.Int32, rows);
        contract.Vector("top_p", args.TopP, DType.Float32, rows);
        contract.Vector("seeds", args.Seeds, DType.Int64, rows);
        contract.Vector("counters", args.Counters, DType.Int64, rows);
        contract.Vector("ids", args.Ids, DType.Int32, rows);
    }
}
