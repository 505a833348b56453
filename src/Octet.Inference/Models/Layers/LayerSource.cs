using Octet.Inference.Loading;

namespace Octet.Inference.Models.Layers;

/// <summary>What layers are made from: the checkpoint, the model's shape, and which rank of which group they are for.</summary>
/// <param name="Tensors">Of the checkpoint.</param>
/// <param name="Config">The shape of the whole model.</param>
/// <param name="Sharding">The rank; <see cref="Sharding.Check"/> has passed.</param>
internal sealed record LayerSource(ITensorSource Tensors, ModelConfig Config, Sharding Sharding);
