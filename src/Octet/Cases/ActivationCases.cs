namespace Octet.Cases;

/// <summary>activation: BF16 output within its rounding (1e-6 of calc_diff alone), codes at most one away.</summary>
internal static class ActivationCases
{
    private const double OutputTolerance = 1e-5;
    private const double ScaleTolerance = 1e-10; // a few f32 roundings: calc_diff is the square of the relative error

    private static readonly int[] Tails = [1, 17, 127, 129];

    public static IEnumerable<Case> All => [.. Both(quantized: false), .. Both(quantized: true)];

    private static IEnumerable<Case> Both(bool quantized) =>
    [
        Activation("regular", 16, 256, quantized),
        Activation("regular strides of 16 more", 5, 384, quantized, padding: 16),
        .. from size in Tails select Activation("tail", size, 72, quantized),
        .. from size in Tails select Activation("tail", 5, size, quantized, padding: 3),
        Activation("tail odd strides", 3, 256, quantized, padding: 1),
        Activation("corner no rows", 0, 128, quantized),
        Activation("corner no columns", 5, 0, quantized),
        Activation("corner rows of zeros", 2, 200, quantized, edit: (gate, up) => gate.AsSpan().Clear()),
        Activation("corner gates from -200 to 200", 4, 401, quantized, edit: (gate, up) => Ramp(gate)),
        Activation("corner NaN and infinity", 3, 256, quantized, edit: (gate, up) =>
        {
            gate[5] = (BFloat16)float.NaN;
            up[300] = (BFloat16)float.NegativeInfinity;
            gate[700] = (BFloat16)float.PositiveInfinity;
        }),
        Activation("corner many rows", 9_000, 8, quantized),
        Activation("model intermediate 1536", 64, 1536, quantized),
        Activation("model intermediate 1536", 16_384, 1536, quantized) with { Tier = CaseTier.Full },
    ];

    private static void Ramp(BFloat16[] gate)
    {
        for (var i = 0; i < gate.Length; i++)
        {
            gate[i] = (BFloat16)(i % 401 - 200);
        }
    }

    private static Case Activation(
        string name, int rows, int columns, bool quantized, int padding = 0, Action<BFloat16[], BFloat16[]>? edit = null) =>
        new("activation", $"{name} {rows} x {columns} to {(quantized ? "FP8" : "BF16")}", context =>
    {
        var gate = context.NormalBFloat16((long)rows * columns, 3);
        var up = context.NormalBFloat16((long)rows * columns);
        edit?.Invoke(gate, up);
        var stride = columns + padding;

        // Rows lie `padding` elements apart; what lies between must stay as it is.
        var wide = quantized ? context.CodesInOut(new byte[rows * stride], rows, stride) : context.InOut(new BFloat16[rows * stride], rows, stride);
        var scales = quantized ? context.Output(DType.Float32, rows, (columns + Float8.Block - 1) / Float8.Block) : default;
        var args = new ActivationArgs
        {
            Gate = context.Input(Rows.Widen(gate, columns, stride), rows, stride).Slice(1, 0, columns),
            Up = context.Input(Rows.Widen(up, columns, stride), rows, stride).Slice(1, 0, columns),
            Output = wide.Slice(1, 0, columns),
            Scales = scales,
        };
        return new CaseBody(() => Ops.Activation(context.Stream, args), () =>
        {
            double[] y = [.. gate.Zip(up, (g, u) => g / (1 + Math.Exp(-(double)g)) * u)];
            if (!quantized)
            {
                context.Compare("output", wide, Rows.Widen(y, columns, stride), OutputTolerance);
                return;
            }

            var (codes, expectedScales) = Rows.Quantize(y, columns, context.Float8);
            context.CompareCodes("codes", context.Read(wide), Rows.Widen(codes, columns, stride));
            context.Compare("scales", scales, expectedScales, ScaleTolerance);
        });
    })
    {
        Bytes = rows * (double)columns * (quantized ? 5 : 6),
    };
}
