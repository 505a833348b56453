using System.Text;
using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>Reads the JSON header of a .safetensors file: <c>{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}}</c>.</summary>
/// <remarks>
/// Offsets count from the end of the header. The format wants the tensors to cover the data exactly: no hole, no overlap,
/// nothing behind the last one. That is checked here, so a tensor that comes out of a header lies inside the file.
/// </remarks>
internal static class SafeTensorsHeader
{
    public const long LongestHeader = 100_000_000;
    private const int MostDimensions = 16;
    private const string Remedy = "the file is not well-formed: compare its checksum with its publisher's";

    public readonly record struct Entry(string Name, SafeTensorType Type, long[] Shape, long Begin, long End);

    /// <summary>Parses <paramref name="json"/>, the header of <paramref name="file"/> whose data are <paramref name="dataLength"/> bytes.</summary>
    public static (List<Entry> Entries, Dictionary<string, string> Metadata) Parse(string file, ReadOnlySpan<byte> json, long dataLength)
    {
        var entries = new List<Entry>();
        var metadata = new Dictionary<string, string>();
        try
        {
            // Utf8JsonReader would only notice damaged UTF-8 when a string is taken out, and with another exception.
            if (!System.Text.Unicode.Utf8.IsValid(json))
            {
                throw Bad(file, "the header is not UTF-8");
            }
            var reader = new Utf8JsonReader(json);
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            {
                throw Bad(file, "the header is not a JSON object");
            }
            var names = new HashSet<string>();
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                string name = reader.GetString()!;
                if (!names.Add(name))
                {
                    throw Bad(file, $"tensor '{name}' is declared twice");
                }
                reader.Read();
                if (name == "__metadata__")
                {
                    ReadMetadata(file, ref reader, metadata);
                }
                else
                {
                    entries.Add(ReadEntry(file, name, ref reader));
                }
            }
            // Only the padding may follow: reading on fails on anything that is not white space.
            reader.Read();
        }
        catch (Exception cause) when (cause is JsonException or InvalidOperationException)
        {
            throw new ModelFormatException($"{file}: the header is not valid JSON ({cause.Message}); {Remedy}", cause);
        }
        CheckLayout(file, entries, dataLength);
        return (entries, metadata);
    }

    private static void ReadMetadata(string file, ref Utf8JsonReader reader, Dictionary<string, string> metadata)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Bad(file, "__metadata__ is not a JSON object");
        }
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
            {
                throw Bad(file, $"__metadata__ '{key}' is not a string");
            }
            if (!metadata.TryAdd(key, reader.GetString()!))
            {
                throw Bad(file, $"__metadata__ '{key}' is declared twice");
            }
        }
    }

    private static Entry ReadEntry(string file, string name, ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Bad(file, $"tensor '{name}' is not described by a JSON object");
        }
        SafeTensorType? type = null;
        long[]? shape = null;
        long[]? offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            switch (key)
            {
                case "dtype" when type is null:
                    type = ReadType(file, name, ref reader);
                    break;
                case "shape" when shape is null:
                    shape = ReadNumbers(file, name, key, MostDimensions, ref reader);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadNumbers(file, name, key, 2, ref reader);
                    break;
                default:
                    throw Bad(file, $"tensor '{name}' has an unexpected or repeated field '{key}'");
            }
        }
        if (type is null || shape is null || offsets is null)
        {
            throw Bad(file, $"tensor '{name}' lacks {(type is null ? "dtype" : shape is null ? "shape" : "data_offsets")}");
        }
        if (offsets.Length != 2)
        {
            throw Bad(file, $"tensor '{name}' has {offsets.Length} data_offsets, expected 2");
        }
        return new Entry(name, type.Value, shape, offsets[0], offsets[1]);
    }

    private static SafeTensorType ReadType(string file, string name, ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.String)
        {
            throw Bad(file, $"tensor '{name}': dtype is not a string");
        }
        string text = reader.GetString()!;
        return SafeTensorTypes.TryParse(text, out SafeTensorType type)
            ? type
            : throw new ModelFormatException($"{file}: tensor '{name}' has the unknown dtype '{text}'; convert it to F8_E4M3, BF16, F16 or F32");
    }

    private static long[] ReadNumbers(string file, string name, string key, int most, ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw Bad(file, $"tensor '{name}': {key} is not an array");
        }
        var numbers = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long number) || number < 0)
            {
                string found = Encoding.UTF8.GetString(reader.ValueSpan);
                throw Bad(file, $"tensor '{name}': {key} contains '{found}', expected integers from 0");
            }
            if (numbers.Count == most)
            {
                throw Bad(file, $"tensor '{name}': {key} has more than {most} numbers");
            }
            numbers.Add(number);
        }
        return [.. numbers];
    }

    private static void CheckLayout(string file, List<Entry> entries, long dataLength)
    {
        foreach (Entry entry in entries)
        {
            string shape = $"[{string.Join(", ", entry.Shape)}]";
            if (entry.End < entry.Begin)
            {
                throw Bad(file, $"tensor '{entry.Name}' lies at bytes {entry.Begin} to {entry.End}");
            }
            if (SizeInBytes(entry.Type, entry.Shape) is not { } size)
            {
                throw Bad(file, $"tensor '{entry.Name}' has shape {shape}: its size does not fit 64 bits");
            }
            if (size != entry.End - entry.Begin)
            {
                throw Bad(file, $"tensor '{entry.Name}' ({entry.Type.FormatName()} {shape}) needs {size} bytes but has {entry.End - entry.Begin}");
            }
            if (entry.End > dataLength)
            {
                throw new ModelFormatException(
                    $"{file}: tensor '{entry.Name}' lies at bytes {entry.Begin} to {entry.End}, outside the {dataLength} bytes of data, of which the header describes {entries.Max(e => e.End)}; the file is truncated, fetch it again");
            }
        }
        entries.Sort((a, b) => a.Begin != b.Begin ? a.Begin.CompareTo(b.Begin) : a.End.CompareTo(b.End));
        long covered = 0;
        string before = "the start of the data";
        foreach (Entry entry in entries)
        {
            if (entry.Begin != covered)
            {
                string fault = entry.Begin < covered ? "overlaps" : "leaves a hole behind";
                throw Bad(file, $"tensor '{entry.Name}' begins at byte {entry.Begin} and {fault} {before}, which ends at {covered}");
            }
            covered = entry.End;
            before = $"tensor '{entry.Name}'";
        }
        if (covered != dataLength)
        {
            throw Bad(file, $"the tensors cover {covered} of {dataLength} bytes of data");
        }
    }

    /// <summary>The size of a tensor in bytes, or null if it overflows 63 bits.</summary>
    public static long? SizeInBytes(SafeTensorType type, ReadOnlySpan<long> shape)
    {
        long size = type.SizeInBytes();
        foreach (long length in shape)
        {
            // The product of two values below 2^63 fits 126 bits, so the 128-bit product is exact.
            Int128 product = (Int128)size * length;
            if (length < 0 || product > long.MaxValue)
            {
                return null;
            }
            size = (long)product;
        }
        return size;
    }

    private static ModelFormatException Bad(string file, string problem) =>
        new($"{file}: {problem}; {Remedy}");
}
