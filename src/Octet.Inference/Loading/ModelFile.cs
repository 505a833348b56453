namespace Octet.Inference.Loading;

/// <summary>What is known of a model's file before it is opened.</summary>
internal static class ModelFile
{
    /// <summary>The full path of the file behind <paramref name="path"/>, which may be a link: download caches are made of links, which have lengths of their own.</summary>
    public static string Target(string path)
    {
        // NOTE: a relative link is resolved wrongly where the path to it is relative too.
        string full = Path.GetFullPath(path);
        return File.ResolveLinkTarget(full, returnFinalTarget: true)?.FullName ?? full;
    }

    /// <summary>The size of the file behind <paramref name="path"/> in bytes, which is never 0.</summary>
    /// <exception cref="ModelFormatException">There is no such file, or it is a directory, a pipe or a device.</exception>
    public static long SizeInBytes(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw new ModelFormatException($"{path}: is a directory, expected a file");
            }
            long sizeInBytes = new FileInfo(Target(path)).Length;
            // NOTE: pipes and devices have the length 0: opening one would wait for a writer, reading one may never end.
            return sizeInBytes > 0
                ? sizeInBytes
                : throw new ModelFormatException($"{path}: is empty or not a regular file; fetch it again");
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw ModelFormatException.Unreadable(path, cause);
        }
    }
}
