namespace Octet.Inference.Engine;

/// <summary>
/// Ends a text before the first stop string that is complete, character by character: pieces may be cut anywhere. What may become a stop
/// string is held back until it does or cannot any more.
/// </summary>
/// <param name="stops">The strings, none of them empty.</param>
/// <param name="include">Whether the string found stays at the end of the text.</param>
internal sealed class StopStrings(IReadOnlyList<string> stops, bool include)
{
    private string _held = "";

    /// <summary>Takes the next piece; gives what of the text is certain, and the stop string that ended it.</summary>
    public (string Text, string? Stop) Push(string piece)
    {
        if (stops.Count == 0)
        {
            return (piece, null);
        }

        var text = _held + piece;
        for (var end = _held.Length + 1; end <= text.Length; end++)
        {
            if (EndingWith(text.AsSpan(0, end)) is { } stop)
            {
                _held = "";
                return (text[..(include ? end : end - stop.Length)], stop);
            }
        }

        var certain = text.Length - LongestBeginning(text);
        _held = text[certain..];
        return (text[..certain], null);
    }

    /// <summary>Gives what was held back: there will be no more.</summary>
    public string Flush()
    {
        var held = _held;
        _held = "";
        return held;
    }

    // The longest of those that are complete: it began first.
    private string? EndingWith(ReadOnlySpan<char> text)
    {
        string? found = null;
        foreach (var stop in stops)
        {
            found = stop.Length > (found?.Length ?? 0) && text.EndsWith(stop) ? stop : found;
        }

        return found;
    }

    // Of a stop string, at the end of the text.
    private int LongestBeginning(string text)
    {
        var longest = 0;
        foreach (var stop in stops)
        {
            var length = Math.Min(stop.Length - 1, text.Length);
            while (length > longest && !text.AsSpan().EndsWith(stop.AsSpan(0, length)))
            {
                length--;
            }

            longest = Math.Max(longest, length);
        }

        return longest;
    }
}
