using System.Text;
using System.Text.Json;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>What is not supported, contradicts itself or is too large is refused, and the message says where.</summary>
public sealed class GrammarRefusalTests
{
    [Theory]
    [InlineData("""{"type": "integer", "multipleOf": 2}""", "$.multipleOf: the keyword 'multipleOf' is not supported; remove it, or say in the description what it asks for")]
    [InlineData("""{"properties": {"age": {"not": {}}}}""", "$.properties.age.not: the keyword 'not' is not supported")]
    [InlineData("""{"properties": {"a b": {"if": {}}}}""", "$.properties['a b'].if: the keyword 'if'")]
    [InlineData("""{"anyOf": [{}, {"pattern": "a+"}]}""", "$.anyOf[1].pattern: the keyword 'pattern'")]
    [InlineData("""{"items": {"uniqueItems": true}}""", "$.items.uniqueItems: the keyword 'uniqueItems'")]
    [InlineData("""{"patternProperties": {}}""", "$.patternProperties: the keyword 'patternProperties'")]
    [InlineData("""{"properties": {"a": {"$id": "x"}}}""", "$.properties.a.$id: the keyword '$id' is supported only at the root")]
    [InlineData("""{"$ref": "#/$defs/a", "$defs": {"a": {"contains": {}}}}""", "$.$defs.a.contains: the keyword 'contains'")]
    [InlineData("""{"type": "string", "format": "iri"}""", "$.format: the format 'iri' is not supported; supported are date, time")]
    [InlineData("""{"type": "string", "format": "date", "maxLength": 3}""", "$.format: is not supported beside minLength and maxLength")]
    [InlineData("""{"$ref": "other.json"}""", "$.$ref: refers to \"other.json\"; only places in the same schema are supported")]
    [InlineData("""{"$ref": "#/$defs/b", "$defs": {"a": {}}}""", "$.$ref: refers to \"#/$defs/b\", which is not in the schema")]
    [InlineData("""{"$ref": "#"}""", "$: refers to itself with nothing in between")]
    [InlineData("""{"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}}""", "$: refers to itself with nothing in between")]
    [InlineData("""{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}""", "$: no value of it ends")]
    [InlineData("""{"properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1}}}""", "$.$defs.n: no value of it ends")]
    [InlineData("false", "$: nothing satisfies it")]
    [InlineData("3", "$: is 3, but a schema must be an object, true or false")]
    [InlineData("""{"type": "integer", "minimum": 3, "maximum": 2}""", "$.maximum: leaves no whole number beside $.minimum")]
    [InlineData("""{"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}""", "$.exclusiveMaximum: leaves no whole number")]
    [InlineData("""{"type": "number", "exclusiveMinimum": 3, "maximum": 3}""", "$.maximum: leaves no number")]
    [InlineData("""{"type": "string", "minLength": 3, "maxLength": 2}""", "$.maxLength: is 2, less than $.minLength, which is 3")]
    [InlineData("""{"type": "string", "minLength": -1}""", "$.minLength: is -1, but it must be a whole number from 0")]
    [InlineData("""{"type": "string", "minLength": 1000001}""", "$.minLength: the schema has more than 1000000 characters that must be there")]
    [InlineData("""{"enum": []}""", "$.enum: must be a list that is not empty")]
    [InlineData("""{"type": "string", "enum": [1, 2]}""", "$.enum: has no value that the keywords beside it allow")]
    [InlineData("""{"enum": [{}], "properties": {"a": {}}}""", "$.properties: is not supported beside $.enum[0]")]
    [InlineData("""{"type": "text"}""", "$.type: is \"text\", but the types are null, boolean")]
    [InlineData("""{"type": ["string"], "allOf": [{"type": "null"}, {}]}""", "$.allOf[0].type: leaves no type")]
    [InlineData("""{"anyOf": []}""", "$.anyOf: must be a list that is not empty")]
    [InlineData("""{"anyOf": [false]}""", "$.anyOf: nothing satisfies any of them")]
    [InlineData("""{"anyOf": [{}], "oneOf": [{}]}""", "$.oneOf: holds beside $.anyOf")]
    [InlineData("""{"oneOf": [{"type": "number"}, {"type": "integer"}]}""", "$.oneOf[1]: may hold together with $.oneOf[0], which oneOf forbids")]
    [InlineData("""{"oneOf": [{"const": 1}, {"const": 1.0}]}""", "$.oneOf[1]: may hold together")]
    [InlineData("""{"properties": {"a": false}, "required": ["a"]}""", "$.required[0]: asks for the property 'a', of which $.properties.a allows no value")]
    [InlineData("""{"required": ["a"], "additionalProperties": false}""", "$.required[0]: asks for the property 'a', which is not among the properties")]
    [InlineData("""{"items": false, "minItems": 1}""", "$.minItems: asks for 1 items, more than items and prefixItems allow")]
    [InlineData("""{"items": [{}]}""", "$.items: is a list; the schemas of the first items are written as prefixItems")]
    [InlineData("""{"allOf": [{"properties": {"a": {}}}, {"additionalProperties": false}]}""", "$.allOf[1].additionalProperties: is not about $.allOf[0].properties")]
    [InlineData("""{"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"a": {}}}]}""", "$.allOf[1].properties.a: differs from $.allOf[0].properties.a")]
    [InlineData("""{"allOf": [{"items": {}}, {"items": {"type": "null"}}]}""", "$.allOf[1].items: differs from $.allOf[0].items")]
    [InlineData("""{"minimum": 1e300}""", "$.minimum: is 1e300, which has more than 40 digits")]
    [InlineData("""{"type": "null", "type": "string"}""", "$.type: stands twice in one object")]
    [InlineData("""{"enum": ["\ud800"]}""", "$: a string holds half of a surrogate pair")]
    [InlineData("""{"type": "array", "minItems": 1000000, "items": {"type": "array", "minItems": 1000000}}""", "$: no value of it ends: what it asks for leads back to itself, or is longer than 2 GiB")]
    public void A_schema_that_cannot_be_kept_is_refused_with_its_place(string schema, string message)
    {
        using var json = JsonDocument.Parse(schema, new() { AllowDuplicateProperties = true });
        var error = Assert.Throws<GrammarException>(() => Grammar.FromJsonSchema(json.RootElement));
        Assert.StartsWith(message, error.Message, StringComparison.Ordinal);
        Assert.Equal(message[..message.IndexOf(": ", StringComparison.Ordinal)], error.Path);
    }

