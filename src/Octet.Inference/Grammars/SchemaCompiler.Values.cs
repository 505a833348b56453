using System.Text;
using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>Objects, arrays and constants.</summary>
internal sealed partial class SchemaCompiler
{
    private Term CompileObject(SchemaKeywords keywords)
    {
        var free = keywords.Find("additionalProperties") is { } additional ? CompileSchema(additional) : JsonTerms.Value;
        var properties = Properties(keywords, free);
        var used = properties.Aggregate(KeyNode.Empty, (keys, property) => keys.With(Encoding.UTF8.GetBytes(property.Name)));
        var members = new FreeMembers(JsonTerms.ColonAnd(free));
        Term Rest(bool isFirst) => JsonTerms.All(
            free is NothingTerm ? EmptyTerm.Instance : new FreeMembersTerm(members, used, isFirst), JsonTerms.Text("}"));

        // From the last property to the first: what follows where there was none yet, and where there was one.
        var (first, next) = (Rest(isFirst: true), Rest(isFirst: false));
        for (var i = properties.Count - 1; i >= 0; i--)
        {
            var (_, member, isRequired) = properties[i];
            first = JsonTerms.Any(JsonTerms.All(member, next), isRequired ? NothingTerm.Instance : first);
            next = JsonTerms.Any(JsonTerms.All(JsonTerms.Comma, member, next), isRequired ? NothingTerm.Instance : next);
        }

        return JsonTerms.All(JsonTerms.Text("{"), first);
    }

    // Each with the text of name, colon and value. Names that are required and not declared come last, in the order of required.
    private List<(string Name, Term Member, bool IsRequired)> Properties(SchemaKeywords keywords, Term free)
    {
        var required = new Dictionary<string, SchemaEntry>();
        foreach (var item in keywords.All("required").SelectMany(entry => entry.Items(mayBeEmpty: true)))
        {
            required.TryAdd(item.Text(), item);
        }

        var properties = new List<(string Name, Term Member, bool IsRequired)>();
        var values = new Dictionary<string, SchemaEntry>();
        foreach (var (name, schema) in keywords.All("properties").SelectMany(entry => entry.Members()))
        {
            if (values.TryGetValue(name, out var known))
            {
                _ = JsonElement.DeepEquals(known.Value, schema.Value) ? 0
                    : throw schema.Bad($"differs from {known.Path}, which holds as well; join the two schemas into one");
                continue;
            }

            values.Add(name, schema);
            var value = CompileSchema(schema);
            if (value is NothingTerm && required.TryGetValue(name, out var demand))
            {
                throw demand.Bad($"asks for the property '{name}', of which {schema.Path} allows no value");
            }

            properties.Add((name, Member(name, value, schema), required.ContainsKey(name)));
            Limit(properties.Count, MostProperties, schema, "properties of one object");
        }

        foreach (var (name, demand) in required.Where(pair => !values.ContainsKey(pair.Key)))
        {
            if (free is NothingTerm)
            {
                throw demand.Bad($"asks for the property '{name}', which is not among the properties, and additionalProperties is false");
            }

            properties.Add((name, Member(name, free, demand), true));
            Limit(properties.Count, MostProperties, demand, "properties of one object");
        }

        return properties;
    }

    private Term Member(string name, Term value, SchemaEntry at) =>
        JsonTerms.All(Literal(JsonTerms.Quote(name), at), JsonTerms.ColonAnd(value));

    private Term CompileArray(SchemaKeywords keywords)
    {
        var (min, max) = Counts(keywords, "minItems", "maxItems");
        var items = keywords.Find("items");
        if (items is { Value.ValueKind: JsonValueKind.Array })
        {
            throw items.Value.Bad("is a list; the schemas of the first items are written as prefixItems");
        }

        var item = items is { } schema ? CompileSchema(schema) : JsonTerms.Value;
        var first = keywords.Find("prefixItems") is { } prefix ? Array.ConvertAll(prefix.Items(), CompileSchema) : [];
        Term all = first.Length == 0 ? Items(item, min, max) : max <= first.Length ? EmptyTerm.Instance
            : item is NothingTerm ? (min <= first.Length ? EmptyTerm.Instance : item)
            : JsonTerms.Times(JsonTerms.All(JsonTerms.Comma, item), Math.Max(min - first.Length, 0), Minus(max, first.Length));
        for (var i = first.Length - 1; i >= 0; i--)
        {
            all = JsonTerms.Any(
                i < max ? JsonTerms.All(i == 0 ? EmptyTerm.Instance : JsonTerms.Comma, first[i], all) : NothingTerm.Instance,
                i >= min ? EmptyTerm.Instance : NothingTerm.Instance);
        }

        return JsonTerms.All(JsonTerms.Text("["), all, JsonTerms.Text("]")) is var array and not NothingTerm ? array
            : throw keywords.All("minItems")[^1].Bad($"asks for {min} items, more than items and prefixItems allow");
    }

