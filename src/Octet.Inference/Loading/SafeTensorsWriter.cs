using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>The name, element type and shape of a tensor to be written.</summary>
public sealed record SafeTensorSpec(string Name, SafeTensorType Type, params long[] Shape);

/// <summary>Writes a .safetensors file as a stream of bytes: into a temporary file beside it, which <see cref="Commit"/> renames; so the file is whole or absent.</summary>
public sealed class SafeTensorsWriter : IDisposable
{
    private readonly string _temporaryPath;
    private readonly long _dataLength;
    private FileStream? _stream;
    private long _written;

    private SafeTensorsWriter(string path, byte[] header, long dataLength)
    {
        Path = path;
        _dataLength = dataLength;
        _temporaryPath = $"{path}.{Guid.NewGuid():N}.partial";
        try
        {
            _stream = new FileStream(_temporaryPath, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1 << 16);
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new IOException($"{path}: no file can be created beside it: {cause.Message}", cause);
        }
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        try
        {
            _stream.Write(length);
            _stream.Write(header);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The path the file will have.</summary>
    public string Path { get; }

    /// <summary>Begins a file at <paramref name="path"/> that will hold <paramref name="tensors"/> in this order.</summary>
    /// <exception cref="ArgumentException">Two tensors have one name, or a shape is negative or too large.</exception>
    /// <exception cref="IOException">The file cannot be created, or <paramref name="path"/> is a directory, a pipe or a device.</exception>
    public static SafeTensorsWriter Create(string path, IReadOnlyList<SafeTensorSpec> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(tensors);
        CheckTarget(path);
        byte[] header = Header(tensors, metadata, out long dataLength);
        return new SafeTensorsWriter(path, header, dataLength);
    }

    /// <summary>Refuses a path at which no file can be written. (The rename at the end would put one in the place of whatever bears the name, even of /dev/null.)</summary>
    /// <exception cref="IOException"><paramref name="path"/> is a directory, a pipe or a device, or lies in no directory.</exception>
    public static void CheckTarget(string path)
    {
        if (Directory.Exists(path) || System.IO.Path.EndsInDirectorySeparator(path))
        {
            throw new IOException($"{path}: is a directory, expected the name of a file");
        }
        if (System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path)) is { } folder && !Directory.Exists(folder))
        {
            throw new IOException($"{path}: the folder {folder} does not exist; create it first");
        }
        if (!File.Exists(path) || new FileInfo(ModelFile.Target(path)).Length > 0)
        {
            return;
        }
        try
        {
            // NOTE: pipes and devices have the length 0 like empty files, but no other can be given to them.
            using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
            file.SetLength(0);
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new IOException($"{path}: is not a regular file, or may not be written; name another", cause);
        }
    }

    /// <summary>Appends the next elements of the data: row-major, one tensor after the other, in as many calls as needed.</summary>
    /// <exception cref="InvalidOperationException">More bytes than the declared tensors have.</exception>
    public void Write<T>(ReadOnlySpan<T> elements) where T : unmanaged
    {
        // A span of more than 2^31 bytes has no byte view, so it goes in pieces.
        const int Piece = 1 << 24;
        for (; elements.Length > Piece; elements = elements[Piece..])
        {
            Append(MemoryMarshal.AsBytes(elements[..Piece]));
        }
        Append(MemoryMarshal.AsBytes(elements));
    }

    /// <summary>Completes the file and gives it its name, replacing an older one.</summary>
    /// <exception cref="InvalidOperationException">Fewer bytes than the declared tensors have were written.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public void Commit()
    {
        ObjectDisposedException.ThrowIf(_stream is null, this);
        if (_written != _dataLength)
        {
            throw new InvalidOperationException($"{Path}: {_written} of {_dataLength} bytes were written.");
        }
        _stream.Flush(flushToDisk: true);
        _stream.Dispose();
        File.Move(_temporaryPath, Path, overwrite: true);
        _stream = null;
    }

    /// <summary>Ends writing; without a <see cref="Commit"/> nothing is left behind.</summary>
    public void Dispose()
    {
        if (_stream is { } stream)
        {
            _stream = null;
            try
            {
                stream.Dispose();
            }
            finally
            {
                File.Delete(_temporaryPath);
            }
        }
    }

    private void Append(ReadOnlySpan<byte> bytes)
    {
        ObjectDisposedException.ThrowIf(_stream is null, this);
        if (bytes.Length > _dataLength - _written)
        {
            throw new InvalidOperationException($"{Path}: {bytes.Length} bytes at byte {_written} exceed the {_dataLength} bytes of the declared tensors.");
        }
        _stream.Write(bytes);
        _written += bytes.Length;
    }

    private static byte[] Header(IReadOnlyList<SafeTensorSpec> tensors, IReadOnlyDictionary<string, string>? metadata, out long dataLength)
    {
        using var text = new MemoryStream();
        using var json = new Utf8JsonWriter(text);
        json.WriteStartObject();
        if (metadata is { Count: > 0 })
        {
            json.WriteStartObject("__metadata__");
            foreach (var (key, value) in metadata)
            {
                json.WriteString(key, value);
            }
            json.WriteEndObject();
        }
        var names = new HashSet<string> { "__metadata__" };
        dataLength = 0;
        foreach (SafeTensorSpec tensor in tensors)
        {
            if (!names.Add(tensor.Name))
            {
                throw new ArgumentException($"The tensor name '{tensor.Name}' is reserved or given twice.", nameof(tensors));
            }
            if (SafeTensorsHeader.SizeInBytes(tensor.Type, tensor.Shape) is not { } size || size > long.MaxValue / 2 - dataLength)
            {
                throw new ArgumentException($"The shape [{string.Join(", ", tensor.Shape)}] of tensor '{tensor.Name}' is negative or too large.", nameof(tensors));
            }
            json.WriteStartObject(tensor.Name);
            json.WriteString("dtype", tensor.Type.FormatName());
            WriteNumbers(json, "shape", tensor.Shape);
            WriteNumbers(json, "data_offsets", [dataLength, dataLength + size]);
            json.WriteEndObject();
            dataLength += size;
        }
        json.WriteEndObject();
        json.Flush();
        // Padding to 8 bytes keeps the first tensor aligned when the file is mapped.
        while (text.Length % 8 != 0)
        {
            text.WriteByte((byte)' ');
        }
        return text.ToArray();
    }

    private static void WriteNumbers(Utf8JsonWriter json, string name, ReadOnlySpan<long> numbers)
    {
        json.WriteStartArray(name);
        foreach (long number in numbers)
        {
            json.WriteNumberValue(number);
        }
        json.WriteEndArray();
    }
}