    public static TheoryData<string, string> Hostile => new()
    {
        { Nested("""{"type": "array", "items": """, 70, "{}"), "levels of schemas" },
        { Properties(501, i => "{}"), "properties of one object" },
        { Properties(200, i => Properties(60, k => "{}")), "schemas" },
        { $$"""{"enum": [{{string.Join(',', Enumerable.Range(0, 10_001))}}]}""", "schemas" },
        { $$"""{"const": "{{new string('x', 1 << 21)}}"}""", "bytes of names and constants" },
        { $$"""{"$ref": "#/$defs/r0", "$defs": {{Definitions(600)}}}""", "places that $ref refers to" },
        { $$"""{"oneOf": [{{string.Join(',', Enumerable.Range(0, 65).Select(i => $"{{\"const\": {i}}}"))}}]}""", "alternatives of oneOf" },
        { Nested("""{"anyOf": [{"type": "null"}, {"type": "string"}], "allOf": [{}, """, 20, "{}", "]}"), "holds beside" },
        { """{"allOf": [{"$ref": "#/$defs/a"}, {}], "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}""", "more than" },
    };

    [Theory]
    [MemberData(nameof(Hostile), DisableDiscoveryEnumeration = true)]
    public void A_schema_beyond_the_limits_is_refused_at_once(string schema, string problem)
    {
        using var json = JsonDocument.Parse(schema, new() { MaxDepth = 1000 });
        var before = GC.GetAllocatedBytesForCurrentThread();
        var error = Assert.Throws<GrammarException>(() => Grammar.FromJsonSchema(json.RootElement));
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 100 << 20);
    }

    [Fact]
    public void Alternatives_that_would_take_too_long_to_tell_apart_end_the_text_alone()
    {
        var alternatives = Enumerable.Range(0, 9_000).Select(i => $"{{\"type\": \"string\", \"minLength\": {2 + i}, \"maxLength\": {3 + i}}}");
        using var json = JsonDocument.Parse($"{{\"anyOf\": [{string.Join(',', alternatives)}]}}");
        var matcher = Grammar.FromJsonSchema(json.RootElement).CreateMatcher(Vocabularies.Mixed, [Vocabularies.End]);
        var mask = new uint[(Vocabularies.Mixed.Count + 31) / 32];
        Assert.True(matcher.Accept('"'));
        var error = Assert.Throws<InvalidOperationException>(() => matcher.FillMask(mask, 100));
        Assert.StartsWith("the grammar has too many alternatives", error.Message, StringComparison.Ordinal);

        // The vocabulary's other grammars know nothing of it.
        Assert.True(GrammarWalk.Reads(Grammar.JsonValue.CreateMatcher(Vocabularies.Mixed, [Vocabularies.End]), Vocabularies.Mixed, "[1]"u8, new Random(1)));
    }

    [Fact]
    public void The_largest_schemas_are_read_and_followed()
    {
        foreach (var schema in (string[])
            [
                Properties(500, i => """{"type": "integer"}"""), Nested("""{"type": "array", "minItems": 1, "items": """, 60, "{}"),
                $$"""{"enum": [{{string.Join(',', Enumerable.Range(0, 9_000))}}]}""", $$"""{"$ref": "#/$defs/r0", "$defs": {{Definitions(400)}}}""",
            ])
        {
            using var json = JsonDocument.Parse(schema, new() { MaxDepth = 1000 });
            var matcher = Grammar.FromJsonSchema(json.RootElement).CreateMatcher(Vocabularies.Mixed, [Vocabularies.End]);
            var (_, isComplete) = GrammarWalk.Run(
                matcher, Vocabularies.Mixed, Vocabularies.End, matcher.Distance + 40, new Random(1), GrammarWalk.Choices["any"]);
            Assert.True(isComplete);
        }
    }

    private static string Nested(string open, int levels, string inner, string close = "}")
    {
        var text = new StringBuilder();
        for (var i = 0; i < levels; i++)
        {
            text.Append(open);
        }

        text.Append(inner);
        for (var i = 0; i < levels; i++)
        {
            text.Append(close);
        }

        return text.ToString();
    }

    private static string Properties(int count, Func<int, string> schema) =>
        $"{{\"type\": \"object\", \"properties\": {{{string.Join(',', Enumerable.Range(0, count).Select(i => $"\"p{i}\": {schema(i)}"))}}}}}";

    // Each needs the next.
    private static string Definitions(int count)
    {
        var all = Enumerable.Range(0, count).Select(i =>
            $"\"r{i}\": {{\"type\": \"array\", \"minItems\": 1, \"items\": {(i + 1 < count ? $"{{\"$ref\": \"#/$defs/r{i + 1}\"}}" : "{}")}}}");
        return $"{{{string.Join(',', all)}}}";
    }
}
