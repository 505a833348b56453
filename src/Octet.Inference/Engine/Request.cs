using System.Threading.Channels;

namespace Octet.Inference.Engine;

/// <summary>A text to continue, as the generator keeps it.</summary>
/// <param name="Prompt">Token ids, at least one.</param>
/// <param name="MaxTokens">The most tokens to generate, at least one.</param>
/// <param name="Temperature">0: arg max.</param>
/// <param name="TopK">0: all.</param>
/// <param name="TopP">1: all.</param>
/// <param name="Seed">Of the draws.</param>
/// <param name="EndTokens">Tokens that end the text.</param>
internal sealed record Request(
    int[] Prompt, int MaxTokens, float Temperature, int TopK, float TopP, long Seed, IReadOnlyList<int> EndTokens)
{
    private volatile bool _cancelled;

    /// <summary>Tokens as they are generated; completed at the end of the text, or with what went wrong.</summary>
    public Channel<int> Output { get; } = Channel.CreateUnbounded<int>(new() { SingleReader = true, SingleWriter = true });

    /// <summary>The most tokens the KV cache will hold for it.</summary>
    public int Capacity => Prompt.Length + MaxTokens;

    /// <summary>Its sequence once it is admitted.</summary>
    public Sequence? Sequence { get; set; }

    /// <summary>Whether nobody wants the output any more.</summary>
    public bool IsCancelled => _cancelled;

    /// <summary>Ends the output, with an error if there is one; the generator drops the request before its next step.</summary>
    public void Cancel(Exception? error = null)
    {
        _cancelled = true;
        Output.Writer.TryComplete(error);
    }
}
