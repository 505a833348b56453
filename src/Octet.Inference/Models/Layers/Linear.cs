using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// y = x W^T (+ bias), FP8 with a scale for each block of 128 x 128. Several projections of the same input are one: q, k and v lie under each
/// other in one weight where their scale blocks allow it and they are copied to the device, else they are a weight each.
/// </summary>
internal sealed class Linear
{
    private readonly long _fullN;
    private readonly long _fullK;
    private readonly MatrixSource[] _sources;
    private readonly (SafeTensor Tensor, long First, long Count)[] _biasSources;
    private Weight[] _weights = [];
    private TensorView[] _biases = [];

    /// <param name="source">Where from.</param>
    /// <param name="k">Input features.</param>
    /// <param name="hasBias">Whether each part has a bias.</param>
    /// <param name="parts">Names without ".weight", output features, and the rank's part.</param>
    /// <exception cref="ModelFormatException">A tensor is missing, or of another type or shape.</exception>
    public Linear(LayerSource source, long k, bool hasBias, params (string Name, long N, ShardSpec Shard)[] parts)
    {
        var tensors = source.Tensors;
        (_fullN, _fullK) = (parts.Sum(part => part.N), k);
        Leaves = parts is [var only] ? only.Shard.LeavesOf(SumTree.LeavesOfProduct(k)) : 0;
        _sources = [.. parts.Select(part => part.Shard.Of(tensors.TakeProjection(part.Name, part.N, k)))];
        _biasSources = hasBias ? [.. parts.SelectMany(part => BiasOf(tensors.TakePlain($"{part.Name}.bias", part.N), part.Shard))] : [];
    }

    /// <summary>Leaves of the tree over the input features that are here, where these are divided; 0: the sum is plain.</summary>
    public int Leaves { get; }

    /// <summary>Brings it to the device.</summary>
    public void Load(WeightLoader loader)
    {
        // Each part keeps its own grid of 128-row scale blocks, so parts lie in one weight only where a block ends with a part; and not
        // where they stay in the mapped file.
        var isOne = _sources.Length == 1
            || _sources.All(part => part.N % Float8.Block == 0 && part.ScaleRowOffset == 0) && !loader.Maps(_sources);
        _weights = isOne ? [loader.LoadProjection(_sources)] : [.. _sources.Select(part => loader.LoadProjection(part))];
        _biases = _biasSources.Length == 0 ? new TensorView[_weights.Length]
            : isOne ? [loader.LoadBFloat16(_biasSources)]
            : [.. _biasSources.Select(bias => loader.LoadBFloat16(bias.Tensor, bias.First, bias.Count))];
    }

    /// <summary>Enqueues the product of an FP8 input.</summary>
    /// <param name="step">The step.</param>
    /// <param name="x">[tokens, k] FP8.</param>
    /// <param name="output">[tokens, sum of n] BF16.</param>
    public void Run(ForwardStep step, QuantizedTensor x, TensorView output)
    {
        long first = 0;
        for (var i = 0; i < _weights.Length; i++)
        {
            step.Gemm(Product(i, x, output.Slice(1, first, _weights[i].N)));
            first += _weights[i].N;
        }
    }

    /// <summary>
    /// Enqueues the product, of one part, as a sum that the next norm takes up: partial sums, [segments, tokens, n] f32, where the product leaves
    /// such, else the output; and where inputs are divided over ranks, the nodes of all of them.
    /// </summary>
    public SublayerOutput RunForNext(ForwardStep step, in QuantizedTensor x, SharedSum sum)
    {
        var product = Product(0, x, step.Buffers.Node(sum));
        if (step.Exchange is null)
        {
            return new(step.GemmForNext(product), Leaves);
        }

        step.Gemm(product);
        return step.Share(sum);
    }

    private GemmArgs Product(int part, in QuantizedTensor x, in TensorView output) => new()
    {
        A = x.Values,
        AScales = x.Scales,
        B = _weights[part],
        Bias = _biases[part],
        FullN = _fullN,
        FullK = _fullK,
        Leaves = Leaves,
        Output = output,
    };

    // Where inputs are divided, the first rank alone adds the bias: once in the sum.
    private static IEnumerable<(SafeTensor Tensor, long First, long Count)> BiasOf(SafeTensor bias, ShardSpec shard)
    {
        var features = bias.Shape[0];
        var (first, count) = shard.Kind == ShardKind.Column ? shard.Of(features) : (0, features);
        return shard is { Kind: ShardKind.Row, Part: > 0 } ? [] : [(bias, first, count)];
    }
}
