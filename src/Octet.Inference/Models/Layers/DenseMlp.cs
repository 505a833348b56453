using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>A gated MLP for all tokens: down(silu(gate(x)) * up(x)), its width divided over ranks.</summary>
internal sealed class DenseMlp : IMlp
{
    private readonly Linear _gate;
    private readonly Linear _up;
    private readonly Linear _down;

    /// <param name="source">Where from.</param>
    /// <param name="prefix">Of its tensors: ends in "mlp.".</param>
    /// <param name="names">What its projections are called.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, or of another type or shape.</exception>
    public DenseMlp(LayerSource source, string prefix, MlpNames names)
    {
        var (hidden, width) = (source.Config.HiddenSize, source.Config.IntermediateSize);
        var columns = source.Sharding.Width(ShardKind.Column);
        _gate = new(source, hidden, false, ($"{prefix}{names.Gate}", width, columns));
        _up = new(source, hidden, false, ($"{prefix}{names.Up}", width, columns));
        _down = new(source, width, false, ($"{prefix}{names.Down}", hidden, source.Sharding.Width(ShardKind.Row)));
    }

    public bool ReadsPlain => false;

    public void Load(WeightLoader loader)
    {
        _gate.Load(loader);
        _up.Load(loader);
        _down.Load(loader);
    }

    public SublayerOutput Run(ForwardStep step)
    {
        var buffers = step.Buffers;
        step.Take(SharedRows.Quantized);
        _gate.Run(step, buffers.NormedQuantized, buffers.DenseGate);
        _up.Run(step, buffers.NormedQuantized, buffers.DenseUp);
        var product = buffers.DenseQuantized;
        Ops.Activation(step.Stream, new() { Gate = buffers.DenseGate, Up = buffers.DenseUp, Output = product.Values, Scales = product.Scales });
        return _down.RunForNext(step, product, SharedSum.Mlp);
    }
}