    private static Term Items(Term item, int min, int max)
    {
        var none = min == 0 ? EmptyTerm.Instance : (Term)NothingTerm.Instance;
        return max == 0 || item is NothingTerm ? none : JsonTerms.Any(
            JsonTerms.All(item, JsonTerms.Times(JsonTerms.All(JsonTerms.Comma, item), Math.Max(min - 1, 0), Minus(max, 1))), none);
    }

    private static int Minus(int max, int count) => max == Term.Infinite ? max : max - count;

    private Term CompileConstants(SchemaKeywords keywords, JsonTypes types)
    {
        SchemaEntry[][] lists =
            [.. keywords.All("enum").Select(entry => entry.Items()), .. keywords.All("const").Select(entry => new[] { entry })];
        bool IsIn(SchemaEntry value, SchemaEntry[] list) => Array.Exists(list, other => JsonElement.DeepEquals(other.Value, value.Value));
        var values = lists[0].Where(value => lists.Skip(1).All(list => IsIn(value, list)));
        var terms = values.Where(value => Allows(keywords, types, value)).Select(value => Constant(value, 0)).ToArray();
        return JsonTerms.Any(terms) is var any and not NothingTerm ? any
            : throw keywords.All("enum").Concat(keywords.All("const")).First().Bad("has no value that the keywords beside it allow");
    }

    private static bool Allows(SchemaKeywords keywords, JsonTypes types, SchemaEntry value)
    {
        var type = TypeOf(value);
        if ((types & type) == 0 && keywords.Has("type"))
        {
            return false;
        }

        if (type == JsonTypes.String)
        {
            if (keywords.Find("format") is { } format)
            {
                throw format.Bad("is not supported beside enum and const; remove it");
            }

            var length = value.Value.GetString()!.EnumerateRunes().Count();
            var (shortest, longest) = Counts(keywords, "minLength", "maxLength");
            return length >= shortest && length <= longest;
        }

        if ((type & JsonTypes.Number) != 0)
        {
            return IsWithin(keywords, value);
        }

        foreach (var name in type == JsonTypes.Object ? ["properties", "required", "additionalProperties"]
            : type == JsonTypes.Array ? (ReadOnlySpan<string>)["items", "prefixItems", "minItems", "maxItems"] : [])
        {
            if (keywords.All(name) is [var entry, ..])
            {
                throw entry.Bad($"is not supported beside {value.Path}; list only values that fit, and remove it");
            }
        }

        return true;
    }

    private static bool IsWithin(SchemaKeywords keywords, SchemaEntry value)
    {
        var (min, max) = (Bound(keywords, "minimum", "exclusiveMinimum", 1), Bound(keywords, "maximum", "exclusiveMaximum", -1));
        if (min is null && max is null)
        {
            return true;
        }

        var number = value.Number();
        var above = min is null ? 1 : number.CompareTo(min.Value.Bound.Value);
        var below = max is null ? 1 : max.Value.Bound.Value.CompareTo(number);
        return (above > 0 || (above == 0 && !min!.Value.Bound.IsExclusive)) && (below > 0 || (below == 0 && !max!.Value.Bound.IsExclusive));
    }

    /// <summary>The kind of a value; a number is an integer where its fraction is 0, as 1.0 is.</summary>
    internal static JsonTypes TypeOf(SchemaEntry value) => value.Value.ValueKind switch
    {
        JsonValueKind.Null => JsonTypes.Null,
        JsonValueKind.True or JsonValueKind.False => JsonTypes.Boolean,
        JsonValueKind.String => JsonTypes.String,
        JsonValueKind.Array => JsonTypes.Array,
        JsonValueKind.Object => JsonTypes.Object,
        _ => value.Number().Fraction.Length == 0 ? JsonTypes.Integer : JsonTypes.NotInteger,
    };

    private Term Constant(SchemaEntry value, int level)
    {
        Limit(++_schemas, MostSchemas, value, "schemas and constants");
        Limit(level, MostLevels, value, "levels of a constant");
        switch (value.Value.ValueKind)
        {
            case JsonValueKind.String:
                return Literal(JsonTerms.Quote(value.Value.GetString()!), value);
            case JsonValueKind.Array:
                return Listed("[", value.Items(mayBeEmpty: true).Select(item => Constant(item, level + 1)), "]");
            case JsonValueKind.Object:
                var members = value.Members().Select(member => Member(member.Name, Constant(member.Entry, level + 1), value));
                return Listed("{", members, "}");
            default:
                return Literal(value.Value.GetRawText(), value);
        }
    }

    private static Term Listed(string open, IEnumerable<Term> items, string close)
    {
        var all = new List<Term> { JsonTerms.Text(open) };
        foreach (var item in items)
        {
            all.AddRange(all.Count == 1 ? [item] : [JsonTerms.Comma, item]);
        }

        return JsonTerms.All([.. all, JsonTerms.Text(close)]);
    }
}
