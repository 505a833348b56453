using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>
/// Tool calls in Hermes' form, a block for each: <c>&lt;tool_call&gt;</c>, a line break, <c>{"name": "f", "arguments": {"x": 1}}</c>, a
/// line break, <c>&lt;/tool_call&gt;</c>; a line break between blocks.
/// </summary>
public static class ToolCallGrammar
{
    /// <summary>Calls of some tools, at least one.</summary>
    /// <param name="tools">The tools: name, and the schema of the arguments, an object; null, undefined or empty: any object.</param>
    /// <param name="parallel">Whether there may be several calls.</param>
    /// <exception cref="ArgumentException">There are no tools, or arguments need not be an object.</exception>
    /// <exception cref="GrammarException">
    /// A schema has a keyword that is not supported, nothing satisfies it, or it is too large.
    /// </exception>
    public static Grammar Create(IReadOnlyList<(string Name, JsonElement? Arguments)> tools, bool parallel)
    {
        ArgumentNullException.ThrowIfNull(tools);
        if (tools.Count == 0)
        {
            throw new ArgumentException("there are no tools: at least one is needed", nameof(tools));
        }

        var (open, close, line) = (Grammar.Literal("<tool_call>"), Grammar.Literal("</tool_call>"), Grammar.Literal("\n"));
        var call = Grammar.Sequence(open, line, Grammar.Choice([.. tools.Select(tool => Call(tool.Name, tool.Arguments))]), line, close);
        return parallel ? Grammar.Sequence(call, Grammar.Repeat(Grammar.Sequence(line, call))) : call;
    }

    private static Grammar Call(string name, JsonElement? arguments) => Grammar.Sequence(
        new Grammar(JsonTerms.Text($"{{\"name\": {JsonTerms.Quote(name)}, \"arguments\": ")),
        Arguments(name, arguments),
        new Grammar(JsonTerms.Text("}")));

    private static Grammar Arguments(string name, JsonElement? arguments)
    {
        if (arguments is not { ValueKind: not JsonValueKind.Undefined } schema
            || (schema.ValueKind == JsonValueKind.Object && schema.GetPropertyCount() == 0))
        {
            return Grammar.JsonObject;
        }

        var grammar = Grammar.FromJsonSchema(schema);
        return grammar.BeginsWith('{') ? grammar
            : throw new ArgumentException(
                $"the arguments of the tool '{name}' may be something else than an object: give their schema the type \"object\"");
    }
}
