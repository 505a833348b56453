namespace Octet.Inference.Loading;

/// <summary>A range in the window it was read into.</summary>
/// <param name="window">The window's first byte.</param>
/// <param name="reads">What it was filled by.</param>
/// <param name="range">The range.</param>
internal readonly unsafe struct WindowBytes(byte* window, WindowRead[] reads, ReadRange range)
{
    /// <summary>Bytes of one run.</summary>
    /// <param name="offset">The first of them, from where the range begins in the file.</param>
    /// <param name="length">How many.</param>
    public ReadOnlySpan<byte> At(long offset, int length) => new(window + PositionOf(offset), length);

    /// <summary>Where all runs lie one after the other; null: they do not.</summary>
    public int? PackedPosition
    {
        get
        {
            var (first, last) = (PositionOf(0), PositionOf((range.Runs - 1) * range.Stride));
            return last - first == (range.Runs - 1) * range.RunLength ? first : null;
        }
    }

    private int PositionOf(long offset)
    {
        offset += range.Offset;
        var (first, count) = (0, reads.Length);
        while (count > 1)
        {
            var half = count / 2;
            (first, count) = reads[first + half].Offset <= offset ? (first + half, count - half) : (first, half);
        }

        return checked(reads[first].Position + (int)(offset - reads[first].Offset));
    }
}
