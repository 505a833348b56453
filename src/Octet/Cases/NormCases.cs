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
        Action<BFloat16[], int>? edit = null) => new("norm", name, context =>
    {
        const float Eps = 1e-6f;
        var x = context.NormalBFloat16((long)tokens * hidden);
        edit?.Invoke(x, hidden);
        var added = context.NormalBFloat16((long)tokens * hidden);
        var weight = context.NormalBFloat16(hidden);
        var blocks = (hidden + Float8.Block - 1) / Float8.Block;
        var stride = hidden + padding;

        // Rows lie `padding` elements apart; what lies between must stay as it is.
        var wideResidual = residual ? context.InOut(Rows.Widen(added, hidden, stride), tokens, stride) : null;
        var wideOutput = output ? context.InOut(new BFloat16[tokens * stride], tokens, stride) : null;
        var wideCodes = quantized ? context.CodesInOut(new byte[tokens * stride], tokens, stride) : null;
        var scales = quantized ? context.Output(DType.Float32, tokens, blocks) : null;
        var args = new NormArgs
        {
            X = context.Input(Rows.Widen(x, hidden, stride), tokens, stride).Slice(1, 0, hidden),
            Residual = wideResidual?.Slice(1, 0, hidden),
            Weight = context.Input(weight, hidden),
            Eps = Eps,
            Output = wideOutput?.Slice(1, 0, hidden),
            Quantized = quantized ? new QuantizedTensor(wideCodes!.Slice(1, 0, hidden), scales!) : null,
        };
        return new CaseBody(() => Ops.Norm(context.Stream, args), () =>
        {
            var h = residual ? [.. x.Zip(added, (a, b) => (BFloat16)((float)a + b))] : x;
            var y = Reference(h, weight, Eps);
            if (wideResidual is not null)
            {
                context.Equal<double>("residual", context.Values(wideResidual), Rows.Widen([.. h.Select(v => (double)v)], hidden, stride));
            }

            if (wideOutput is not null)
            {
                context.Compare("output", wideOutput, Rows.Widen(y, hidden, stride), OutputTolerance);
            }

            if (wideCodes is not null)
            {
                var (codes, expectedScales) = Rows.Quantize(y, hidden, context.Float8);
                context.CompareCodes("quantized", context.Read(wideCodes), Rows.Widen(codes, hidden, stride));
                context.Compare("scales", scales!, expectedScales, ScaleTolerance);
            }
        });
    })
    {
        Flops = 4.0 * tokens * hidden,
        Bytes = tokens * (double)hidden * (2 + (residual ? 4 : 0) + (output ? 2 : 0) + (quantized ? 1 : 0)),
    };

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
