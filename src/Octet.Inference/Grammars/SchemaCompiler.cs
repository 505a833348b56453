using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>
/// Makes terms of a JSON Schema. An object's members come in the schema's order, then free ones. Every size that a schema can grow in is
/// bounded, so that none takes long or much memory.
/// </summary>
internal sealed partial class SchemaCompiler
{
    /// <summary>The most schemas in a schema, each counted as often as others make use of it within allOf, anyOf and oneOf.</summary>
    public const int MostSchemas = 10_000;

    /// <summary>How deep they nest.</summary>
    public const int MostLevels = 64;

    /// <summary>The most places that $ref refers to.</summary>
    public const int MostRules = 500;

    /// <summary>The most properties of an object.</summary>
    public const int MostProperties = 500;

    /// <summary>The most items or characters that a text must have at a place.</summary>
    public const int MostRequired = 1_000_000;

    /// <summary>The most bytes of all names and of all values of enum and const.</summary>
    public const int MostLiteralBytes = 1 << 20;

    private readonly JsonElement _root;
    private readonly Dictionary<string, Rule> _rules = [];
    private readonly Queue<(Rule Rule, SchemaEntry Schema)> _open = [];
    private int _schemas;
    private int _levels;
    private int _literalBytes;

    private SchemaCompiler(JsonElement root) => _root = root;

    /// <summary>The values that a schema allows.</summary>
    /// <exception cref="GrammarException">See <see cref="Grammar.FromJsonSchema"/>.</exception>
    public static Term Compile(JsonElement schema)
    {
        var compiler = new SchemaCompiler(schema);
        try
        {
            return compiler.CompileAll();
        }
        catch (InvalidOperationException cause) when (cause is not ObjectDisposedException)
        {
            throw new GrammarException(
                SchemaPath.Root, $"a string holds half of a surrogate pair, which is no character ({cause.Message})");
        }
    }

    private ReferenceTerm CompileAll()
    {
        var root = RuleOf(new(_root, SchemaPath.Root));
        while (_open.TryDequeue(out var next))
        {
            next.Rule.Body = CompileSchema(next.Schema);
            if (next.Rule.Body is NothingTerm)
            {
                throw next.Schema.Bad("nothing satisfies it");
            }
        }

        RuleChecks.Complete([.. _rules.Values]);
        return root;
    }

    private ReferenceTerm RuleOf(SchemaEntry schema)
    {
        if (!_rules.TryGetValue(schema.Path, out var rule))
        {
            rule = new Rule(schema.Path);
            _rules.Add(schema.Path, rule);
            _open.Enqueue((rule, schema));
            Limit(_rules.Count, MostRules, schema, "places that $ref refers to");
        }

        return new ReferenceTerm(rule);
    }

    // Nothing: no value satisfies it, as false.
    private Term CompileSchema(SchemaEntry schema)
    {
        if (schema.Value.ValueKind is JsonValueKind.True or JsonValueKind.False)
        {
            return schema.Value.ValueKind == JsonValueKind.True ? JsonTerms.Value : NothingTerm.Instance;
        }

        return CompileKeywords(SchemaKeywords.Read(schema), schema);
    }

    private Term CompileKeywords(SchemaKeywords keywords, SchemaEntry schema)
    {
        Limit(++_schemas, MostSchemas, schema, "schemas");
        Limit(++_levels, MostLevels, schema, "levels of schemas");
        try
        {
            if (keywords.HasOnly("$ref"))
            {
                return RuleOf(Target(keywords.All("$ref")[0]));
            }

            if (keywords.HasOnly("allOf") && keywords.All("allOf")[0].Items() is [var single])
            {
                return CompileSchema(single);
            }

            var joined = Join(keywords, 0);
            return joined.Has("anyOf") || joined.Has("oneOf") ? CompileAlternatives(joined) : CompileTypes(joined);
        }
        finally
        {
            _levels--;
        }
    }

    private SchemaEntry Target(SchemaEntry reference)
    {
        var (value, path) = SchemaPath.Resolve(_root, reference.Value, reference.Path);
        return new(value, path);
    }

    // With what allOf and $ref add to it.
    private SchemaKeywords Join(SchemaKeywords keywords, int level)
    {
        var joined = keywords.Without("allOf", "$ref");
        foreach (var part in keywords.All("allOf").SelectMany(entry => entry.Items()).Concat(keywords.All("$ref").Select(Target)))
        {
            Limit(++_schemas, MostSchemas, part, "schemas");
            Limit(level + 1, MostLevels, part, "levels of schemas");
            joined = part.Value.ValueKind == JsonValueKind.True ? joined : joined.And(Join(SchemaKeywords.Read(part), level + 1));
        }

        return joined;
    }

    private Term CompileAlternatives(SchemaKeywords keywords)
    {
        var groups = keywords.All("anyOf").Concat(keywords.All("oneOf")).ToArray();
        if (groups.Length > 1)
        {
            throw groups[1].Bad($"holds beside {groups[0].Path}, which is not supported; write one list of alternatives");
        }

        var (rest, alternatives) = (keywords.Without("anyOf", "oneOf"), groups[0].Items());
        if (keywords.Has("oneOf"))
        {
            new SchemaExclusion(_root).Check(alternatives);
        }

        var terms = alternatives.Select(alternative => CompileAlternative(rest, alternative)).ToArray();
        return JsonTerms.Any(terms) is var any and not NothingTerm ? any : throw groups[0].Bad("nothing satisfies any of them");
    }

