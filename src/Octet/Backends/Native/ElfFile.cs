using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>
/// What the header of a library says before it is loaded: glibc reports one of another architecture as a file that is not there, and a
/// truncated one ends the process.
/// </summary>
internal static class ElfFile
{
    private const int HeaderSize = 64;
    private static ReadOnlySpan<byte> Magic => [0x7F, (byte)'E', (byte)'L', (byte)'F'];

    /// <summary>Why this process cannot load the file, to be read after its name; null where nothing is in the way, and on systems without ELF.</summary>
    public static string? Obstacle(string path, Architecture process)
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        Span<byte> header = stackalloc byte[HeaderSize];
        long length;
        try
        {
            using var file = File.OpenRead(path);
            length = file.Length;
            if (file.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length || !header.StartsWith(Magic))
            {
                return "is no shared library";
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return $"cannot be read: {error.Message}";
        }

        // Offsets of the ELF specification: e_machine in either byte order, and the table of sections, which stands at the file's end.
        var machine = header[5] == 2 ? BinaryPrimitives.ReadUInt16BigEndian(header[18..]) : BinaryPrimitives.ReadUInt16LittleEndian(header[18..]);
        if (ArchitectureOf(machine) is var built && built != process)
        {
            return $"is built for {(built is null ? $"ELF machine {machine}" : Name(built.Value))}, this process runs on {Name(process)}";
        }

        var end = BinaryPrimitives.ReadInt64LittleEndian(header[0x28..])
            + BinaryPrimitives.ReadUInt16LittleEndian(header[0x3A..]) * (long)BinaryPrimitives.ReadUInt16LittleEndian(header[0x3C..]);
        return header[4] == 2 && header[5] == 1 && length < end ? $"is truncated: {length} bytes of at least {end}" : null;
    }

    private static string Name(Architecture architecture) => architecture.ToString().ToLowerInvariant();

    // Those .NET runs on, by their numbers in the ELF specification.
    private static Architecture? ArchitectureOf(ushort machine) => machine switch
    {
        3 => Architecture.X86,
        21 => Architecture.Ppc64le,
        22 => Architecture.S390x,
        40 => Architecture.Arm,
        62 => Architecture.X64,
        183 => Architecture.Arm64,
        243 => Architecture.RiscV64,
        258 => Architecture.LoongArch64,
        _ => null,
    };
}
