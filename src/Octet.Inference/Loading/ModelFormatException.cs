using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading;

/// <summary>A file of a model is missing, damaged or of a kind this library does not support; the message is one line that names the file, the values and the remedy.</summary>
public sealed class ModelFormatException : Exception
{
    // Names and values in the message come from the file itself, so their length has no other bound.
    private const int LongestMessage = 1000;

    /// <summary>Creates the exception; line breaks and other control characters in <paramref name="message"/> are escaped, an overlong message is cut.</summary>
    public ModelFormatException(string message, Exception? inner = null) : base(OneLine(message), inner)
    {
    }

    internal static ModelFormatException Unreadable(string path, Exception cause) =>
        new($"{path}: cannot be read: {cause.Message}", cause);

    private static string OneLine(string message)
    {
        var line = new StringBuilder(Math.Min(message.Length, LongestMessage));
        foreach (Rune rune in message.EnumerateRunes())
        {
            if (line.Length >= LongestMessage)
            {
                return line.Append("...").ToString();
            }
            if (Rune.IsControl(rune) || rune.Value is 0x2028 or 0x2029)
            {
                line.Append(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
            }
            else
            {
                line.Append(rune);
            }
        }
        return line.ToString();
    }
}
