using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// The first and the last matrix of a model, [vocabulary, hidden] BF16 each, or one for both: rows of token ids, and logits of rows. The
/// vocabulary is divided over ranks.
/// </summary>
internal sealed class Head
{
    // Of a tied head that is stored too, as much is compared at a time.
    private const int ComparedBytes = 16 << 20;

    private readonly SafeTensor _embeddingSource;
    private readonly SafeTensor? _headSource;
    private readonly (long First, long Count) _range;
    private readonly long _vocabulary;
    private TensorView _embedding;
    private Weight _head = null!;

    /// <param name="source">Where from.</param>
    /// <param name="embedding">The embedding's name, without ".weight".</param>
    /// <param name="head">The head's name, without ".weight"; by config.json it may be the embedding.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, or of another type or shape.</exception>
    public Head(LayerSource source, string embedding, string head)
    {
        var (tensors, config) = (source.Tensors, source.Config);
        _vocabulary = config.VocabularySize;
        _range = source.Sharding.Vocabulary.Of(_vocabulary);
        _embeddingSource = tensors.TakePlain($"{embedding}.weight", config.VocabularySize, config.HiddenSize);
        if (!config.TieWordEmbeddings)
        {
            _headSource = tensors.TakePlain($"{head}.weight", config.VocabularySize, config.HiddenSize);
        }
        else if (tensors.Find($"{head}.weight") is { } stored)
        {
            RequireSame(stored, _embeddingSource, _range);
        }
    }

    /// <summary>Brings both to the device.</summary>
    public void Load(WeightLoader loader)
    {
        _embedding = loader.LoadBFloat16(_embeddingSource, _range.First, _range.Count);
        _head = new Weight { Values = _headSource is null ? _embedding : loader.LoadBFloat16(_headSource, _range.First, _range.Count) };
    }

    /// <summary>
    /// Enqueues the residual stream's beginning, the rows of the step's tokens; gives what is to be added to it. Over several ranks that is a
    /// sum, of which the rank that has a token's row gives the row and all others zeros.
    /// </summary>
    public SublayerOutput Embed(ForwardStep step)
    {
        var buffers = step.Buffers;
        if (step.Exchange is null)
        {
            Ops.Embedding(step.Stream, new() { Table = _embedding, Ids = step.Input.Ids, Output = buffers.Residual });
            return default;
        }

        Ops.Embedding(step.Stream, new() { Table = _embedding, Ids = step.Input.Ids, Output = buffers.Node(SharedSum.Embedding) });
        step.Stream.Fill(buffers.Residual, 0);
        return step.Share(SharedSum.Embedding);
    }

    /// <summary>Enqueues the rank's part of the logits, [rows, part of the vocabulary] f32, of normed rows [rows, hidden] BF16.</summary>
    public void Run(ForwardStep step, TensorView rows, TensorView logits) =>
        step.Gemm(new() { A = rows, B = _head, FullN = _vocabulary, Output = logits });

    // A head that is stored although it is tied may be ignored only where that changes nothing. Each rank looks at its rows.
    private static void RequireSame(SafeTensor head, SafeTensor embedding, (long First, long Count) rows)
    {
        var same = head.Type == embedding.Type && head.Shape.SequenceEqual(embedding.Shape);
        if (same)
        {
            var bytesPerRow = head.SizeInBytes / head.Shape[0];
            var (first, end) = (rows.First * bytesPerRow, (rows.First + rows.Count) * bytesPerRow);
            var (one, other) = (new byte[Math.Min(ComparedBytes, end - first)], new byte[Math.Min(ComparedBytes, end - first)]);
            for (var offset = first; same && offset < end; offset += ComparedBytes)
            {
                var length = (int)Math.Min(ComparedBytes, end - offset);
                head.Read(offset, one.AsSpan(0, length));
                embedding.Read(offset, other.AsSpan(0, length));
                same = one.AsSpan(0, length).SequenceEqual(other.AsSpan(0, length));
            }
        }

        if (!same)
        {
            throw new ModelFormatException(
                $"{head.File}: tensor {head} differs from {embedding}, but config.json has tie_word_embeddings true, which would ignore it; set that to false or remove the tensor");
        }
    }
}
