namespace Octet.Inference.Loading;

/// <summary>A matrix and what its scales demand of its codes: where a scale is 0, a block of zeros.</summary>
/// <param name="source">The matrix.</param>
internal sealed class ScaledMatrix(MatrixSource source)
{
    private const byte NegativeZero = 0x80;

    private List<(long Row, long Column)>? _zeros;

    /// <summary>Where it lies.</summary>
    public MatrixSource Source => source;

    /// <summary>Takes the scales, in row-major order, each one that it may be; before the codes.</summary>
    /// <exception cref="ModelFormatException">A scale is negative, not finite or too large.</exception>
    public void ReadScales(in WindowBytes bytes, Span<float> scales)
    {
        var (lying, columns) = (source.PackScales(bytes), source.ScaleColumns);
        for (var i = 0; i < lying.Length; i++)
        {
            var (row, column) = (i / columns, i % columns);
            TensorValues.CheckScale(source.Scales!, PositionOf(row, column), lying[i]);
            if (lying[i] == 0)
            {
                (_zeros ??= []).Add((row, column));
            }
        }

        lying.CopyTo(scales);
    }

    /// <summary>Refuses elements that no weight may be, and codes other than 0 whose scale is 0.</summary>
    /// <param name="firstRow">The first row of them.</param>
    /// <param name="packed">Whole rows, without gaps.</param>
    /// <exception cref="ModelFormatException">There is such an element; the message has its position.</exception>
    public void Check(long firstRow, ReadOnlySpan<byte> packed)
    {
        source.CheckElements(firstRow, packed);
        if (_zeros is null)
        {
            return;
        }

        var endRow = firstRow + (packed.Length / source.K);
        foreach (var (scaleRow, scaleColumn) in _zeros)
        {
            var top = (scaleRow * Float8.Block) - source.ScaleRowOffset;
            var left = (scaleColumn * Float8.Block) - source.ScaleColumnOffset;
            var (first, width) = (Math.Max(left, 0), Math.Min(left + Float8.Block, source.K) - Math.Max(left, 0));
            for (var row = Math.Max(top, firstRow); row < Math.Min(top + Float8.Block, endRow); row++)
            {
                if (packed.Slice((int)(((row - firstRow) * source.K) + first), (int)width).ContainsAnyExcept((byte)0, NegativeZero))
                {
                    throw new ModelFormatException(
                        $"{source.Scales!.File}: tensor {source.Scales} holds 0 at position {PositionOf(scaleRow, scaleColumn)}, but the block of '{source.Values.Name}' it belongs to has codes other than 0; compare the file's checksum with its publisher's");
                }
            }
        }
    }

    // In the tensor of the scales.
    private long PositionOf(long row, long column) => source.FirstScale + (row * source.ScaleRowStride) + (column * source.ScaleColumnStride);
}
