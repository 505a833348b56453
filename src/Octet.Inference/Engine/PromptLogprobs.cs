namespace Octet.Inference.Engine;

/// <summary>Collects the log probabilities of a text's tokens, each after those before it, as its logits come.</summary>
/// <param name="tokens">The text.</param>
/// <param name="vocabulary">Logits of a row.</param>
/// <param name="alternatives">How many of the most likely tokens are wanted in the place of each.</param>
/// <param name="device">Name of where the logits are from, for messages.</param>
internal sealed class PromptLogprobs(int[] tokens, int vocabulary, int alternatives, string device)
{
    private readonly List<TokenLogprobs?> _all = [null];

    /// <summary>One entry for each token so far; the first has none before it, and is null.</summary>
    public IReadOnlyList<TokenLogprobs?> All => _all;

    /// <summary>Whether those of all tokens are there.</summary>
    public bool IsComplete => _all.Count == tokens.Length;

    /// <summary>Takes rows of logits in order; those it has, of a text computed again, are the same and passed over.</summary>
    /// <param name="first">The position of the first.</param>
    /// <param name="logits">[rows, vocabulary].</param>
    /// <exception cref="NotFiniteNumberException">A logit is not finite.</exception>
    public void Add(int first, ReadOnlySpan<float> logits)
    {
        FiniteLogits.Check(logits, vocabulary, first, device);
        for (var row = Math.Max(0, _all.Count - 1 - first); row < logits.Length / vocabulary && !IsComplete; row++)
        {
            _all.Add(LogSoftmax.Of(logits.Slice(row * vocabulary, vocabulary), tokens[_all.Count], alternatives));
        }
    }
}
