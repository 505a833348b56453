namespace Octet.Inference.Grammars;

/// <summary>Follows one text and says which tokens may come next. Not thread-safe.</summary>
public interface IGrammarMatcher
{
    /// <summary>Whether the text so far is complete: a token that ends it may follow.</summary>
    bool IsComplete { get; }

    /// <summary>The fewest bytes that complete the text; 0 where it is complete.</summary>
    int Distance { get; }

    /// <summary>Takes the next token. One that may not follow changes nothing.</summary>
    /// <param name="token">Its id; an end token changes nothing either.</param>
    /// <returns>Whether it may follow.</returns>
    bool Accept(int token);

    /// <summary>Sets bit id % 32 of word id / 32 for each token that may follow, and clears all others.</summary>
    /// <param name="mask">A bit for each token of the vocabulary.</param>
    /// <exception cref="InvalidOperationException">So many alternatives are possible here that to try them takes too long.</exception>
    void FillMask(Span<uint> mask);

    /// <summary>
    /// As <see cref="FillMask(Span{uint})"/>, only with tokens after which the text can still be completed. Where every byte is a token,
    /// and <see cref="Distance"/> was less than the tokens left at first, the text is complete and has its end token before none are left.
    /// </summary>
    /// <param name="mask">A bit for each token of the vocabulary.</param>
    /// <param name="remaining">How many tokens are left, the one that ends the text among them.</param>
    /// <exception cref="InvalidOperationException">So many alternatives are possible here that to try them takes too long.</exception>
    void FillMask(Span<uint> mask, int remaining);
}
