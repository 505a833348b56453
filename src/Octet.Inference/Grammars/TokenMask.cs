namespace Octet.Inference.Grammars;

/// <summary>Tokens that may follow: those of a mask that several states share, and further ones.</summary>
internal sealed class TokenMask
{
    private readonly uint[]? _shared;
    private readonly int[]? _tokens;
    private readonly uint[]? _bits;

    /// <param name="shared">Bits that are not this mask's own; null: none.</param>
    /// <param name="tokens">Further tokens.</param>
    /// <param name="words">Words of the vocabulary.</param>
    /// <param name="farthest">See <see cref="Farthest"/>.</param>
    public TokenMask(uint[]? shared, List<int> tokens, int words, int farthest)
    {
        Farthest = farthest;
        if (tokens.Count < words)
        {
            (_shared, _tokens) = (shared, [.. tokens]);
            return;
        }

        _bits = new uint[words];
        shared?.CopyTo(_bits, 0);
        tokens.ForEach(token => _bits[token / 32] |= 1u << token);
    }

    /// <summary>The largest distance behind one of the tokens, or more.</summary>
    public int Farthest { get; }

    /// <summary>Bytes of its own.</summary>
    public int Size => 4 * ((_tokens?.Length ?? 0) + (_bits?.Length ?? 0));

    /// <summary>Writes the tokens' bits, those that the mask has room for, and clears all others.</summary>
    public void CopyTo(Span<uint> mask)
    {
        ReadOnlySpan<uint> bits = _bits ?? _shared ?? [];
        bits = bits[..Math.Min(bits.Length, mask.Length)];
        bits.CopyTo(mask);
        mask[bits.Length..].Clear();
        foreach (var token in _tokens ?? [])
        {
            if (token / 32 < mask.Length)
            {
                mask[token / 32] |= 1u << token;
            }
        }
    }
}
