using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>Shows that no value satisfies two schemas: that of oneOf exactly one holds where any holds.</summary>
/// <param name="root">The whole schema.</param>
internal sealed class SchemaExclusion(JsonElement root)
{
    private const int MostAlternatives = 64;
    private const int MostLevels = 8;
    private const int MostSteps = 20_000;

    private int _steps;

    /// <summary>Compares each with each.</summary>
    /// <exception cref="GrammarException">Two of them cannot be shown to exclude each other.</exception>
    public void Check(SchemaEntry[] alternatives)
    {
        if (alternatives.Length > MostAlternatives)
        {
            throw alternatives[MostAlternatives].Bad(
                $"is one of more than {MostAlternatives} alternatives of oneOf; write anyOf where they cannot hold together");
        }

        for (var i = 0; i < alternatives.Length; i++)
        {
            for (var k = 0; k < i; k++)
            {
                if (!Exclude(alternatives[k], alternatives[i], 0))
                {
                    throw alternatives[i].Bad(
                        $"may hold together with {alternatives[k].Path}, which oneOf forbids; write anyOf, or let a required property with "
                        + "different constants tell them apart");
                }
            }
        }
    }

    private bool Exclude(SchemaEntry x, SchemaEntry y, int level)
    {
        if (x.Value.ValueKind == JsonValueKind.False || y.Value.ValueKind == JsonValueKind.False)
        {
            return true;
        }

        if (level > MostLevels || ++_steps > MostSteps || Read(x) is not { } a || Read(y) is not { } b)
        {
            return false;
        }

        // An alternative's own alternatives: all of them must be excluded.
        if (a.All("anyOf").Concat(a.All("oneOf")).FirstOrDefault() is { Path: not null } choices)
        {
            return Array.TrueForAll(choices.Items(), choice => Exclude(choice, y, level + 1));
        }

        if (b.Has("anyOf") || b.Has("oneOf"))
        {
            return Exclude(y, x, level + 1);
        }

        if (Constants(a) is { } values && Constants(b) is { } others)
        {
            return !values.Any(value => others.Any(other => JsonElement.DeepEquals(value.Value, other.Value)));
        }

        var (types, otherTypes) = (TypesOf(a), TypesOf(b));
        return (types & otherTypes) == 0 || (types == JsonTypes.Object && otherTypes == JsonTypes.Object && ExcludeObjects(a, b, level));
    }

    private bool ExcludeObjects(SchemaKeywords a, SchemaKeywords b, int level)
    {
        var (required, others) = (Required(a), Required(b));
        var (properties, otherProperties) = (Properties(a), Properties(b));
        return required.Intersect(others).Any(name =>
                properties.TryGetValue(name, out var x) && otherProperties.TryGetValue(name, out var y) && Exclude(x, y, level + 1))
            || required.Any(name => Forbids(b, otherProperties, name))
            || others.Any(name => Forbids(a, properties, name));
    }

    private static bool Forbids(SchemaKeywords keywords, Dictionary<string, SchemaEntry> properties, string name) =>
        !properties.ContainsKey(name) && keywords.Find("additionalProperties") is { Value.ValueKind: JsonValueKind.False };

    // Null: true, which excludes nothing, or what is more than keywords of its own.
    private SchemaKeywords? Read(SchemaEntry schema)
    {
        for (var hops = 0; hops < MostLevels && schema.Value.ValueKind == JsonValueKind.Object; hops++)
        {
            var keywords = SchemaKeywords.Read(schema);
            if (!keywords.HasOnly("$ref"))
            {
                return keywords.Has("$ref") || keywords.Has("allOf") ? null : keywords;
            }

            var (value, path) = SchemaPath.Resolve(root, keywords.All("$ref")[0].Value, keywords.All("$ref")[0].Path);
            schema = new(value, path);
        }

        return null;
    }

    private static SchemaEntry[]? Constants(SchemaKeywords keywords) =>
        keywords.Find("const") is { } value ? [value] : keywords.Find("enum")?.Items();

    private static JsonTypes TypesOf(SchemaKeywords keywords) =>
        Constants(keywords)?.Aggregate(default(JsonTypes), (all, value) => all | SchemaCompiler.TypeOf(value)) ?? keywords.Types();

    private static string[] Required(SchemaKeywords keywords) =>
        [.. keywords.All("required").SelectMany(entry => entry.Items(mayBeEmpty: true)).Select(item => item.Text())];

    private static Dictionary<string, SchemaEntry> Properties(SchemaKeywords keywords) =>
        keywords.All("properties").SelectMany(entry => entry.Members()).ToDictionary(member => member.Name, member => member.Entry);
}
