using System.Text;
using System.Text.Json;
using Json.Schema;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>What a grammar lets be written is valid, and what is valid and of its form can be written.</summary>
public sealed class GrammarSchemaTests
{
    private static readonly EvaluationOptions s_evaluation = new() { RequireFormatValidation = true };

    public static TheoryData<SchemaCase> Cases => [.. SchemaCase.All];

    [Theory]
    [MemberData(nameof(Cases), DisableDiscoveryEnumeration = true)]
    public void Whatever_is_chosen_of_the_masks_ends_as_a_valid_value(SchemaCase schema)
    {
        var validator = JsonSchema.FromText(schema.Schema);
        var (grammar, trie) = (schema.Grammar(), Vocabularies.Mixed);
        foreach (var (name, choose) in GrammarWalk.Choices)
        {
            for (var seed = 0; seed < 4; seed++)
            {
                var matcher = grammar.CreateMatcher(trie, [Vocabularies.End]);
                var tokens = matcher.Distance + 1 + 25 * seed;
                var (text, isComplete) = GrammarWalk.Run(matcher, trie, Vocabularies.End, tokens, new Random(seed), choose);
                Assert.True(isComplete, $"{name} {seed}: {Encoding.UTF8.GetString(text)} is not complete after {tokens} tokens");
                CheckValid(validator, text);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases), DisableDiscoveryEnumeration = true)]
    public void Values_of_the_grammars_form_are_read_however_they_are_cut(SchemaCase schema)
    {
        var (grammar, trie, random) = (schema.Grammar(), Vocabularies.Mixed, new Random(5));
        foreach (var text in schema.Written.Select(text => text.Trim(' ')))
        {
            CheckValid(JsonSchema.FromText(schema.Schema), Encoding.UTF8.GetBytes(text));
            for (var cut = 0; cut < 4; cut++)
            {
                Assert.True(GrammarWalk.Reads(grammar.CreateMatcher(trie, [Vocabularies.End]), trie, Encoding.UTF8.GetBytes(text), random), $"{text} is not read");
            }
        }

        foreach (var text in schema.NotWritten)
        {
            Assert.False(GrammarWalk.Reads(grammar.CreateMatcher(trie, [Vocabularies.End]), trie, Encoding.UTF8.GetBytes(text), random), $"{text} is read");
        }
    }

    [Fact]
    public void There_are_at_least_60_schemas() => Assert.True(SchemaCase.All.Count >= 60);

    internal static void CheckValid(JsonSchema schema, byte[] text)
    {
        using var json = JsonDocument.Parse(text, new() { AllowDuplicateProperties = false });
        Assert.True(schema.Evaluate(json.RootElement, s_evaluation).IsValid, $"{Encoding.UTF8.GetString(text)} is not valid");
    }
}
