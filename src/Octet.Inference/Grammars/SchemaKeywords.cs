using System.Numerics;
using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>What a keyword says.</summary>
/// <param name="Value">Its value.</param>
/// <param name="Path">Where it is.</param>
internal readonly record struct SchemaEntry(JsonElement Value, string Path)
{
    /// <summary>An error at this place.</summary>
    public GrammarException Bad(string problem) => new(Path, problem);

    /// <summary>The items of a list, each with its place.</summary>
    public SchemaEntry[] Items(bool mayBeEmpty = false)
    {
        if (Value.ValueKind != JsonValueKind.Array || (!mayBeEmpty && Value.GetArrayLength() == 0))
        {
            throw Bad(mayBeEmpty ? "must be a list" : "must be a list that is not empty");
        }

        var path = Path;
        return [.. Value.EnumerateArray().Select((item, i) => new SchemaEntry(item, SchemaPath.Item(path, i)))];
    }

    /// <summary>The members of an object, each with its place.</summary>
    public (string Name, SchemaEntry Entry)[] Members()
    {
        if (Value.ValueKind != JsonValueKind.Object)
        {
            throw Bad("must be an object");
        }

        var path = Path;
        var seen = new HashSet<string>();
        return [.. Value.EnumerateObject().Select(member => seen.Add(member.Name)
            ? (member.Name, new SchemaEntry(member.Value, SchemaPath.Member(path, member.Name)))
            : throw new GrammarException(SchemaPath.Member(path, member.Name), "stands twice in one object; keep one of them"))];
    }

    /// <summary>A text.</summary>
    public string Text() => Value.ValueKind == JsonValueKind.String ? Value.GetString()! : throw Bad("must be a string");

    /// <summary>A number.</summary>
    public DecimalNumber Number() =>
        Value.ValueKind != JsonValueKind.Number ? throw Bad("must be a number")
        : DecimalNumber.TryRead(Value, out var number) ? number
        : throw Bad($"is {SchemaPath.Shown(Value)}, which has more than {DecimalNumber.MostDigits} digits before or behind the point");

    /// <summary>How many of something; what is larger than any text counts as <see cref="Term.Infinite"/>.</summary>
    public int Count()
    {
        var number = Number();
        if (number.IsNegative || number.Fraction.Length > 0)
        {
            throw Bad($"is {SchemaPath.Shown(Value)}, but it must be a whole number from 0");
        }

        return (int)BigInteger.Min(number.Floor, Term.Infinite);
    }
}

/// <summary>The keywords of a schema, or of several that hold together: then a keyword may be there more than once.</summary>
internal sealed class SchemaKeywords
{
    private static readonly string[] Annotations =
    [
        "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated", "readOnly",
        "writeOnly", "strict",
    ];

    private static readonly string[] OfObjects = ["properties", "required", "additionalProperties"];
    private static readonly string[] OfArrays = ["items", "prefixItems", "minItems", "maxItems"];
    private static readonly string[] OfStrings = ["minLength", "maxLength", "format"];
    private static readonly string[] OfNumbers = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
    private static readonly string[] Others = ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"];
    private static readonly string[] Supported = [.. Others, .. OfObjects, .. OfArrays, .. OfStrings, .. OfNumbers];

    private readonly Dictionary<string, List<SchemaEntry>> _entries = [];

    private SchemaKeywords(string path) => Path = path;

    /// <summary>The schema's place.</summary>
    public string Path { get; }

    /// <summary>Whether it says nothing.</summary>
    public bool IsEmpty => _entries.Count == 0;

    /// <summary>Reads a schema that is an object.</summary>
    /// <exception cref="GrammarException">It is none, or has a keyword that is not supported.</exception>
    public static SchemaKeywords Read(SchemaEntry schema)
    {
        if (schema.Value.ValueKind != JsonValueKind.Object)
        {
            throw schema.Bad($"is {SchemaPath.Shown(schema.Value)}, but a schema must be an object, true or false");
        }

        var keywords = new SchemaKeywords(schema.Path);
        foreach (var (name, entry) in schema.Members())
        {
            if (name == "$id" && schema.Path != SchemaPath.Root)
            {
                throw entry.Bad("the keyword '$id' is supported only at the root; refer to places by '#/...'");
            }

            if (Supported.Contains(name))
            {
                keywords._entries.Add(name, [entry]);
            }
            else if (!Annotations.Contains(name))
            {
                throw entry.Bad($"the keyword '{name}' is not supported; remove it, or say in the description what it asks for");
            }
        }

        return keywords;
    }

