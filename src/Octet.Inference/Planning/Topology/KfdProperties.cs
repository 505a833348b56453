using System.Globalization;
using System.Text;

namespace Octet.Inference.Planning.Topology;

/// <summary>Reads a properties file of the KFD tree: lines of a name and an unsigned number.</summary>
internal static class KfdProperties
{
    private const int Largest = 64 << 10;

    /// <summary>The properties, or null with a warning if the file is missing, unreadable, empty or too long. Lines of another form are skipped.</summary>
    public static Dictionary<string, ulong>? Read(string path, List<string> warnings)
    {
        if (ReadText(path, warnings) is not { } text)
        {
            return null;
        }
        var properties = new Dictionary<string, ulong>(StringComparer.Ordinal);
        int skipped = 0;
        foreach (string line in text.Split('\n'))
        {
            string[] fields = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length == 2 && ulong.TryParse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture, out ulong value))
            {
                properties[fields[0]] = value;
            }
            else if (fields.Length > 0)
            {
                skipped++;
            }
        }
        if (skipped > 0)
        {
            warnings.Add($"{path}: {skipped} of its lines are not a name and a number");
        }
        if (properties.Count == 0)
        {
            warnings.Add($"{path}: holds no properties; left out");
            return null;
        }
        return properties;
    }

    private static string? ReadText(string path, List<string> warnings)
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
            warnings.Add($"{path}: is longer than {Largest} bytes; left out");
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            warnings.Add($"{path}: cannot be read: {cause.Message}");
        }
        return null;
    }
}
