using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;

namespace Octet.Inference.Loading;

/// <summary>A .safetensors file: <c>u64 header length, JSON header, data</c>, all little-endian.</summary>
/// <remarks>
/// The whole header is validated when the file is opened; opening reads nothing else. Data are read by position
/// (<see cref="SafeTensor.Read"/>), or in place: with the first span or address that is asked for, the file is mapped read-only into memory,
/// and must then not be shortened by another process. Reading is thread-safe; <see cref="Dispose"/> must not run
/// while a span or an address from the file is in use. A file that is never disposed stays mapped until the process ends.
/// </remarks>
public sealed unsafe class SafeTensorsFile : IDisposable
{
    private const int LengthField = 8;
    private readonly Lock _lock = new();
    private MemoryMappedFile? _mapping;
    private MemoryMappedViewAccessor? _view;
    private nint _data; // 0: not mapped
    private bool _disposed;

    internal SafeTensorsFile(CheckpointFile content)
    {
        Content = content;
        var start = new byte[(int)Math.Min(SizeInBytes, FileKind.Bytes)];
        content.Read(start, 0, CancellationToken.None);
        var header = new byte[HeaderLength(Path, start, SizeInBytes)];
        content.Read(header, LengthField, CancellationToken.None);
        DataOffset = LengthField + header.Length;
        var (entries, metadata) = SafeTensorsHeader.Parse(Path, header, SizeInBytes - DataOffset);
        Metadata = metadata;
        Tensors = entries.ToDictionary(
            entry => entry.Name,
            entry => new SafeTensor(this, entry.Name, entry.Type, entry.Shape, entry.Begin, entry.End - entry.Begin));
    }

    /// <summary>The path the file was opened with.</summary>
    public string Path => Content.Path;

    /// <summary>The size of the file in bytes.</summary>
    public long SizeInBytes => Content.Length;

    /// <summary>The tensors by name.</summary>
    public IReadOnlyDictionary<string, SafeTensor> Tensors { get; }

    /// <summary>The free-form strings of <c>__metadata__</c>; empty if there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensor called <paramref name="name"/>.</summary>
    /// <exception cref="ModelFormatException">The file has no such tensor.</exception>
    public SafeTensor this[string name] => Tensors.TryGetValue(name, out SafeTensor? tensor)
        ? tensor
        : throw new ModelFormatException($"{Path}: has no tensor '{name}' among its {Tensors.Count}");

    /// <summary>The file itself.</summary>
    internal CheckpointFile Content { get; }

    /// <summary>Where the data begin in it.</summary>
    internal long DataOffset { get; }

    /// <summary>Whether the file is mapped.</summary>
    internal bool IsMapped => Volatile.Read(ref _data) != 0;

    /// <summary>Where the data lie in memory; the file is mapped with the first call.</summary>
    internal byte* Data
    {
        get
        {
            nint data = Volatile.Read(ref _data);
            return (byte*)(data != 0 ? data : Map());
        }
    }

    /// <summary>Opens and validates the file at <paramref name="path"/>.</summary>
    /// <exception cref="ModelFormatException">The file cannot be read, or is not a well-formed .safetensors file.</exception>
    public static SafeTensorsFile Open(string path) => Open(path, DiskFiles.Instance);

    /// <summary>As <see cref="Open(string)"/>, from other files than the disk's.</summary>
    internal static SafeTensorsFile Open(string path, IFileSource files)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            long sizeInBytes = ModelFile.SizeInBytes(path);
            if (sizeInBytes < LengthField)
            {
                throw new ModelFormatException($"{path}: has {sizeInBytes} bytes, too few for a .safetensors file; fetch it again");
            }
            CheckpointFile content = CheckpointFile.Open(files, path);
            try
            {
                return new SafeTensorsFile(content);
            }
            catch
            {
                content.Dispose();
                throw;
            }
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw ModelFormatException.Unreadable(path, cause);
        }
    }

    /// <summary>Closes the file: every span and address taken from it becomes invalid, every later access throws.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            if (Interlocked.Exchange(ref _data, 0) != 0)
            {
                _view!.SafeMemoryMappedViewHandle.ReleasePointer();
            }
            _view?.Dispose();
            _mapping?.Dispose();
            Content.Dispose();
        }
    }

    private nint Map()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_data != 0)
            {
                return _data;
            }
            Content.RequireUnchanged();
            _mapping ??= Content.Map();
            _view ??= _mapping.CreateViewAccessor(0, SizeInBytes, MemoryMappedFileAccess.Read);
            byte* start = null;
            _view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            nint data = (nint)(start + _view.PointerOffset + DataOffset);
            Volatile.Write(ref _data, data);
            return data;
        }
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
