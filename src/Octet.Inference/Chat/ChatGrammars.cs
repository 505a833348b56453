using System.Text.Json;
using Octet.Inference.Grammars;

namespace Octet.Inference.Chat;

/// <summary>
/// The grammars of formats and tools that requests ask for, kept by their text: what is found out about one serves whoever asks for it again.
/// Thread-safe.
/// </summary>
internal sealed class ChatGrammars
{
    private const int MostKept = 64;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, LinkedListNode<(string Key, Grammar Grammar)>> _kept = [];

    // The one that was asked for last is the first.
    private readonly LinkedList<(string Key, Grammar Grammar)> _order = [];

    /// <summary>What an answer may be; null: anything.</summary>
    /// <exception cref="GrammarException">A schema has what is not supported, or nothing satisfies it; the message has its path.</exception>
    /// <exception cref="ArgumentException">The arguments of a tool need not be an object.</exception>
    public Grammar? Of(ChatFormat format, IReadOnlyList<ChatTool> tools, ToolChoice choice, bool parallel)
    {
        if (choice.Mode == ToolMode.Required)
        {
            return Calls(choice.Function is { } name ? [.. tools.Where(tool => tool.Name == name)] : tools, parallel);
        }

        // With tools at hand, the model may still call one instead of answering.
        return Of(format) is not { } answer ? null : tools.Count == 0 ? answer : Grammar.Choice(answer, Calls(tools, parallel));
    }

    /// <summary>What a text of a format may be; null: anything.</summary>
    public Grammar? Of(ChatFormat format) => format.Kind switch
    {
        ChatFormatKind.JsonObject => Grammar.JsonObject,
        ChatFormatKind.JsonSchema => Keep($"schema {format.Schema.GetRawText()}", () => Grammar.FromJsonSchema(format.Schema)),
        _ => null,
    };

    private Grammar Calls(IReadOnlyList<ChatTool> tools, bool parallel)
    {
        var texts = tools.Select(tool => tool.ToJson().GetRawText());
        return Keep($"{(parallel ? "calls" : "call")} {string.Join(' ', texts)}", () => ToolCallGrammar.Create(
            [.. tools.Select(tool => (tool.Name, (JsonElement?)tool.Parameters))], parallel));
    }

    private Grammar Keep(string key, Func<Grammar> create)
    {
        lock (_lock)
        {
            if (_kept.TryGetValue(key, out var known))
            {
                _order.Remove(known);
                _order.AddFirst(known);
                return known.Value.Grammar;
            }
        }

        // Outside: a large schema takes its time, and whoever else asks need not wait for it.
        var grammar = create();
        lock (_lock)
        {
            if (_kept.TryAdd(key, new((key, grammar))))
            {
                _order.AddFirst(_kept[key]);
            }

            if (_order.Count > MostKept)
            {
                _kept.Remove(_order.Last!.Value.Key);
                _order.RemoveLast();
            }

            return grammar;
        }
    }
}
