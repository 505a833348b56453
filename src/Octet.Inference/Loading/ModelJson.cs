using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>A value in one of a model's JSON files together with where it stands, so that every complaint names file, field and value.</summary>
internal readonly struct ModelJson
{
    private const long LargestFile = 256L << 20;
    private readonly string _file;
    private readonly string _field;
    private readonly HashSet<string>? _asked;

    private ModelJson(string file, string field, JsonElement element, HashSet<string>? asked = null)
    {
        _file = file;
        _field = field;
        _asked = asked;
        Element = element;
    }

    public JsonElement Element { get; }

    /// <summary>Reads a file whose top is an object.</summary>
    public static ModelJson Read(string path) => Parse(path, ReadFile(path));

    /// <summary>Reads all bytes of a file of bounded size.</summary>
    public static byte[] ReadFile(string path)
    {
        long size = ModelFile.SizeInBytes(path);
        if (size > LargestFile)
        {
            throw new ModelFormatException($"{path}: has {size} bytes, more than the {LargestFile} that are read of such a file");
        }
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw ModelFormatException.Unreadable(path, cause);
        }
    }

    public static ModelJson Parse(string file, byte[] json)
    {
        ReadOnlyMemory<byte> text = ModelText.WithoutMark(file, json);
        JsonSyntax.Check(file, text.Span);
        try
        {
            var top = new ModelJson(file, "", JsonElement.Parse(text.Span, new JsonDocumentOptions { AllowDuplicateProperties = false }));
            return top.Element.ValueKind == JsonValueKind.Object
                ? top
                : throw new ModelFormatException($"{file}: is not a JSON object but {Describe(top.Element)}");
        }
        catch (JsonException cause)
        {
            throw new ModelFormatException($"{file}: is not valid JSON: {JsonSyntax.Reason(cause)}", cause);
        }
    }

    public ModelFormatException Bad(string problem) =>
        new(_field.Length == 0 ? $"{_file}: {problem}" : $"{_file}: {_field} {problem}");

    /// <summary>The same value, which remembers from now on which of its members, and of theirs, are asked for.</summary>
    public ModelJson Remembering() => new(_file, _field, Element, []);

    /// <summary>The members of an object that <see cref="Remembering"/> gave which nobody has asked for; those that are JSON null are left out.</summary>
    public IEnumerable<(string Name, ModelJson Value)> NotAskedFor()
    {
        HashSet<string> asked = _asked ?? throw new InvalidOperationException("nothing was remembered");
        return Members().Where(member => member.Value.Element.ValueKind != JsonValueKind.Null && !asked.Contains(member.Value._field));
    }

    /// <summary>Whether there is a member called <paramref name="name"/>, be it JSON null.</summary>
    public bool Has(string name) => Expect(JsonValueKind.Object, "an object").Element.TryGetProperty(name, out _);

    /// <summary>The member called <paramref name="name"/>, or null if it is absent or JSON null.</summary>
    public ModelJson? Find(string name)
    {
        JsonElement element = Expect(JsonValueKind.Object, "an object").Element;
        _asked?.Add(Path(name));
        return element.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? new ModelJson(_file, Path(name), value, _asked) : null;
    }

    public ModelJson Get(string name) => Find(name) ?? throw Bad($"{(_field.Length == 0 ? "lacks" : "lacks the field")} '{name}'");

    public ModelJson Object(string name) => Get(name).Expect(JsonValueKind.Object, "an object");

    public ModelJson? FindObject(string name) => Find(name)?.Expect(JsonValueKind.Object, "an object");

    public string Text(string name) => Get(name).AsText();

    public string? FindText(string name) => Find(name)?.AsText();

    public bool Flag(string name, bool absent) => Find(name)?.AsFlag() ?? absent;

    public int Integer(string name, int least, int most) => Get(name).AsInteger(least, most);

    public int? FindInteger(string name, int least, int most) => Find(name)?.AsInteger(least, most);

    public double? FindNumber(string name, double least, double most) => Find(name)?.AsNumber(least, most);

    public string AsText() => Expect(JsonValueKind.String, "a string").Element.GetString()!;

    public bool AsFlag() => Element.ValueKind is JsonValueKind.True or JsonValueKind.False
        ? Element.GetBoolean()
        : throw Bad($"is {Describe(Element)}, expected true or false");

    public int AsInteger(int least, int most) =>
        Element.ValueKind == JsonValueKind.Number && Element.TryGetInt32(out int value) && value >= least && value <= most
            ? value
            : throw Bad($"is {Describe(Element)}, expected an integer from {least} to {most}");

    public double AsNumber(double least, double most) =>
        Element.ValueKind == JsonValueKind.Number && Element.TryGetDouble(out double value) && value >= least && value <= most
            ? value
            : throw Bad($"is {Describe(Element)}, expected a number from {least} to {most}");

    /// <summary>The elements of an array.</summary>
    public IEnumerable<ModelJson> Items()
    {
        _ = Expect(JsonValueKind.Array, "an array");
        int index = 0;
        foreach (JsonElement item in Element.EnumerateArray())
        {
            yield return new ModelJson(_file, $"{_field}[{index++}]", item, _asked);
        }
    }

    /// <summary>The members of an object.</summary>
    public IEnumerable<(string Name, ModelJson Value)> Members()
    {
        _ = Expect(JsonValueKind.Object, "an object");
        foreach (JsonProperty member in Element.EnumerateObject())
        {
            yield return (member.Name, new ModelJson(_file, Path(member.Name), member.Value, _asked));
        }
    }

    /// <summary>One integer, or an array of them; empty if absent.</summary>
    public IReadOnlyList<int> OneOrMoreIntegers(string name, int least, int most)
    {
        if (Find(name) is not { } value)
        {
            return [];
        }
        return value.Element.ValueKind == JsonValueKind.Array
            ? [.. value.Items().Select(item => item.AsInteger(least, most))]
            : [value.AsInteger(least, most)];
    }

    public ModelJson Expect(JsonValueKind kind, string description) =>
        Element.ValueKind == kind ? this : throw Bad($"is {Describe(Element)}, expected {description}");

    /// <summary>The value on one line, in few words if it is long, for a message.</summary>
    public string Brief()
    {
        const int Longest = 60;
        if (Element.ValueKind == JsonValueKind.String)
        {
            string text = Element.GetString()!;
            return text.Length <= Longest ? $"'{text}'" : $"'{text[..Longest]}...'";
        }
        if (Element.GetRawText().Length > 4 * Longest)
        {
            return Describe(Element);
        }
        using var compact = new MemoryStream();
        using (var writer = new Utf8JsonWriter(compact, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            Element.WriteTo(writer);
        }
        string line = Encoding.UTF8.GetString(compact.GetBuffer().AsSpan(0, (int)compact.Length));
        return line.Length <= Longest ? line : Describe(Element);
    }

    private string Path(string name) => _field.Length == 0 ? name : $"{_field}.{name}";

    private static string Describe(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => $"an array of {element.GetArrayLength()}",
        JsonValueKind.String => $"the string '{element.GetString()}'",
        _ => element.GetRawText(),
    };
}
