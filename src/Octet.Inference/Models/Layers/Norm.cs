using Octet.Inference.Loading;

namespace Octet.Inference.Models.Layers;

/// <summary>What a sublayer adds to the residual stream.</summary>
/// <param name="Values">
/// [tokens, hidden] BF16, or [segments, tokens, hidden] f32: partial sums; or [tokens * top_k, hidden] BF16: slots of experts. No tensor: nothing.
/// </param>
/// <param name="Leaves">Leaves of its sum's tree that are here: in the partial sums, or in the slots; 0: the sum is no tree.</param>
internal readonly record struct SublayerOutput(TensorView Values, int Leaves = 0)
{
    /// <summary>[tokens, hidden] BF16 of each rank, in order, <see cref="Values"/> the first: nodes of the sum's tree; null: all of it is here.</summary>
    public IReadOnlyList<TensorView>? Nodes { get; init; }

    /// <summary>Whether they are slots, to be combined by the step's routing.</summary>
    public bool AreSlots { get; init; }

    /// <summary>The first expert that has slots here.</summary>
    public int FirstExpert { get; init; }

    /// <summary>Experts whose slots make a leaf.</summary>
    public int LeafExperts { get; init; }
}

/// <summary>RMSNorm of the residual stream, which first takes up what the sublayer before gave: the rows of the rank's own tokens.</summary>
/// <param name="source">Where from.</param>
/// <param name="name">The weight [hidden], without ".weight".</param>
internal sealed class Norm(LayerSource source, string name)
{
    private readonly SafeTensor _source = source.Tensors.TakePlain($"{name}.weight", source.Config.HiddenSize);
    private readonly float _epsilon = (float)source.Config.RmsNormEpsilon;
    private TensorView _weight;

    /// <summary>Brings it to the device.</summary>
    public void Load(WeightLoader loader) => _weight = loader.LoadBFloat16(_source);

    /// <summary>Enqueues it.</summary>
    /// <param name="step">The step.</param>
    /// <param name="sum">Added to the residual stream before.</param>
    /// <param name="plain">Whether the BF16 rows are wanted.</param>
    /// <param name="quantized">Whether the FP8 rows are wanted.</param>
    public void Run(ForwardStep step, SublayerOutput sum, bool plain, bool quantized)
    {
        var buffers = step.Buffers;
        Ops.Norm(step.Stream, new()
        {
            X = sum.Values.IsNull ? step.Own(buffers.Residual) : sum.Values,
            XLeaves = sum.Values.Rank == 3 ? sum.Leaves : 0,
            Nodes = sum.Nodes,
            PairSlots = sum.AreSlots ? buffers.PairSlots : default,
            PairWeights = sum.AreSlots ? buffers.ExpertWeights : default,
            PairExperts = sum.AreSlots ? buffers.ExpertIds : default,
            FirstExpert = sum.FirstExpert,
            LeafExperts = sum.LeafExperts,
            Leaves = sum.AreSlots ? sum.Leaves : 0,
            Residual = sum.Values.IsNull ? default : step.Own(buffers.Residual),
            Weight = _weight,
            Eps = _epsilon,
            Output = plain ? step.Own(buffers.Normed) : default,
            Quantized = quantized ? step.Own(buffers.NormedQuantized) : null,
        });
    }
}
