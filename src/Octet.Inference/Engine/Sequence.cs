namespace Octet.Inference.Engine;

/// <summary>One text being read and continued: its tokens, its KV blocks and how many tokens are cached.</summary>
internal sealed class Sequence
{
    /// <param name="prompt">Tokens to begin with.</param>
    /// <param name="capacity">The most tokens there will be.</param>
    /// <param name="blocks">KV blocks for as many.</param>
    public Sequence(ReadOnlySpan<int> prompt, int capacity, int[] blocks)
    {
        Tokens = new List<int>(capacity);
        Tokens.AddRange(prompt);
        Blocks = blocks;
    }

    /// <summary>Prompt and continuation.</summary>
    public List<int> Tokens { get; }

    /// <summary>KV blocks held, in order of the context.</summary>
    public int[] Blocks { get; }

    /// <summary>Tokens whose K and V are in the cache.</summary>
    public int Cached { get; set; }

    /// <summary>Tokens that are not in the cache yet.</summary>
    public int Pending => Tokens.Count - Cached;
}
