namespace Octet.Inference.Loading;

/// <summary>Bytes of a file that are wanted: runs of one length, one distance apart.</summary>
/// <param name="File">The file.</param>
/// <param name="Offset">Where the first run begins.</param>
/// <param name="RunLength">Bytes of a run.</param>
/// <param name="Runs">How many.</param>
/// <param name="Stride">Bytes from the beginning of one to that of the next.</param>
internal readonly record struct ReadRange(CheckpointFile File, long Offset, long RunLength, long Runs, long Stride)
{
    /// <summary>Bytes that are wanted.</summary>
    public long SizeInBytes => RunLength * Runs;

    /// <summary>Whether what lies between the runs is read with them.</summary>
    public bool IsReadThrough => Stride - RunLength < ReadPlan.MergedGap;

    /// <summary>Bytes that are read for them.</summary>
    public long ReadInBytes => IsReadThrough ? (Stride * (Runs - 1)) + RunLength : SizeInBytes;
}

/// <summary>One read of the system.</summary>
/// <param name="Offset">Where in the file.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Position">Where in the window.</param>
internal readonly record struct WindowRead(long Offset, int Length, int Position);

/// <summary>Ranges that are read into one buffer.</summary>
/// <param name="First">The first of them.</param>
/// <param name="Count">How many.</param>
/// <param name="Reads">By offset; each range's runs lie in one each.</param>
internal sealed record ReadWindow(int First, int Count, WindowRead[] Reads)
{
    /// <summary>Bytes of the buffer.</summary>
    public int SizeInBytes => Reads is [.., var last] ? last.Position + last.Length : 0;
}

/// <summary>
/// How ranges of files are read: in the order they lie in, neighbours together, in windows of at most 16 MiB, the files' order and the
/// ranges alone deciding. What lies between two ranges is read with them where that is less than a page: the page is fetched anyhow, and
/// a call costs more.
/// </summary>
internal static class ReadPlan
{
    /// <summary>Most bytes of a window, but for a range that is larger by itself.</summary>
    public const int WindowBytes = 16 << 20;

    /// <summary>Bytes between two ranges from which on they are read apart.</summary>
    public const int MergedGap = 4096;

    /// <summary>The order ranges are read in: by file, then by offset.</summary>
    public static int Compare(ReadRange x, ReadRange y) =>
        string.CompareOrdinal(x.File.Path, y.File.Path) is not 0 and var order ? order : x.Offset.CompareTo(y.Offset);

    /// <summary>The windows of ranges in that order.</summary>
    public static List<ReadWindow> Windows(ReadOnlySpan<ReadRange> ranges)
    {
        List<ReadWindow> windows = [];
        for (var first = 0; first < ranges.Length;)
        {
            var (end, bytes) = (first, 0L);
            while (end < ranges.Length && ranges[end].File == ranges[first].File
                && (end == first || bytes + ranges[end].ReadInBytes + MergedGap <= WindowBytes))
            {
                bytes += ranges[end++].ReadInBytes + MergedGap;
            }

            windows.Add(new(first, end - first, Reads(ranges[first..end])));
            first = end;
        }

        return windows;
    }

    // The runs of all ranges, sorted and merged.
    private static WindowRead[] Reads(ReadOnlySpan<ReadRange> ranges)
    {
        List<(long Offset, long End)> runs = [];
        foreach (var range in ranges)
        {
            var (count, length) = range.IsReadThrough ? (1, range.ReadInBytes) : (range.Runs, range.RunLength);
            for (long run = 0; run < count; run++)
            {
                var offset = range.Offset + (run * range.Stride);
                runs.Add((offset, offset + length));
            }
        }

        runs.Sort();
        List<WindowRead> reads = [];
        var position = 0;
        for (var first = 0; first < runs.Count;)
        {
            var (offset, end) = runs[first];
            for (first++; first < runs.Count && runs[first].Offset - end < MergedGap; first++)
            {
                end = Math.Max(end, runs[first].End);
            }

            var length = checked((int)(end - offset));
            reads.Add(new(offset, length, position));
            position = checked(position + length);
        }

        return [.. reads];
    }
}
