using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models.Layers;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models;

/// <summary>What a model keeps of each token: the shape of its KV cache.</summary>
/// <param name="Layers">Layers with a cache.</param>
/// <param name="Heads">KV heads.</param>
/// <param name="HeadDim">Values per head.</param>
internal readonly record struct KvLayout(int Layers, int Heads, int HeadDim)
{
    /// <summary>Bytes one token takes in all layers.</summary>
    public long BytesPerToken(KvEncoding encoding) => 2L * Layers * Heads * HeadDim * (encoding == KvEncoding.BFloat16 ? 2 : 1);
}

/// <summary>
/// A model as the engine sees it: made from a checkpoint, then loaded, then prepared for steps of a size, then run. Ops are enqueued on the
/// device's stream; nothing is read back here.
/// </summary>
internal interface IModel : IDisposable
{
    /// <summary>The shape of its KV cache.</summary>
    KvLayout Kv { get; }

    /// <summary>The scales of each layer's FP8 KV cache; null: the checkpoint has none.</summary>
    IReadOnlyList<KvScales?> KvScales { get; }

    /// <summary>Tokens of the vocabulary.</summary>
    int VocabularySize { get; }

    /// <summary>The most rows of logits one call of <see cref="Head(int, int)"/> gives.</summary>
    int MaxRows { get; }

    /// <summary>Where it is one rank of several: what its steps share with its peers; null: it has none.</summary>
    Exchange? Exchange { get; }

    /// <summary>[outputs, vocabulary] f32, of the rank that draws: what the last call of <see cref="Head(StepInput)"/> or <see cref="Head(int, int)"/> gave, and behind it what older ones did.</summary>
    TensorView Logits { get; }

    /// <summary>Brings its weights to the device.</summary>
    /// <exception cref="ModelFormatException">A weight or a scale is not one that may be.</exception>
    void Load(WeightLoader loader);

    /// <summary>Takes the memory of its steps.</summary>
    /// <param name="device">Where its weights are.</param>
    /// <param name="cache">Its KV cache.</param>
    /// <param name="workspace">Scratch memory of the ops.</param>
    /// <param name="bounds">The largest step.</param>
    /// <param name="rankTimeout">Where it is one rank of several: how long it waits for a peer.</param>
    void Prepare(Device device, PagedKvCache cache, Workspace workspace, StepBounds bounds, TimeSpan rankTimeout);

    /// <summary>Reads the step's tokens through all layers; K and V of every layer are in the cache afterwards.</summary>
    void Run(StepInput input);

    /// <summary>Logits of the outputs of the step of the last <see cref="Run"/>: [outputs, vocabulary] f32, valid until the next call, on the rank that draws.</summary>
    TensorView Head(StepInput input);

    /// <summary>Logits of some tokens of the last <see cref="Run"/>, at most <see cref="MaxRows"/>: [count, vocabulary] f32, valid until the next call, on the rank that draws.</summary>
    TensorView Head(int first, int count);
}
