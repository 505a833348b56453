namespace Octet.Tests.Inference.Models;

/// <summary>
/// A decoder in f64, written from the papers' formulas. It rounds what the model rounds: activations, slots and the residual stream to BF16,
/// the inputs of projections to FP8 with a scale for each row and 128 columns, K and V to FP8, the nodes of the trees of sums over ranks to BF16.
/// </summary>
/// <param name="checkpoint">The model.</param>
/// <param name="roundsSoftmax">Whether the numerators of a softmax are rounded to BF16 before they weigh V, as the kernels for prompts do.</param>
internal sealed class ReferenceDecoder(RandomCheckpoint checkpoint, bool roundsSoftmax)
{
    private readonly RandomShape _shape = checkpoint.Shape;

    /// <summary>amax / 448, 1 where that is 0.</summary>
    public static float ScaleOf(IEnumerable<float> values) => values.Max(Math.Abs) is var amax and > 0 ? amax / 448 : 1;

    /// <summary>[tokens, vocabulary].</summary>
    public double[] Logits(int[] ids)
    {
        var embedding = checkpoint.Plain("model.embed_tokens.weight");
        var hidden = _shape.Hidden;
        double[][] residual = [.. ids.Select(id => embedding[(id * hidden)..((id + 1) * hidden)])];
        for (var layer = 0; layer < _shape.Layers; layer++)
        {
            var prefix = $"model.layers.{layer}.";
            Add(residual, Attention($"{prefix}self_attn.", Norm(residual, $"{prefix}input_layernorm.weight")));
            var normed = Norm(residual, $"{prefix}post_attention_layernorm.weight");
            Add(residual, _shape.IsMoeLayer(layer) ? Experts(prefix + checkpoint.Mlp, normed) : Dense($"{prefix}mlp.", normed));
        }

        var head = checkpoint.Plain(_shape.Tied ? "model.embed_tokens.weight" : "lm_head.weight");
        return [.. Norm(residual, "model.norm.weight").SelectMany(row => Product(Array.ConvertAll(row, Round), head))];
    }

    private static double Round(double x) => (float)(BFloat16)(float)x;

    private static double Silu(double x) => x / (1 + Math.Exp(-x));

    private static void Add(double[][] residual, double[][] delta)
    {
        for (var t = 0; t < residual.Length; t++)
        {
            residual[t] = [.. residual[t].Select((x, i) => Round(x + Round(delta[t][i])))];
        }
    }

    // x [k] . weight [n, k]: [n].
    private static double[] Product(double[] x, double[] weight)
    {
        var result = new double[weight.Length / x.Length];
        for (var row = 0; row < result.Length; row++)
        {
            for (var i = 0; i < x.Length; i++)
            {
                result[row] += x[i] * weight[(row * x.Length) + i];
            }
        }

        return result;
    }

    // To FP8 with a scale for each 128 columns, and back.
    private static double[] Quantize(double[] row)
    {
        var singles = Array.ConvertAll(row, x => (float)x);
        return
        [
            .. singles.Chunk(128).SelectMany(block =>
            {
                var scale = ScaleOf(block);
                return block.Select(x => (double)(float)(Float8E4M3)(x / scale) * scale);
            }),
        ];
    }

    private static double[] RootMeanSquareNorm(double[] x, double[] weight)
    {
        var inverse = 1 / Math.Sqrt(x.Average(value => value * value) + 1e-6);
        return [.. x.Select((value, i) => value * inverse * weight[i])];
    }

    private double[][] Norm(double[][] rows, string weight)
    {
        var w = checkpoint.Plain(weight);
        return [.. rows.Select(row => RootMeanSquareNorm(row, w))];
    }

    private double[][] Linear(string name, double[][] rows)
    {
        var weight = checkpoint.Projection(name);
        var bias = _shape.Bias && name.Contains("self_attn", StringComparison.Ordinal) ? checkpoint.Plain($"{name}.bias") : null;
        return [.. rows.Select(row => Product(row, weight).Select((x, i) => x + (bias?[i] ?? 0)).ToArray())];
    }

    // The same where ranks can share the inputs: a sum for each leaf, the bias in the first.
    private double[][] Tree(string name, double[][] rows)
    {
        var k = rows[0].Length;
        var leaves = SumTree.LeavesOfProduct(k);
        var weight = checkpoint.Projection(name);
        var bias = _shape.Bias && name.Contains("self_attn", StringComparison.Ordinal) ? checkpoint.Plain($"{name}.bias") : null;
        double[][] parts =
        [
            .. Enumerable.Range(0, leaves).Select(leaf => weight.Where((_, i) => i % k / (k / leaves) == leaf).ToArray()),
        ];
        return
        [
            .. rows.Select(row =>
            {
                double[][] sums = [.. row.Chunk(k / leaves).Select((part, leaf) => Product(part, parts[leaf]))];
                return Roots([.. sums.Select((sum, leaf) => leaf == 0 && bias is not null ? [.. sum.Zip(bias, (x, b) => x + b)] : sum)]);
            }),
        ];
    }

    private static double[] Roots(double[][] leaves) =>
        [.. Enumerable.Range(0, leaves[0].Length).Select(i => (double)(float)SumTree.Root([.. leaves.Select(leaf => (BFloat16)(float)leaf[i])]))];

