namespace Octet;

/// <summary>Arguments of <see cref="Ops.Quantize"/>.</summary>
public struct QuantizeArgs
{
    /// <summary>[rows, columns] BF16 or f32; columns contiguous.</summary>
    public required TensorView X;

    /// <summary>[rows, columns] FP8 of the device, scales [rows, ceil(columns/128)].</summary>
    public required QuantizedTensor Output;
}

/// <summary>Arguments of <see cref="Ops.QuantizeWeight"/>.</summary>
public struct QuantizeWeightArgs
{
    /// <summary>[n, k] BF16 or f32; k contiguous.</summary>
    public required TensorView X;

    /// <summary>[n, k] FP8 of the device, scale offsets 0.</summary>
    public required Weight Output;
}

/// <summary>Arguments of <see cref="Ops.Repack"/>.</summary>
public struct RepackArgs
{
    /// <summary>FP8 OCP codes, contiguous.</summary>
    public required TensorView Values;

    /// <summary>f32, contiguous.</summary>
    public required TensorView Scales;

    /// <summary>As many FNUZ codes; may share the memory of Values.</summary>
    public required TensorView OutputValues;

    /// <summary>As many scales; may be Scales.</summary>
    public required TensorView OutputScales;
}

public static partial class Ops
{
    /// <summary>Rows to FP8 with one scale per row and 128 columns: scale = amax/448 (OCP) or amax/224 (FNUZ), 1 where that is 0; code = nearest even of x/scale, saturated.</summary>
    /// <remarks>NaN and infinities take no part in amax and become the NaN code.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Quantize(DeviceStream stream, in QuantizeArgs args)
    {
        var contract = new Contract("quantize", stream);
        Check(contract, in args);
        stream.Device.Backend.Quantize(stream, in args);
    }

    private static void Check(in Contract contract, in QuantizeArgs args)
    {
        contract.Matrix("x", args.X, DType.BFloat16, DType.Float32, mayOverlap: true);
        contract.Tokens("x", args.X.Shape[0], args.X.Shape[1]);
        contract.Quantized("output", args.Output, args.X.Shape[0], args.X.Shape[1]);
    }

    /// <summary>A matrix to FP8 with one scale per 128 x 128 block, by the rule of <see cref="Quantize"/>.</summary>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args)
    {
        var contract = new Contract("quantize_weight", stream);
        Check(contract, in args);
        stream.Device.Backend.QuantizeWeight(stream, in args);
    }

    private static void Check(in Contract contract, in QuantizeWeightArgs args)
    {
        contract.Matrix("x", args.X, DType.BFloat16, DType.Float32, mayOverlap: true);
        contract.Weight("output", args.Output);
        contract.WeightShape("output", args.Output, args.X.Shape[0], args.X.Shape[1], 1);
        contract.Require(
            args.Output.Values.DType == contract.Float8 && args.Output is { ScaleRowOffset: 0, ScaleColumnOffset: 0 },
            $"output {args.Output.Values} must be {contract.Float8} without scale offsets");
    }

    /// <summary>OCP codes and scales to FNUZ, exact for every finite code: 0x80 (-0) becomes 0x00 and the scales double; NaN stays NaN.</summary>
    /// <remarks>In place where the tensors are the same memory.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Repack(DeviceStream stream, in RepackArgs args)
    {
        var contract = new Contract("repack", stream);
        Check(contract, in args);
        stream.Device.Backend.Repack(stream, in args);
    }

    private static void Check(in Contract contract, in RepackArgs args)
    {
        contract.Contiguous("values", args.Values, DType.Float8E4M3);
        contract.Contiguous("scales", args.Scales, DType.Float32);
        contract.Contiguous("output_values", args.OutputValues, DType.Float8E4M3Fnuz);
        contract.Contiguous("output_scales", args.OutputScales, DType.Float32);
        contract.Require(
            args.Values.ElementCount <= Contract.MaxWeightElements && args.Scales.ElementCount <= int.MaxValue,
            $"{args.Values}, {args.Scales}: one call takes at most {Contract.MaxWeightElements} codes and {int.MaxValue} scales");
        contract.Require(
            args.Values.ElementCount == args.OutputValues.ElementCount && args.Scales.ElementCount == args.OutputScales.ElementCount,
            $"{args.Values} to {args.OutputValues}, {args.Scales} to {args.OutputScales}: counts must agree");
    }
}
