namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args) =>
        Quantize(stream, args.X, args.Output.Values, args.Output.Scales, Octet.Float8.Block);
}
