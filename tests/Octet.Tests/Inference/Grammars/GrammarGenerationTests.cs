using System.Text;
using System.Text.Json;
using Json.Schema;
using Octet.Inference.Engine;
using Octet.Inference.Grammars;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Grammars;

/// <summary>The small model, which knows no JSON, writes values of schemas.</summary>
public sealed class GrammarGenerationTests
{
    private static readonly string[] s_schemas = ["weather", "tree", "map", "oneOf by constant", "invoice", "anyOf of strings", "enum of characters", "any"];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_text_validates_and_is_complete_whatever_the_model_wants_to_say()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        var runs = new List<Task>();
        foreach (var name in s_schemas)
        {
            var schema = SchemaCase.All.Single(schema => schema.Name == name);
            var (grammar, validator) = (schema.Grammar(), JsonSchema.FromText(schema.Schema));
            foreach (var temperature in (float[])[0, 1])
            {
                runs.Add(Check(grammar, validator, new() { Grammar = grammar, MaxTokens = 160, Temperature = temperature, TopK = 0, Seed = 5 }));
            }
        }

        await Task.WhenAll(runs);

        async Task Check(Grammar grammar, JsonSchema validator, GenerationOptions options)
        {
            var completion = await model.CompleteAsync("JULIET:\nWhat", options, Cancellation);
            Assert.Equal(FinishReason.Stop, completion.FinishReason);
            GrammarSchemaTests.CheckValid(validator, Encoding.UTF8.GetBytes(completion.Text));
        }
    }

    [Fact]
    public async Task Texts_are_the_same_alone_among_others_with_choices_and_with_speculation()
    {
        using var device = Device.Open("cpu");
        var schema = SchemaCase.All.Single(schema => schema.Name == "map");
        var options = new GenerationOptions { Grammar = schema.Grammar(), MaxTokens = 60, Temperature = 1, TopK = 0, Seed = 3 };
        List<string> alone = [];
        using (var model = TinyModel.Load(device))
        {
            for (var choice = 0; choice < 3; choice++)
            {
                alone.Add((await model.CompleteAsync("ROMEO:\n", options with { Seed = 3 + choice }, Cancellation)).Text);
            }

            Assert.Equal(alone, (await model.CompleteAllAsync("ROMEO:\n", options with { Choices = 3 }, Cancellation)).Select(choice => choice.Text));
        }

        // Few blocks, so that texts are preempted; and tokens proposed, which masks must follow and go back from.
        using var crowded = LanguageModel.Load(TinyModel.Directory, device, new() { KvCacheTokens = 160, Speculate = 3, MaxSequences = 8 });
        var together = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => crowded.CompleteAsync("ROMEO:\n", options with { Seed = 3 + i % 3 }, Cancellation)));
        Assert.Equal([.. alone, .. alone], together.Select(completion => completion.Text));
    }

    [Fact]
    public async Task Tools_are_called_in_the_form_that_templates_ask_for()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        using var schema = JsonDocument.Parse("""{"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "days"]}""");
        var grammar = ToolCallGrammar.Create([("get_weather", schema.RootElement)], parallel: false);
        var text = (await model.CompleteAsync("ROMEO:\n", new() { Grammar = grammar, MaxTokens = 150, Temperature = 1, Seed = 1 }, Cancellation)).Text;
        Assert.StartsWith("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":", text, StringComparison.Ordinal);
        Assert.EndsWith("}\n</tool_call>", text, StringComparison.Ordinal);
        using var call = JsonDocument.Parse(text["<tool_call>\n".Length..^"\n</tool_call>".Length]);
        Assert.InRange(call.RootElement.GetProperty("arguments").GetProperty("days").GetInt32(), 1, 9);
    }

    [Fact]
    public async Task Options_that_contradict_a_grammar_are_refused()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        foreach (var (options, problem) in (ReadOnlySpan<(GenerationOptions, string)>)
            [
                (new() { AllowedTokens = (_, mask) => mask.Fill(1) }, "Grammar and AllowedTokens both"),
                (new() { MinTokens = 3 }, "MinTokens is 3"),
                (new() { IgnoreEndOfText = true }, "needs a token that ends the text"),
            ])
        {
            var error = Assert.Throws<ArgumentException>(() => model.GenerateAsync("x", options with { Grammar = Grammar.JsonObject }, Cancellation));
            Assert.Contains(problem, error.Message, StringComparison.Ordinal);
        }

        await model.CompleteAsync("x", new() { Grammar = Grammar.JsonValue, MaxTokens = 3 }, Cancellation);
    }

    [Fact]
    public void A_continuation_that_goes_on_goes_back_or_is_another_has_the_mask_of_its_tokens()
    {
        var (trie, random) = (Vocabularies.Mixed, new Random(8));
        var grammar = SchemaCase.All.Single(schema => schema.Name == "invoice").Grammar();
        var allowed = grammar.ToAllowedTokens(trie, [Vocabularies.End]);
        var (mask, fresh) = (new uint[(trie.Count + 31) / 32], new uint[(trie.Count + 31) / 32]);
        var continuation = new List<int>();
        for (var step = 0; step < 200; step++)
        {
            allowed(continuation.ToArray(), mask);
            grammar.ToAllowedTokens(trie, [Vocabularies.End])(continuation.ToArray(), fresh);
            Assert.Equal(fresh, mask);
            var tokens = GrammarWalk.Tokens(mask);
            if (random.Next(5) == 0 || tokens[0] == Vocabularies.End)
            {
                continuation = [.. continuation.Take(random.Next(continuation.Count + 1))];
            }
            else
            {
                continuation.Add(tokens[random.Next(tokens.Count)]);
            }
        }

        Assert.Contains("is not of its grammar", Assert.Throws<InvalidOperationException>(() => allowed([0], mask)).Message, StringComparison.Ordinal);
    }
}
