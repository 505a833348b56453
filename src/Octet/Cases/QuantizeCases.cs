namespace Octet.Cases;

/// <summary>quantize, quantize_weight and repack: scales within a few roundings of a division, codes at most one away on 0.05 % of the bytes.</summary>
internal static class QuantizeCases
{
    private const double ScaleTolerance = 1e-12; // calc_diff is the square of the relative error

    private static readonly int[] Tails = [1, 17, 127, 129];
    private static readonly int[] Counts = [1, 15, 17, 127, 4129];

    public static IEnumerable<Case> All =>
    [
        .. Both("regular", 4, 256),
        .. Both("regular", 16, 512, f32: true),
        .. Both("regular 8 columns apart", 5, 128, padding: 8),
        .. from size in Tails from test in Both("tail", 5, size) select test,
        .. from size in Tails from test in Both("tail", size, 5, f32: true) select test,
        .. Both("tail 3 columns apart", 17, 200, padding: 3),
        .. Both("tail 1 column apart", 17, 128, f32: true, padding: 1),
        .. Both("corner no rows", 0, 128),
        .. Both("corner no columns", 5, 0),
        .. Both("corner zeros", 3, 130, edit: x => x.AsSpan().Clear()),
        .. Both("corner negative zeros", 3, 130, edit: x => x.AsSpan().Fill(-0f)),
        .. Both("corner not finite", 3, 260, f32: true, edit: x => (x[5], x[140], x[300]) = (float.NaN, float.PositiveInfinity, float.NegativeInfinity)),
        .. Both("corner not finite", 3, 260, edit: x => (x[5], x[140], x[300]) = (float.NaN, float.PositiveInfinity, float.NegativeInfinity)),
        .. Both("corner nothing finite", 2, 128, edit: x => x.AsSpan().Fill(float.NaN)),
        .. Both("corner subnormal", 2, 128, f32: true, edit: x => Scale(x, 1e-42f)),
        .. Both("corner huge", 2, 128, f32: true, edit: x => Scale(x, 4e37f)),
        .. Both("corner 32768 rows", 32_768, 8),
        .. Both("model hidden 4096", 17, 4096),
        .. Both("model hidden 4096", 4096, 4096).Select(test => test with { Tier = CaseTier.Full }),
        Midpoints("quantize"),
        Midpoints("quantize_weight"),
        Repack("regular all codes", 256, 2, inPlace: false),
        Repack("regular all codes in place", 256, 2, inPlace: true),
        .. from count in Counts select Repack("tail", count, 1, inPlace: false),
        Repack("corner no codes", 0, 3, inPlace: false),
        Repack("corner more scales than codes", 20, 700, inPlace: true),
        Repack("model expert gate", 1536 * 4096, 12 * 32, inPlace: true),
    ];

    private static IEnumerable<Case> Both(
        string name, int rows, int columns, bool f32 = false, int padding = 0, Action<float[]>? edit = null) =>
    [
        Quantize("quantize", name, rows, columns, 1, f32, padding, edit),
        Quantize("quantize_weight", name, rows, columns, Float8.Block, f32, padding, edit),
    ];

    private static void Scale(float[] x, float factor)
    {
        for (var i = 0; i < x.Length; i++)
        {
            x[i] = Math.Clamp(x[i], -8, 8) * factor;
        }
    }

    // Rows lie `padding` columns apart; the codes between must stay as they are.
    private static Case Quantize(
        string op, string name, int rows, int columns, int scaleRows, bool f32, int padding, Action<float[]>? edit) =>
        new(op, $"{name} {rows} x {columns}{(f32 ? " f32" : "")}", context =>
    {
        var stride = columns + padding;
        var x = context.Normal((long)rows * stride);
        edit?.Invoke(x);
        x = f32 ? x : Array.ConvertAll(x, value => (float)(BFloat16)value);
        var input = f32 ? context.Input(x, rows, stride) : context.Input(Array.ConvertAll(x, value => (BFloat16)value), rows, stride);
        var wide = context.CodesInOut(new byte[x.Length], rows, stride);
        var (codes, expectedScales) = Reference(x, rows, columns, stride, scaleRows, context.Float8);
        var scales = context.Output(DType.Float32, (rows + scaleRows - 1) / scaleRows, Blocks(columns));
        return new CaseBody(Launch(context, op, input.Slice(1, 0, columns), wide.Slice(1, 0, columns), scales), () =>
        {
            context.CompareCodes("codes", context.Read(wide), codes);
            context.Compare("scales", scales, expectedScales, ScaleTolerance);
        });
    })
    {
        Flops = 2.0 * rows * columns,
        Bytes = (double)rows * columns * (f32 ? 5 : 3),
    };

    private static Action Launch(CaseContext context, string op, TensorView x, TensorView codes, TensorView scales)
    {
        var weight = new Weight { Values = codes, Scales = scales };
        return op == "quantize"
            ? () => Ops.Quantize(context.Stream, new QuantizeArgs { X = x, Output = new QuantizedTensor(codes, scales) })
            : () => Ops.QuantizeWeight(context.Stream, new QuantizeWeightArgs { X = x, Output = weight });
    }