    private Term CompileAlternative(SchemaKeywords rest, SchemaEntry alternative) => alternative.Value.ValueKind switch
    {
        JsonValueKind.False => NothingTerm.Instance,
        JsonValueKind.True when rest.IsEmpty => JsonTerms.Value,
        JsonValueKind.True => CompileKeywords(rest, alternative),
        _ when rest.IsEmpty => CompileSchema(alternative),
        _ => CompileKeywords(rest.And(Join(SchemaKeywords.Read(alternative), 0)), alternative),
    };

    private Term CompileTypes(SchemaKeywords keywords)
    {
        var types = keywords.Types();
        if (keywords.Has("enum") || keywords.Has("const"))
        {
            return CompileConstants(keywords, types);
        }

        if (keywords.IsEmpty)
        {
            return JsonTerms.Value;
        }

        return JsonTerms.Any(
            types.HasFlag(JsonTypes.Object) ? CompileObject(keywords) : NothingTerm.Instance,
            types.HasFlag(JsonTypes.Array) ? CompileArray(keywords) : NothingTerm.Instance,
            types.HasFlag(JsonTypes.String) ? CompileString(keywords) : NothingTerm.Instance,
            types.HasFlag(JsonTypes.Integer) ? CompileNumber(keywords, types.HasFlag(JsonTypes.NotInteger)) : NothingTerm.Instance,
            types.HasFlag(JsonTypes.Boolean) ? JsonTerms.Boolean : NothingTerm.Instance,
            types.HasFlag(JsonTypes.Null) ? JsonTerms.Null : NothingTerm.Instance);
    }

    private static Term CompileString(SchemaKeywords keywords)
    {
        var (min, max) = Counts(keywords, "minLength", "maxLength");
        if (keywords.Find("format") is not { } format)
        {
            return JsonTerms.StringOf(min, max);
        }

        if (keywords.Has("minLength") || keywords.Has("maxLength"))
        {
            throw format.Bad("is not supported beside minLength and maxLength; remove one of them");
        }

        return FormatTerms.Find(format.Text()) is { } term
            ? JsonTerms.All(JsonTerms.Text("\""), term, JsonTerms.Text("\""))
            : throw format.Bad($"the format '{format.Text()}' is not supported; supported are {string.Join(", ", FormatTerms.Names)}");
    }

    private static Term CompileNumber(SchemaKeywords keywords, bool isNumber)
    {
        var (min, max) = (Bound(keywords, "minimum", "exclusiveMinimum", 1), Bound(keywords, "maximum", "exclusiveMaximum", -1));
        var term = (min, max, isNumber) switch
        {
            (null, null, true) => JsonTerms.Number,
            (_, _, true) => NumberTerms.Number(min?.Bound, max?.Bound),
            _ => NumberTerms.Integer(min?.Bound, max?.Bound),
        };
        if (term is not NothingTerm)
        {
            return term;
        }

        var beside = max is null || min is null ? "" : $" beside {min.Value.Path}";
        throw new GrammarException((max ?? min)!.Value.Path, $"leaves no {(isNumber ? "number" : "whole number")}{beside}");
    }

    // The narrowest of those that hold; sign: 1 for lower ends.
    private static (DecimalBound Bound, string Path)? Bound(SchemaKeywords keywords, string inclusive, string exclusive, int sign)
    {
        (DecimalBound Bound, string Path)? narrowest = null;
        var all = keywords.All(inclusive).Select(entry => (entry, false)).Concat(keywords.All(exclusive).Select(entry => (entry, true)));
        foreach (var (entry, isExclusive) in all)
        {
            var bound = new DecimalBound(entry.Number(), isExclusive);
            var order = narrowest is null ? 1 : sign * bound.Value.CompareTo(narrowest.Value.Bound.Value);
            if (order > 0 || (order == 0 && isExclusive))
            {
                narrowest = (bound, entry.Path);
            }
        }

        return narrowest;
    }

    private static (int Min, int Max) Counts(SchemaKeywords keywords, string least, string most)
    {
        var (min, max) = (0, Term.Infinite);
        foreach (var entry in keywords.All(least))
        {
            min = Math.Max(min, entry.Count());
            Limit(min, MostRequired, entry, least == "minItems" ? "items that must be there" : "characters that must be there");
        }

        foreach (var entry in keywords.All(most))
        {
            max = Math.Min(max, entry.Count());
        }

        return min <= max ? (min, max)
            : throw keywords.All(most)[^1].Bad($"is {max}, less than {keywords.All(least)[^1].Path}, which is {min}");
    }

    private Term Literal(string text, SchemaEntry at)
    {
        Limit(_literalBytes += Encoding.UTF8.GetByteCount(text), MostLiteralBytes, at, "bytes of names and constants");
        return JsonTerms.Text(text);
    }

    private static void Limit(int count, int most, SchemaEntry at, string what)
    {
        if (count > most)
        {
            throw at.Bad(string.Create(CultureInfo.InvariantCulture, $"the schema has more than {most} {what}; make it smaller"));
        }
    }
}
