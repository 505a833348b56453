using System.Buffers.Binary;

namespace Octet.Cli.Inspect;

/// <summary>What one kernel claims of a CU, from its code object's metadata.</summary>
/// <param name="Name">The kernel.</param>
/// <param name="ArchVgprs">Architectural vector registers.</param>
/// <param name="AccVgprs">Accumulation registers; both come out of the same 512 of a lane.</param>
/// <param name="Sgprs">Scalar registers.</param>
/// <param name="Spills">Registers spilled, vector and scalar.</param>
/// <param name="ScratchBytes">Private memory of a lane.</param>
/// <param name="StaticLdsBytes">LDS fixed by the compiler; what a launch adds is not known here.</param>
/// <param name="MaxThreads">The largest block.</param>
internal sealed record KernelResources(
    string Name, int ArchVgprs, int AccVgprs, int Sgprs, int Spills, int ScratchBytes, int StaticLdsBytes, int MaxThreads)
{
    /// <summary>min(8, 512 / roundup(arch + acc, 8)).</summary>
    public int WavesPerSimd => Math.Min(8, 512 / Math.Max(8, (ArchVgprs + AccVgprs + 7) / 8 * 8));
}

/// <summary>A code object: an ELF file whose AMDGPU note describes every kernel in MessagePack.</summary>
internal static class CodeObject
{
    private const int ProgramHeaderNote = 4, NoteTypeMetadata = 32;

    /// <summary>The kernels of a code object, in its order.</summary>
    /// <exception cref="InvalidDataException">Not a 64-bit little-endian ELF file with an AMDGPU metadata note.</exception>
    public static List<KernelResources> Read(ReadOnlySpan<byte> elf)
    {
        if (elf.Length < 64 || !elf[..6].SequenceEqual("\u007fELF\u0002\u0001"u8))
        {
            throw new InvalidDataException("a code object must be a 64-bit little-endian ELF file");
        }

        var offset = (int)BinaryPrimitives.ReadInt64LittleEndian(elf[0x20..]);
        var size = BinaryPrimitives.ReadInt16LittleEndian(elf[0x36..]);
        var count = BinaryPrimitives.ReadInt16LittleEndian(elf[0x38..]);
        for (var i = 0; i < count; i++)
        {
            var header = elf.Slice(offset + i * size, size);
            if (BinaryPrimitives.ReadInt32LittleEndian(header) == ProgramHeaderNote
                && FindMetadata(elf.Slice((int)BinaryPrimitives.ReadInt64LittleEndian(header[8..]), (int)BinaryPrimitives.ReadInt64LittleEndian(header[32..]))) is { } metadata)
            {
                return [.. ((List<object?>)metadata["amdhsa.kernels"]!).Select(k => Describe((Dictionary<string, object?>)k!))];
            }
        }

        throw new InvalidDataException("the code object has no AMDGPU metadata note");
    }

    // A note: lengths of name and description, type, then both, each padded to 4 bytes.
    private static Dictionary<string, object?>? FindMetadata(ReadOnlySpan<byte> notes)
    {
        while (notes.Length >= 12)
        {
            var name = BinaryPrimitives.ReadInt32LittleEndian(notes);
            var description = BinaryPrimitives.ReadInt32LittleEndian(notes[4..]);
            var type = BinaryPrimitives.ReadInt32LittleEndian(notes[8..]);
            var start = 12 + (name + 3) / 4 * 4;
            if (type == NoteTypeMetadata && notes.Slice(12, name).StartsWith("AMDGPU"u8))
            {
                return new MessagePackReader(notes.Slice(start, description)).Read() as Dictionary<string, object?>;
            }

            notes = notes[Math.Min(notes.Length, start + (description + 3) / 4 * 4)..];
        }

        return null;
    }

    // NOTE: on gfx90a and later .vgpr_count is the sum of both kinds (the accumulation registers begin at a multiple of 4).
    private static KernelResources Describe(Dictionary<string, object?> kernel)
    {
        int Number(string key) => (int)((kernel.GetValueOrDefault(key) as long?) ?? 0);
        var acc = Number(".agpr_count");
        return new(
            (string)kernel[".name"]!, Number(".vgpr_count") - acc, acc, Number(".sgpr_count"),
            Number(".vgpr_spill_count") + Number(".sgpr_spill_count"), Number(".private_segment_fixed_size"),
            Number(".group_segment_fixed_size"), Number(".max_flat_workgroup_size"));
    }
}
