namespace Octet.Cases;

/// <summary>norm: BF16 output within its rounding (1e-6 of calc_diff alone), codes at most one away, the written residual exact.</summary>
internal static class NormCases
{
    private const double OutputTolerance = 1e-5;
    private const double ScaleTolerance = 1e-10; // a few f32 roundings: calc_diff is the square of the relative error

    public static IEnumerable<Case> All =>
    [
        Norm("regular 4 x 256", 4, 256),
        Norm("regular 4 x 256 residual", 4, 256, residual: true),
        Norm("regular 3 x 512 output only", 3, 512, residual: true, quantized: false),
        Norm("regular 3 x 512 quantized only", 3, 512, residual: true, output: false),
        Norm("regular 3 x 256 rows 16 apart", 3, 256, residual: true, padding: 16),
        Norm("tail 5 x 1", 5, 1, residual: true),
        Norm("tail 2 x 17", 2, 17, residual: true),
        Norm("tail 2 x 127", 2, 127),
        Norm("tail 2 x 129", 2, 129, residual: true),
        Norm("tail 3 x 129 rows 3 apart", 3, 129, residual: true, padding: 3),
        Norm("tail 2 x 128 rows 1 apart", 2, 128, padding: 1),
        Norm("tail 2 x 2049", 2, 2049, residual: true),
        Norm("tail 1 x 4104", 1, 4104),
        Norm("corner no tokens", 0, 256, residual: true),
        Norm("corner rows of zeros", 2, 257, edit: (x, hidden) => x.AsSpan().Clear()),
        Norm("corner NaN in a row", 3, 256, edit: (x, hidden) => x[hidden + 5] = (BFloat16)float.NaN),
        Norm("corner infinity in a row", 3, 256, edit: (x, hidden) => x[hidden + 5] = (BFloat16)float.NegativeInfinity),
        Norm("corner tiny and huge rows", 2, 384, edit: (x, hidden) => Scale(x, hidden, 1e-12f, 1e12f)),
        Norm("corner 400 tokens of 8", 400, 8, residual: true),
        Norm("regular 4 x 256 of 3 partial sums", 4, 256, residual: true, source: Source.Partials),
        Norm("tail 3 x 129 of partial sums rows 3 apart", 3, 129, padding: 3, source: Source.Partials),
        Norm("regular 4 x 256 of slots", 4, 256, residual: true, source: Source.Slots),
        Norm("tail 5 x 129 of slots rows 3 apart", 5, 129, padding: 3, source: Source.Slots),
        Norm("corner no tokens of slots", 0, 256, residual: true, source: Source.Slots),
        Norm("corner 5 x 2056 of slots, all elsewhere", 5, 2056, residual: true, source: Source.NoSlots),
        Norm("model hidden 4096, 3 tokens of slots", 3, 4096, residual: true, source: Source.Slots),
        Norm("model hidden 4096, 17 tokens", 17, 4096, residual: true),
        Norm("model hidden 4096, 4096 tokens", 4096, 4096, residual: true) with { Tier = CaseTier.Full },
    ];

    private static void Scale(BFloat16[] x, int hidden, float first, float second)
    {
        for (var i = 0; i < x.Length; i++)
        {
            x[i] = (BFloat16)(x[i] * (i < hidden ? first : second));
        }
    }