    // scale = amax / limit of the finite elements of a block, 1 where that is 0; code = x / scale, NaN where x is not finite
    private static (byte[] Codes, double[] Scales) Reference(
        float[] x, int rows, int columns, int stride, int scaleRows, DType encoding)
    {
        var amax = new float[(rows + scaleRows - 1) / scaleRows * Blocks(columns)];
        int Block(int row, int column) => row / scaleRows * Blocks(columns) + column / Float8.Block;
        var positions = from row in Enumerable.Range(0, rows) from column in Enumerable.Range(0, columns) select (row, column);
        foreach (var (row, column) in positions.Where(at => float.IsFinite(x[at.row * stride + at.column])))
        {
            amax[Block(row, column)] = Math.Max(amax[Block(row, column)], Math.Abs(x[row * stride + column]));
        }

        var scales = Array.ConvertAll(amax, value => (double)Float8.Scale(value, encoding));
        var codes = new byte[rows * stride];
        foreach (var (row, column) in positions)
        {
            var value = x[row * stride + column];
            codes[row * stride + column] = float.IsFinite(value)
                ? Float8.Narrow((float)(value / scales[Block(row, column)]), encoding, Float8.Limit(encoding))
                : Float8.NaNCode(encoding);
        }

        return (codes, scales);
    }

    private static int Blocks(int columns) => (columns + Float8.Block - 1) / Float8.Block;

    // Every value FP8 can hold, every midpoint of two and its neighbours, in blocks whose scale is 1: the codes are exact.
    private static Case Midpoints(string op) => new(op, "regular every code and rounding midpoint", context =>
    {
        var limit = Float8.Limit(context.Float8);
        float[] values = [.. Enumerable.Range(0, 256).Select(code => Float8.Widen((byte)code, context.Float8)).Where(v => Math.Abs(v) <= limit).Order()];
        float[] midpoints = [.. values.Zip(values.Skip(1), (low, high) => (low + high) / 2)];
        float[] all = [.. values, .. midpoints, .. midpoints.Select(MathF.BitIncrement), .. midpoints.Select(MathF.BitDecrement)];
        var x = all.Chunk(Float8.Block - 1).SelectMany(chunk => chunk.Prepend(limit)).ToArray();
        var codes = context.CodesInOut(new byte[x.Length], 1, x.Length);
        var scales = context.Output(DType.Float32, 1, Blocks(x.Length));
        return new CaseBody(Launch(context, op, context.Input(x, 1, x.Length), codes, scales), () =>
        {
            context.Equal<byte>("codes", context.Read(codes), Array.ConvertAll(x, v => Nearest(v, context.Float8, limit)));
            context.Equal<double>("scales", context.Values(scales), [.. Enumerable.Repeat(1.0, Blocks(x.Length))]);
        });
    });

    // The code nearest to a value by search; of two equally near the even one; of two zeros the one with the value's sign.
    private static byte Nearest(float value, DType encoding, float limit) =>
        Enumerable.Range(0, 256).Select(code => (byte)code)
            .Where(code => !Float8.IsNaN(code, encoding) && Math.Abs(Float8.Widen(code, encoding)) <= limit)
            .OrderBy(code => Math.Abs((double)Float8.Widen(code, encoding) - value)).ThenBy(code => code & 1)
            .ThenBy(code => code >= 0x80 != float.IsNegative(value)).First();

    // OCP codes to FNUZ: -0 to 0, NaN to NaN, half the value at twice the scale.
    private static Case Repack(string name, int count, int scaleCount, bool inPlace) => new("repack", $"{name} {count}", context =>
    {
        byte[] codes = [.. Enumerable.Range(0, count).Select(i => (byte)(i + i / 256))];
        var scales = context.Normal(scaleCount);
        var values = context.InOut(Array.ConvertAll(codes, Float8E4M3.FromCode), count);
        var scaleTensor = context.InOut(scales, scaleCount);
        var output = inPlace ? TensorView.Borrow(context.Device, values.Address, DType.Float8E4M3Fnuz, count) : context.Output(DType.Float8E4M3Fnuz, count);
        var outputScales = inPlace ? scaleTensor : context.Output(DType.Float32, scaleCount);
        var args = new RepackArgs { Values = values, Scales = scaleTensor, OutputValues = output, OutputScales = outputScales };
        return new CaseBody(() => Ops.Repack(context.Stream, args), () =>
        {
            context.Equal<byte>(
                "codes", context.Read(output), Array.ConvertAll(codes, code => (byte)(code switch { 0x80 => 0, 0x7F or 0xFF => 0x80, _ => code })));
            context.Equal<double>("scales", context.Values(outputScales), Array.ConvertAll(scales, scale => 2.0 * scale));
        });
    })
    {
        Bytes = 2.0 * count + 8.0 * scaleCount,
    };
}
