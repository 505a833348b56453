namespace Octet;

/// <summary>Arguments of <see cref="Ops.Activation"/>.</summary>
public struct ActivationArgs
{
    /// <summary>[rows, columns] BF16.</summary>
    public required TensorView Gate;

    /// <summary>[rows, columns] BF16.</summary>
    public required TensorView Up;

    /// <summary>[rows, columns] BF16 or FP8 of the device.</summary>
    public required TensorView Output;

    /// <summary>[rows, ceil(columns/128)] f32 with FP8; left out with BF16.</summary>
    public TensorView Scales;
}

public static partial class Ops
{
    /// <summary>SwiGLU: y = silu(gate) * up, as BF16 or as FP8 blocks quantised from y in f32.</summary>
    /// <remarks>silu(x) = x / (1 + exp(-x)). Source: Shazeer, "GLU Variants Improve Transformer", 2020.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Activation(DeviceStream stream, in ActivationArgs args)
    {
        var contract = new Contract("activation", stream);
        Check(contract, in args);
        stream.Device.Backend.Activation(stream, in args);
    }

    private static void Check(in Contract contract, in ActivationArgs args)
    {
        contract.Matrix("gate", args.Gate, DType.BFloat16);
        var (rows, columns) = (args.Gate.Shape[0], args.Gate.Shape[1]);
        contract.Tokens("gate", rows, columns);
        contract.Matrix("up", args.Up, rows, columns, DType.BFloat16);
        contract.Matrix("output", args.Output, rows, columns, DType.BFloat16, contract.Float8);
        contract.Require(
            (!args.Scales.IsNull) == args.Output.DType.IsFloat8(), $"scales go with FP8 only, output is {args.Output.DType}");
        if (!args.Scales.IsNull)
        {
            contract.Matrix("scales", args.Scales, rows, Contract.Blocks(columns), DType.Float32);
        }
    }
}
