using System.Numerics;

namespace Octet.Inference.Engine;

/// <summary>Logits that are not finite say nothing about the next token: whoever meets some stops with the position.</summary>
internal static class FiniteLogits
{
    /// <summary>Checks logits [rows, vocabulary] of the tokens from a position on.</summary>
    /// <exception cref="NotFiniteNumberException">One is NaN or an infinity; the message has its position and token id.</exception>
    public static void Check(ReadOnlySpan<float> logits, int vocabulary, int position, string device)
    {
        var index = IndexOfNotFinite(logits);
        if (index >= 0)
        {
            throw Error(position + index / vocabulary, $"the logit of token id {index % vocabulary} is {logits[index]}", device);
        }
    }

    /// <summary>The error for a position at which <c>sampling</c> chose no token.</summary>
    public static NotFiniteNumberException NoToken(int position, string device) =>
        Error(position, "no next token can be chosen", device);

    private static NotFiniteNumberException Error(int position, string what, string device) => new(string.Create(
        System.Globalization.CultureInfo.InvariantCulture,
        $"position {position}: the logits are not finite on {device}: {what}. A value before them is not finite or overflowed; "
        + $"where another device gives the same, the checkpoint is the cause, else this device"));

    private static int IndexOfNotFinite(ReadOnlySpan<float> values)
    {
        var i = 0;
        var infinity = new Vector<float>(float.PositiveInfinity);
        while (i + Vector<float>.Count <= values.Length && Vector.LessThanAll(Vector.Abs(new Vector<float>(values[i..])), infinity))
        {
            i += Vector<float>.Count;
        }

        while (i < values.Length && float.IsFinite(values[i]))
        {
            i++;
        }

        return i < values.Length ? i : -1;
    }
}
