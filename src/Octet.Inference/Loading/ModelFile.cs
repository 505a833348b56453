using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading;

/// <summary>What is known of a model's file before it is opened.</summary>
internal static class ModelFile
{
    // A pointer of Git LFS is text of three short lines; its specification allows less than 1,024 bytes.
    private const int LongestPointer = 1024;
    private const int MostLinks = 40;

    /// <summary>
    /// The full path of the file behind <paramref name="path"/>, any part of which may be a link: download caches are made of links,
    /// which have lengths of their own. A relative link counts from where it lies on the disk, as the system reads it.
    /// </summary>
    /// <exception cref="ModelFormatException">Links lead in a circle.</exception>
    public static string Target(string path)
    {
        var full = Path.GetFullPath(path);
        var resolved = Path.GetPathRoot(full)!;
        var rest = new Stack<string>(Parts(full[resolved.Length..]));
        var links = 0;
        while (rest.TryPop(out var part))
        {
            if (part == "..")
            {
                resolved = Path.GetDirectoryName(resolved) ?? resolved;
                continue;
            }

            var next = Path.Combine(resolved, part);
            if (new FileInfo(next).LinkTarget is not { } target)
            {
                resolved = next;
                continue;
            }

            if (++links > MostLinks)
            {
                throw new ModelFormatException($"{path}: more than {MostLinks} links follow one another, the last of them {next}: they lead in a circle");
            }

            var root = Path.GetPathRoot(target)!;
            resolved = root.Length > 0 ? root : resolved;
            foreach (var step in Parts(target[root.Length..]))
            {
                rest.Push(step);
            }
        }

        return resolved;
    }

    /// <summary>The size of the file behind <paramref name="path"/> in bytes, which is never 0.</summary>
    /// <exception cref="ModelFormatException">There is no such file, or it is a directory, a pipe, a device or a Git LFS pointer.</exception>
    public static long SizeInBytes(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw new ModelFormatException($"{path}: is a directory, expected a file");
            }

            var target = Target(path);
            var sizeInBytes = new FileInfo(target).Length;
            if (sizeInBytes == 0)
            {
                // NOTE: pipes and devices have the length 0: opening one would wait for a writer, reading one may never end.
                throw new ModelFormatException($"{path}: is empty or not a regular file; put the whole file in its place");
            }

            CheckPointer(path, target, sizeInBytes);
            return sizeInBytes;
        }
        catch (Exception cause) when (cause is FileNotFoundException or DirectoryNotFoundException)
        {
            var target = Target(path);
            throw new ModelFormatException(
                target == Path.GetFullPath(path) ? $"{path}: does not exist" : $"{path}: is a link to {target}, which does not exist", cause);
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw ModelFormatException.Unreadable(path, cause);
        }
    }

    // The parts of a path, last first.
    private static IEnumerable<string> Parts(string path) =>
        path.Split(Path.DirectorySeparatorChar, Path.AltDirectorySeparatorChar).Where(part => part is not ("" or ".")).Reverse();

    private static void CheckPointer(string path, string target, long sizeInBytes)
    {
        if (sizeInBytes >= LongestPointer)
        {
            return;
        }

        var text = Encoding.UTF8.GetString(File.ReadAllBytes(target));
        if (!text.StartsWith("version https://git-lfs.github.com/spec/", StringComparison.Ordinal)
            && !text.StartsWith("version https://hawser.github.com/spec/", StringComparison.Ordinal))
        {
            return;
        }

        var size = text.Split('\n').FirstOrDefault(line => line.StartsWith("size ", StringComparison.Ordinal));
        var whole = long.TryParse(size.AsSpan(size is null ? 0 : 5).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var bytes)
            ? $" of {bytes} bytes"
            : "";
        throw new ModelFormatException(
            $"{path}: is a Git LFS pointer of {sizeInBytes} bytes, not the file{whole} it stands for; run 'git lfs pull' in the cloned folder");
    }
}