    /// <summary>Whether it has a keyword.</summary>
    public bool Has(string name) => _entries.ContainsKey(name);

    /// <summary>Whether it has this keyword alone.</summary>
    public bool HasOnly(string name) => _entries.Count == 1 && Has(name);

    /// <summary>All that a keyword says.</summary>
    public IReadOnlyList<SchemaEntry> All(string name) => _entries.TryGetValue(name, out var entries) ? entries : [];

    /// <summary>What a keyword says that can be there only once; null: it is not there.</summary>
    public SchemaEntry? Find(string name)
    {
        var all = All(name);
        var other = all.FirstOrDefault(entry => !JsonElement.DeepEquals(entry.Value, all[0].Value));
        return other.Path is not null
            ? throw other.Bad($"differs from {all[0].Path}, which holds as well; join the two schemas into one")
            : all.Count == 0 ? null : all[0];
    }

    /// <summary>The same without a keyword.</summary>
    public SchemaKeywords Without(params ReadOnlySpan<string> names)
    {
        var rest = new SchemaKeywords(Path);
        foreach (var (name, entries) in _entries)
        {
            if (!names.Contains(name))
            {
                rest._entries.Add(name, entries);
            }
        }

        return rest;
    }

    /// <summary>Both at once.</summary>
    /// <exception cref="GrammarException">What both say together is not what one schema with the keywords of both says.</exception>
    public SchemaKeywords And(SchemaKeywords other)
    {
        CheckIndependent(this, other);
        CheckIndependent(other, this);
        var both = new SchemaKeywords(IsEmpty ? other.Path : Path);
        foreach (var (name, entry) in _entries.Concat(other._entries).SelectMany(pair => pair.Value.Select(entry => (pair.Key, entry))))
        {
            if (!both._entries.TryAdd(name, [entry]))
            {
                both._entries[name].Add(entry);
            }
        }

        return both;
    }

    /// <summary>The kinds of values that it allows; where it says none, those that its keywords are about, or all.</summary>
    public JsonTypes Types()
    {
        var types = Has("type") ? JsonTypes.All : Described();
        foreach (var entry in All("type"))
        {
            types &= entry.Value.ValueKind == JsonValueKind.Array
                ? entry.Items().Aggregate(default(JsonTypes), (all, item) => all | TypeOf(item))
                : TypeOf(entry);
        }

        return types != 0 ? types : throw new GrammarException(All("type")[^1].Path, "leaves no type that a value could have");
    }

    private JsonTypes Described()
    {
        var types = (OfObjects.Any(Has) ? JsonTypes.Object : 0) | (OfArrays.Any(Has) ? JsonTypes.Array : 0)
            | (OfStrings.Any(Has) ? JsonTypes.String : 0) | (OfNumbers.Any(Has) ? JsonTypes.Number : 0);
        return types != 0 ? types : JsonTypes.All;
    }

    private static JsonTypes TypeOf(SchemaEntry entry) => entry.Value.ValueKind == JsonValueKind.String
        ? entry.Value.GetString() switch
        {
            "null" => JsonTypes.Null,
            "boolean" => JsonTypes.Boolean,
            "integer" => JsonTypes.Integer,
            "number" => JsonTypes.Number,
            "string" => JsonTypes.String,
            "array" => JsonTypes.Array,
            "object" => JsonTypes.Object,
            _ => throw entry.Bad(
                $"is {SchemaPath.Shown(entry.Value)}, but the types are null, boolean, integer, number, string, array and object"),
        }
        : throw entry.Bad("must be a string or a list of strings");

    // additionalProperties is about the properties beside it, and items about the prefixItems beside it, not about those of other schemas.
    private static void CheckIndependent(SchemaKeywords one, SchemaKeywords other)
    {
        foreach (var (rest, named) in (ReadOnlySpan<(string, string)>)[("additionalProperties", "properties"), ("items", "prefixItems")])
        {
            if (one.All(rest).Any(entry => entry.Value.ValueKind != JsonValueKind.True) && other.Has(named))
            {
                throw one.All(rest)[0].Bad($"is not about {other.All(named)[0].Path}, which holds as well; join the two schemas into one");
            }
        }
    }
}

/// <summary>Kinds of JSON values.</summary>
[Flags]
internal enum JsonTypes
{
    Null = 1,
    Boolean = 2,
    Integer = 4,
    NotInteger = 8,
    Number = Integer | NotInteger,
    String = 16,
    Array = 32,
    Object = 64,
    All = 127,
}
