using System.Globalization;
using System.Text;

namespace Octet.Inference.Planning.Topology;

/// <summary>Reads a properties file of the KFD tree: lines of a name and an unsigned number.</summary>
internal static class KfdProperties
{
    private const int Largest = 64 << 10;

    /// <summary>The properties, or null if the file is missing, unreadable, empty or too long. Lines of another form are skipped.</summary>
    /// <param name="path">The file.</param>
    /// <param name="warn">Told of each problem in words that name no file.</param>
    public static Dictionary<string, ulong>? Read(string path, Action<string> warn)
    {
        if (ReadText(path, warn) is not { } text)
        {
            return null;
        }
        var properties = new Dictionary<string, ulong>(StringComparer.Ordinal);
        bool skipped = false;
        foreach (string line in text.Split('\n'))
        {
            string[] fields = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length == 2 && ulong.TryParse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture, out ulong value))
            {
                properties[fields[0]] = value;
            }
            else
            {
                skipped |= fields.Length > 0;
            }
        }
        if (properties.Count == 0)
        {
            warn("properties that hold no name and number; left out");
            return null;
        }
        if (skipped)
        {
            warn("properties with lines that are not a name and a number");
        }
        return properties;
    }

    /// <summary>Why a file or folder could not be read, without its path.</summary>
    public static string Why(Exception cause) => cause switch
    {
        FileNotFoundException or DirectoryNotFoundException => "missing",
        UnauthorizedAccessException => "permission denied",
        _ => $"error 0x{cause.HResult:x8}",
    };

    private static string? ReadText(string path, Action<string> warn)
    {
        try
        {
            using FileStream file = File.OpenRead(path);
            // A file of sysfs states a size that is not its length, so it is read until it ends.
            byte[] bytes = new byte[Largest + 1];
            int length = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            if (length <= Largest)
            {
                return Encoding.Latin1.GetString(bytes, 0, length);
            }
            warn($"properties longer than {Largest} bytes; left out");
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            warn($"properties that cannot be read ({Why(cause)}); left out");
        }
        return null;
    }
}
