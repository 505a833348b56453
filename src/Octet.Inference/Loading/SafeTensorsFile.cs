using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;

namespace Octet.Inference.Loading;

/// <summary>A .safetensors file mapped read-only into memory: <c>u64 header length, JSON header, data</c>, all little-endian.</summary>
/// <remarks>
/// The whole header is validated when the file is opened; opening reads nothing else, and tensors of any size are read in place.
/// The file must not be shortened by another process while it is open. Reading is thread-safe; <see cref="Dispose"/> must not run
/// while a span or an address from the file is in use. A file that is never disposed stays mapped until the process ends.
/// </remarks>
public sealed unsafe class SafeTensorsFile : IDisposable
{
    private const int LengthField = 8;
    private readonly MemoryMappedFile _mapping;
    private readonly MemoryMappedViewAccessor _view;
    private nint _data;

    private SafeTensorsFile(string path, MemoryMappedFile mapping, long sizeInBytes)
    {
        Path = path;
        SizeInBytes = sizeInBytes;
        _mapping = mapping;
        _view = mapping.CreateViewAccessor(0, sizeInBytes, MemoryMappedFileAccess.Read);
        try
        {
            byte* start = null;
            _view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            start += _view.PointerOffset;
            _data = (nint)start;
            long header = HeaderLength(path, new ReadOnlySpan<byte>(start, (int)Math.Min(sizeInBytes, FileKind.Bytes)), sizeInBytes);
            _data += LengthField + (nint)header;
            long dataLength = sizeInBytes - LengthField - header;
            var (entries, metadata) = SafeTensorsHeader.Parse(path, new ReadOnlySpan<byte>(start + LengthField, (int)header), dataLength);
            Metadata = metadata;
            Tensors = entries.ToDictionary(
                entry => entry.Name,
                entry => new SafeTensor(this, entry.Name, entry.Type, entry.Shape, entry.Begin, entry.End - entry.Begin));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The path the file was opened with.</summary>
    public string Path { get; }

    /// <summary>The size of the file in bytes.</summary>
    public long SizeInBytes { get; }

    /// <summary>The tensors by name.</summary>
    public IReadOnlyDictionary<string, SafeTensor> Tensors { get; }

    /// <summary>The free-form strings of <c>__metadata__</c>; empty if there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensor called <paramref name="name"/>.</summary>
    /// <exception cref="ModelFormatException">The file has no such tensor.</exception>
    public SafeTensor this[string name] => Tensors.TryGetValue(name, out SafeTensor? tensor)
        ? tensor
        : throw new ModelFormatException($"{Path}: has no tensor '{name}' among its {Tensors.Count}");

    internal byte* Data
    {
        get
        {
            nint data = _data;
            ObjectDisposedException.ThrowIf(data == 0, this);
            return (byte*)data;
        }
    }

    /// <summary>Opens and validates the file at <paramref name="path"/>.</summary>
    /// <exception cref="ModelFormatException">The file cannot be read, or is not a well-formed .safetensors file.</exception>
    public static SafeTensorsFile Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            long sizeInBytes = ModelFile.SizeInBytes(path);
            if (sizeInBytes < LengthField)
            {
                throw new ModelFormatException($"{path}: has {sizeInBytes} bytes, too few for a .safetensors file; fetch it again");
            }
            var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
            MemoryMappedFile mapping;
            try
            {
                sizeInBytes = stream.Length;
                mapping = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
            }
            catch
            {
                stream.Dispose();
                throw;
            }
            try
            {
                return new SafeTensorsFile(path, mapping, sizeInBytes);
            }
            catch
            {
                mapping.Dispose();
                throw;
            }
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw ModelFormatException.Unreadable(path, cause);
        }
    }

    /// <summary>Unmaps the file: every span and address taken from it becomes invalid, every later access throws.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _data, 0) != 0)
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
        }
        _view.Dispose();
        _mapping.Dispose();
    }

    // From the first bytes of the file: the length, and then the first of the header, which is '{'.
    private static long HeaderLength(string path, ReadOnlySpan<byte> start, long sizeInBytes)
    {
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(start);
        bool tooLong = (long)Math.Min(length, long.MaxValue) > sizeInBytes - LengthField;
        if (length is 0 or > SafeTensorsHeader.LongestHeader || (tooLong && start.Length > LengthField && start[LengthField] != '{'))
        {
            throw new ModelFormatException(FileKind.OfContent(start) is { } kind
                ? $"{path}: is not a .safetensors file: it holds {kind}"
                : $"{path}: is not a .safetensors file: it states a header of {length} bytes (2 to {SafeTensorsHeader.LongestHeader} are possible) in a file of {sizeInBytes}");
        }
        if (tooLong)
        {
            throw new ModelFormatException($"{path}: states a header of {length} bytes but has only {sizeInBytes} in all; the file is truncated, fetch it again");
        }
        return (long)length;
    }
}