    private double[][] Attention(string prefix, double[][] normed)
    {
        double[][] x = [.. normed.Select(Quantize)];
        double[][] Part(string name) => [.. Linear(prefix + name, x).Select(row => Array.ConvertAll(row, Round))];
        double[][] Heads(string name, string norm) =>
            [.. Part(name).Select((row, position) => Rotate(_shape.IsMixtral ? row : NormHeads(row, checkpoint.Plain($"{prefix}{norm}.weight")), position))];
        static double Cached(double value) => (float)(Float8E4M3)(float)value;

        double[][] q = [.. Heads("q_proj", "q_norm").Select(row => Array.ConvertAll(row, Round))];
        double[][] k = [.. Heads("k_proj", "k_norm").Select(row => Array.ConvertAll(row, Cached))];
        double[][] v = [.. Part("v_proj").Select(row => Array.ConvertAll(row, Cached))];
        var dim = _shape.HeadDim;
        var output = new double[q.Length][];
        for (var t = 0; t < q.Length; t++)
        {
            output[t] = new double[_shape.Heads * dim];
            for (var head = 0; head < _shape.Heads; head++)
            {
                var (first, firstKey) = (head * dim, head / (_shape.Heads / _shape.KvHeads) * dim);
                double[] scores = [.. Enumerable.Range(0, t + 1).Select(s => Enumerable.Range(0, dim).Sum(i => q[t][first + i] * k[s][firstKey + i]) / Math.Sqrt(dim))];
                double[] weights = [.. scores.Select(score => Math.Exp(score - scores.Max()))];
                var sum = weights.Sum();
                for (var i = 0; i < dim; i++)
                {
                    output[t][first + i] = Round(weights.Select((w, s) => (roundsSoftmax ? Round(w) : w) * v[s][firstKey + i]).Sum() / sum);
                }
            }
        }

        return Tree($"{prefix}o_proj", [.. output.Select(Quantize)]);
    }

    // Each head by itself, or all together before they are split.
    private static double[] NormHeads(double[] row, double[] weight) =>
        [.. row.Chunk(weight.Length).SelectMany(part => RootMeanSquareNorm(part, weight))];

    // The first values of each head, in halves: i with i + half.
    private double[] Rotate(double[] row, int position)
    {
        var rotated = (double[])row.Clone();
        var dim = _shape.RotaryDim == 0 ? _shape.HeadDim : _shape.RotaryDim;
        for (var head = 0; head < row.Length; head += _shape.HeadDim)
        {
            for (var i = 0; i < dim / 2; i++)
            {
                var angle = position * Math.Pow(10000, -2.0 * i / dim);
                var (a, b) = (row[head + i], row[head + i + (dim / 2)]);
                rotated[head + i] = (a * Math.Cos(angle)) - (b * Math.Sin(angle));
                rotated[head + i + (dim / 2)] = (b * Math.Cos(angle)) + (a * Math.Sin(angle));
            }
        }

        return rotated;
    }

    private double[][] Dense(string prefix, double[][] normed)
    {
        double[][] x = [.. normed.Select(Quantize)];
        var (gate, up) = (Linear(prefix + checkpoint.Names.Gate, x), Linear(prefix + checkpoint.Names.Up, x));
        double[][] product = [.. gate.Select((row, t) => Quantize([.. row.Select((g, i) => Silu(Round(g)) * Round(up[t][i]))]))];
        return Tree(prefix + checkpoint.Names.Down, product);
    }

    private double[][] Experts(string prefix, double[][] normed)
    {
        var router = checkpoint.Plain($"{prefix}gate.weight");
        var (names, result) = (checkpoint.Names, new double[normed.Length][]);
        var leaves = SumTree.LeavesOfExperts(_shape.Experts);
        for (var t = 0; t < normed.Length; t++)
        {
            var logits = Product(Array.ConvertAll(normed[t], Round), router);
            var x = Quantize(normed[t]);
            double[][] sums = [.. Enumerable.Range(0, leaves).Select(_ => new double[_shape.Hidden])];
            foreach (var (expert, weight) in Choose(prefix, logits))
            {
                var part = $"{prefix}experts.{expert}.";
                var (gate, up) = (Linear(part + names.Gate, [x])[0], Linear(part + names.Up, [x])[0]);
                var slot = Linear(part + names.Down, [Quantize([.. gate.Select((g, i) => Silu(g) * up[i])])])[0];
                for (var i = 0; i < slot.Length; i++)
                {
                    sums[expert / (_shape.Experts / leaves)][i] += weight * Round(slot[i]);
                }
            }

            result[t] = Roots(sums);
        }

        return result;
    }

    private (int Expert, double Weight)[] Choose(string prefix, double[] logits)
    {
        var total = logits.Sum(Math.Exp);
        double[] scores = _shape.IsMiniMax ? [.. logits.Select(x => 1 / (1 + Math.Exp(-x)))] : [.. logits.Select(x => Math.Exp(x) / total)];
        var bias = _shape is { IsMiniMax: true, ScoreBias: true } ? checkpoint.Plain($"{prefix}e_score_correction_bias") : new double[scores.Length];
        int[] chosen = [.. Enumerable.Range(0, scores.Length).OrderByDescending(expert => scores[expert] + bias[expert]).Take(_shape.TopK)];
        var sum = _shape.NormalizeTopK ? chosen.Sum(expert => scores[expert]) : 1;
        return [.. chosen.Select(expert => (expert, scores[expert] / sum))];
    }
}
