using System.Text;
using Microsoft.Extensions.Options;
using Octet.Inference.Engine;
using Octet.Inference.Loading;

namespace Octet.Server.Observability;

/// <summary>Writes prompts and answers into the log, where <see cref="OctetServerOptions.LogPrompts"/> asks for it; nothing else ever does.</summary>
internal sealed partial class PromptLog(IOptions<OctetServerOptions> options, ILogger<PromptLog> log)
{
    /// <summary>The pieces of an answer as they are, written into the log behind the last one.</summary>
    /// <param name="id">The answer's name on the wire.</param>
    /// <param name="prompt">The tokens that are answered.</param>
    /// <param name="tokenizer">Has their text.</param>
    /// <param name="pieces">The answer.</param>
    /// <param name="token">The token of a piece, if it has one of its own.</param>
    public IAsyncEnumerable<T> Watch<T>(
        string id, IReadOnlyList<int> prompt, ModelTokenizer tokenizer, IAsyncEnumerable<T> pieces, Func<T, GeneratedToken?> token) =>
        options.Value.LogPrompts ? WatchAsync(id, tokenizer.Decode([.. prompt]), pieces, token) : pieces;

    private async IAsyncEnumerable<T> WatchAsync<T>(string id, string prompt, IAsyncEnumerable<T> pieces, Func<T, GeneratedToken?> token)
    {
        LogPrompt(id, prompt);
        var answers = new SortedDictionary<int, StringBuilder>();
        try
        {
            await foreach (var piece in pieces)
            {
                if (token(piece) is { } own)
                {
                    answers.TryAdd(own.Choice, new());
                    answers[own.Choice].Append(own.Text);
                }

                yield return piece;
            }
        }
        finally
        {
            foreach (var (choice, text) in answers)
            {
                LogAnswer(id, choice, text.ToString());
            }
        }
    }

    [LoggerMessage(LogLevel.Information, "{Id} prompt: {Prompt}")]
    private partial void LogPrompt(string id, string prompt);

    [LoggerMessage(LogLevel.Information, "{Id} answer {Choice}: {Answer}")]
    private partial void LogAnswer(string id, int choice, string answer);
}
