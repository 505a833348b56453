using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Octet.Backends;

/// <summary>
/// The folder a self-extracting single file was unpacked to. The host tells the program only where libraries of packages are, not those
/// of referenced projects, so the folder is found by the host's rule: DOTNET_BUNDLE_EXTRACT_BASE_DIR (else ~/.net), the
/// executable's name, and the identifier in the bundle's manifest (dotnet/designs, single-file/bundler.md).
/// </summary>
internal static class ExtractionFolder
{
    private const int ChunkSize = 1 << 20;

    // In the host's executable, behind the 8 bytes that say where in it the manifest begins (0: no bundle).
    private static readonly byte[] Signature = SHA256.HashData(".net core bundle\n"u8);

    /// <summary>The folder of this process; null where it is no such file.</summary>
    public static string? OfThisProcess()
    {
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        var chosen = Environment.GetEnvironmentVariable("DOTNET_BUNDLE_EXTRACT_BASE_DIR");
        return Environment.ProcessPath is { } executable ? Of(executable, string.IsNullOrEmpty(chosen) ? Path.Combine(home, ".net") : chosen) : null;
    }

    /// <summary>The folder of an executable; null where that is no bundle, or was not unpacked.</summary>
    public static string? Of(string executable, string baseFolder)
    {
        try
        {
            using var file = File.OpenRead(executable);
            var folder = ManifestOffset(file) is > 0 and var offset && offset < file.Length
                ? Path.Combine(baseFolder, Path.GetFileName(executable), Identifier(file, offset))
                : null;
            return Directory.Exists(folder) ? folder : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or FormatException or ArgumentException)
        {
            return null;
        }
    }

    private static long ManifestOffset(FileStream file)
    {
        // Chunks overlap by what stands together.
        var overlap = sizeof(long) + Signature.Length - 1;
        var buffer = new byte[ChunkSize + overlap];
        for (long start = 0; start < file.Length; start += ChunkSize)
        {
            file.Position = start;
            var chunk = buffer.AsSpan(0, file.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false));
            var found = chunk.Length < sizeof(long) ? -1 : chunk[sizeof(long)..].IndexOf(Signature);
            if (found >= 0)
            {
                return BinaryPrimitives.ReadInt64LittleEndian(chunk[found..]);
            }
        }

        return 0;
    }

    // Two numbers of the version and one of the files, then the identifier with its length before it.
    private static string Identifier(FileStream file, long offset)
    {
        file.Position = offset;
        using var reader = new BinaryReader(file, Encoding.UTF8, leaveOpen: true);
        _ = reader.ReadInt32();
        _ = reader.ReadInt32();
        _ = reader.ReadInt32();
        return reader.ReadString();
    }
}
