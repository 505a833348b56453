using Octet.Inference.Engine;
using Octet.Inference.Grammars;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Inference.Chat;

/// <summary>
/// Answers conversations: puts them into the checkpoint's chat template, and finds tool calls in what the model says. Thread-safe; the
/// beginning that a conversation shares with an earlier one is in the prefix cache.
/// </summary>
/// <param name="model">The model, which must have a chat template.</param>
public sealed class ChatModel(LanguageModel model)
{
    private readonly ChatTemplate _template = model.ChatTemplate;
    private readonly ChatGrammars _grammars = new();

    /// <summary>The model.</summary>
    public LanguageModel Model => model;

    /// <summary>The tokens of a conversation, up to where the answer begins.</summary>
    /// <exception cref="ArgumentException">There are no messages.</exception>
    /// <exception cref="ModelFormatException">The template refuses the messages.</exception>
    public int[] Encode(ChatRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Messages.Count == 0)
        {
            throw new ArgumentException("there are no messages: at least one is needed");
        }

        var tools = Offered(request);
        return _template.Encode(
            model.Tokenizer, request.Messages, request.Template with { Tools = tools.Count == 0 ? null : [.. tools.Select(tool => tool.ToJson())] });
    }

    /// <summary>What the model is given for a conversation.</summary>
    /// <exception cref="ArgumentException">The request contradicts itself, or a schema has what is not supported; the message has its path.</exception>
    /// <exception cref="ModelFormatException">The template refuses the messages.</exception>
    public ChatPrompt Prepare(ChatRequest request) => Prepare(request, Encode(request));

    /// <summary>What the model is given for a conversation whose tokens are known.</summary>
    /// <param name="request">The conversation.</param>
    /// <param name="ids">What <see cref="Encode"/> made of it.</param>
    /// <exception cref="ArgumentException">The request contradicts itself, or a schema has what is not supported; the message has its path.</exception>
    public ChatPrompt Prepare(ChatRequest request, IReadOnlyList<int> ids)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(ids);
        var tools = Offered(request);
        CheckToolChoice(request.ToolChoice, tools);
        var grammar = _grammars.Of(request.Format, tools, request.ToolChoice, request.ParallelToolCalls);
        return new(ids, grammar is null ? request.Options : request.Options with { Grammar = grammar }, tools.Count > 0);
    }

    /// <summary>What a text of a format may be, kept for whoever asks for the same again; null: anything.</summary>
    /// <exception cref="GrammarException">The schema has what is not supported, or nothing satisfies it; the message has its path.</exception>
    public Grammar? GrammarOf(ChatFormat format) => _grammars.Of(format);

    /// <summary>Answers, piece by piece as it comes.</summary>
    /// <param name="prompt">What <see cref="Prepare(ChatRequest)"/> made.</param>
    /// <param name="cancellation">Ends the enumeration with an <see cref="OperationCanceledException"/>, and the answer with it.</param>
    /// <inheritdoc cref="LanguageModel.GenerateAsync(string, GenerationOptions?, CancellationToken)" path="/exception"/>
    public IAsyncEnumerable<ChatUpdate> AnswerAsync(ChatPrompt prompt, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        return ReadAsync(prompt, model.GenerateAsync(prompt.Ids, prompt.Options, cancellation));
    }

    /// <summary>Answers a conversation, piece by piece as it comes.</summary>
    /// <inheritdoc cref="AnswerAsync(ChatPrompt, CancellationToken)"/>
    public IAsyncEnumerable<ChatUpdate> AnswerAsync(ChatRequest request, CancellationToken cancellation = default) =>
        AnswerAsync(Prepare(request), cancellation);

    private static IReadOnlyList<ChatTool> Offered(ChatRequest request) => request.ToolChoice.Mode == ToolMode.None ? [] : request.Tools;

    private static async IAsyncEnumerable<ChatUpdate> ReadAsync(ChatPrompt prompt, IAsyncEnumerable<GeneratedToken> tokens)
    {
        var readers = prompt.ReadsToolCalls
            ? Enumerable.Range(0, prompt.Options.Choices).Select(_ => new ToolCallReader(() => $"call_{Guid.NewGuid():N}")).ToArray()
            : null;
        var updates = new List<ChatUpdate>();
        await foreach (var token in tokens.ConfigureAwait(false))
        {
            if (readers is null)
            {
                yield return new() { Choice = token.Choice, Text = token.Text, Token = token, FinishReason = ReasonOf(token, 0) };
                continue;
            }

            Read(readers[token.Choice], token, updates);
            foreach (var update in updates)
            {
                yield return update;
            }
        }
    }

    private static void Read(ToolCallReader reader, GeneratedToken token, List<ChatUpdate> updates)
    {
        updates.Clear();
        reader.Push(token.Text, updates);
        if (token.FinishReason is not null)
        {
            reader.End(updates);
        }

        if (updates.Count == 0)
        {
            updates.Add(new() { Text = "" });
        }

        updates[0] = updates[0] with { Token = token };
        for (var i = 0; i < updates.Count; i++)
        {
            updates[i] = updates[i] with { Choice = token.Choice };
        }

        updates[^1] = updates[^1] with { FinishReason = ReasonOf(token, reader.Calls) };
    }

    private static ChatFinishReason? ReasonOf(in GeneratedToken token, int calls) => token.FinishReason switch
    {
        null => null,
        FinishReason.Length => ChatFinishReason.Length,
        _ => calls > 0 ? ChatFinishReason.ToolCalls : ChatFinishReason.Stop,
    };

    private static void CheckToolChoice(ToolChoice choice, IReadOnlyList<ChatTool> tools)
    {
        if (choice.Mode != ToolMode.Required)
        {
            return;
        }

        if (tools.Count == 0)
        {
            throw new ArgumentException("a tool must be called, but there are no tools");
        }

        if (choice.Function is { } name && tools.All(tool => tool.Name != name))
        {
            throw new ArgumentException($"the tool '{name}' must be called, but the tools are {string.Join(", ", tools.Select(tool => $"'{tool.Name}'"))}");
        }
    }
}