    private static Case Norm(
        string name, int tokens, int hidden, bool residual = false, bool output = true, bool quantized = true, int padding = 0,
        Action<BFloat16[], int>? edit = null, Source source = Source.Rows) => new("norm", name, context =>
    {
        const float Eps = 1e-6f;
        const int TopK = 6;
        var x = context.NormalBFloat16((long)tokens * hidden);
        edit?.Invoke(x, hidden);
        var added = context.NormalBFloat16((long)tokens * hidden);
        var weight = context.NormalBFloat16(hidden);
        var blocks = (hidden + Float8.Block - 1) / Float8.Block;
        var stride = hidden + padding;

        // Rows lie `padding` elements apart; what lies between must stay as it is.
        var wideResidual = residual ? context.InOut(Rows.Widen(added, hidden, stride), tokens, stride) : default;
        var wideOutput = output ? context.InOut(new BFloat16[tokens * stride], tokens, stride) : default;
        var wideCodes = quantized ? context.CodesInOut(new byte[tokens * stride], tokens, stride) : default;
        var scales = quantized ? context.Output(DType.Float32, tokens, blocks) : default;
        var (input, pairSlots, pairWeights) = source switch
        {
            Source.Rows => (context.Input(Rows.Widen(x, hidden, stride), tokens, stride).Slice(1, 0, hidden), default(TensorView), default(TensorView)),
            Source.Partials => (Partials(context, x, tokens, hidden, stride), default, default),
            _ => Slots(context, x, tokens, hidden, stride, TopK, source == Source.Slots),
        };
        var args = new NormArgs
        {
            X = input,
            PairSlots = pairSlots,
            PairWeights = pairWeights,
            Residual = wideResidual.IsNull ? default : wideResidual.Slice(1, 0, hidden),
            Weight = context.Input(weight, hidden),
            Eps = Eps,
            Output = wideOutput.IsNull ? default : wideOutput.Slice(1, 0, hidden),
            Quantized = quantized ? new QuantizedTensor(wideCodes.Slice(1, 0, hidden), scales) : null,
        };
        return new CaseBody(() => Ops.Norm(context.Stream, args), () =>
        {
            var h = residual ? [.. x.Zip(added, (a, b) => (BFloat16)((float)a + b))] : x;
            var y = Reference(h, weight, Eps);
            if (!wideResidual.IsNull)
            {
                context.Equal<double>("residual", context.Values(wideResidual), Rows.Widen([.. h.Select(v => (double)v)], hidden, stride));
            }

            if (!wideOutput.IsNull)
            {
                context.Compare("output", wideOutput, Rows.Widen(y, hidden, stride), OutputTolerance);
            }

            if (!wideCodes.IsNull)
            {
                var (codes, expectedScales) = Rows.Quantize(y, hidden, context.Float8);
                context.CompareCodes("quantized", context.Read(wideCodes), Rows.Widen(codes, hidden, stride));
                context.Compare("scales", scales, expectedScales, ScaleTolerance);
            }
        });
    })
    {
        Flops = 4.0 * tokens * hidden,
        Bytes = tokens * (double)hidden * (2 + (residual ? 4 : 0) + (output ? 2 : 0) + (quantized ? 1 : 0)),
    };

    /// <summary>Where x comes from.</summary>
    private enum Source
    {
        Rows,
        Partials,
        Slots,
        NoSlots,
    }

    // Three partial sums; x becomes the BF16 of their sum in order.
    private static TensorView Partials(CaseContext context, BFloat16[] x, int tokens, int hidden, int stride)
    {
        const int Segments = 3;
        var parts = context.Normal((long)Segments * x.Length);
        for (var i = 0; i < x.Length; i++)
        {
            x[i] = (BFloat16)(parts[i] + parts[x.Length + i] + parts[2 * x.Length + i]);
        }

        return context.Input(Rows.Widen(parts, hidden, stride), Segments, tokens, stride).Slice(2, 0, hidden);
    }

    // Slots of tokens whose every third choice is elsewhere, or all; x becomes the BF16 of what they combine to. Weights
    // and values are small multiples of powers of two: the sum is exact, in whatever way it is computed.
    private static (TensorView X, TensorView PairSlots, TensorView PairWeights) Slots(
        CaseContext context, BFloat16[] x, int tokens, int hidden, int stride, int topK, bool any)
    {
        var y = new BFloat16[tokens * topK * hidden];
        for (var i = 0; i < y.Length; i++)
        {
            y[i] = (BFloat16)(context.Random.Next(-64, 65) / 32f);
        }

        float[] weights = [.. Enumerable.Range(0, tokens * topK).Select(_ => context.Random.Next(1, 17) / 16f)];
        int[] slots = [.. Enumerable.Range(0, tokens * topK)];
        context.Random.Shuffle(slots);
        slots = [.. slots.Select((slot, pair) => any && pair % 3 != 1 ? slot : -1)];
        for (var i = 0; i < x.Length; i++)
        {
            var (token, column, sum) = (i / hidden, i % hidden, 0f);
            for (var pair = token * topK; pair < (token + 1) * topK; pair++)
            {
                sum += slots[pair] < 0 ? 0 : weights[pair] * y[slots[pair] * hidden + column];
            }

            x[i] = (BFloat16)sum;
        }

        var rows = context.Input(Rows.Widen(y, hidden, stride), tokens * topK, stride).Slice(1, 0, hidden);
        return (rows, context.Input(slots, slots.Length), context.Input(weights, tokens, topK));
    }

    // y = h / sqrt(mean(h^2) + eps) * weight
    private static double[] Reference(BFloat16[] h, BFloat16[] weight, double eps)
    {
        var y = new double[h.Length];
        for (var token = 0; token < h.Length; token += weight.Length)
        {
            var row = h.AsSpan(token, weight.Length);
            double squares = 0;
            foreach (var value in row)
            {
                squares += (double)value * value;
            }

            for (var i = 0; i < row.Length; i++)
            {
                y[token + i] = row[i] / Math.Sqrt(squares / row.Length + eps) * weight[i];
            }
        }

        return y;
    }
}
