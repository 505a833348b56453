namespace Octet.Cases;

/// <summary>Rows as tensors hold them: with space between, or quantised to FP8 blocks.</summary>
internal static class Rows
{
    /// <summary>One scale per row and 128 columns: what the ops that quantise give for exact values.</summary>
    public static (byte[] Codes, double[] Scales) Quantize(double[] y, int columns, DType encoding)
    {
        var codes = new byte[y.Length];
        var scales = new List<double>();
        for (var row = 0; row < y.Length; row += columns)
        {
            for (var column = 0; column < columns; column += Float8.Block)
            {
                var block = y.AsSpan(row + column, Math.Min(Float8.Block, columns - column));
                double amax = 0;
                foreach (var value in block)
                {
                    amax = double.IsFinite(value) ? Math.Max(amax, Math.Abs(value)) : amax;
                }

                var scale = Float8.Scale((float)amax, encoding);
                scales.Add(scale);
                for (var i = 0; i < block.Length; i++)
                {
                    codes[row + column + i] = double.IsFinite(block[i])
                        ? Float8.Narrow((float)(block[i] / scale), encoding, Float8.Limit(encoding)) : Float8.NaNCode(encoding);
                }
            }
        }

        return (codes, [.. scales]);
    }

    /// <summary>Rows of <paramref name="columns"/> moved <paramref name="stride"/> apart, zeros between.</summary>
    public static T[] Widen<T>(T[] elements, int columns, int stride)
    {
        var wide = new T[elements.Length / Math.Max(columns, 1) * stride];
        for (var i = 0; i < elements.Length; i++)
        {
            wide[i / columns * stride + i % columns] = elements[i];
        }

        return wide;
    }
}
