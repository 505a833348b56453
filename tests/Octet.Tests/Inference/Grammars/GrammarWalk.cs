using System.Numerics;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>Writes a text of a grammar as a model would that has wishes of its own: it takes any token that the mask allows.</summary>
internal static class GrammarWalk
{
    /// <summary>How a token is chosen among those allowed, from the lowest id.</summary>
    public delegate int Choose(Random random, List<int> allowed, TokenTrie trie);

    /// <summary>Ways to choose.</summary>
    public static IReadOnlyDictionary<string, Choose> Choices { get; } = new Dictionary<string, Choose>
    {
        ["any"] = (random, allowed, _) => allowed[random.Next(allowed.Count)],
        ["longest"] = (random, allowed, trie) => random.Next(4) == 0 ? allowed[random.Next(allowed.Count)] : allowed.MaxBy(token => trie.Bytes(token).Length),
        ["highest"] = (random, allowed, _) => random.Next(3) == 0 ? allowed[random.Next(allowed.Count)] : allowed[^1],
        ["brackets"] = (random, allowed, trie) => allowed.Where(token => trie.Bytes(token) is [(byte)'[' or (byte)'{' or (byte)'"' or (byte)',', ..]).DefaultIfEmpty(allowed[random.Next(allowed.Count)]).ElementAt(0),
    };

    /// <summary>The bytes of a text of at most so many tokens, its end token among them, and whether it has that.</summary>
    public static (byte[] Text, bool IsComplete) Run(IGrammarMatcher matcher, TokenTrie trie, int end, int tokens, Random random, Choose choose)
    {
        var text = new List<byte>();
        var mask = new uint[(trie.Count + 31) / 32];
        for (var remaining = tokens; remaining > 0; remaining--)
        {
            matcher.FillMask(mask, remaining);
            var allowed = Tokens(mask);
            Assert.NotEmpty(allowed);
            var token = choose(random, allowed, trie);
            Assert.True(matcher.Accept(token), $"token {token} is in the mask, but is not accepted");
            if (token == end)
            {
                return ([.. text], true);
            }

            text.AddRange(trie.Bytes(token));
        }

        return ([.. text], false);
    }

    /// <summary>The tokens of a mask, from the lowest id.</summary>
    public static List<int> Tokens(ReadOnlySpan<uint> mask)
    {
        var tokens = new List<int>();
        for (var word = 0; word < mask.Length; word++)
        {
            for (var bits = mask[word]; bits != 0; bits &= bits - 1)
            {
                tokens.Add(word * 32 + BitOperations.TrailingZeroCount(bits));
            }
        }

        return tokens;
    }

    /// <summary>Reads a text, cut into tokens at random; false: the grammar has it not.</summary>
    public static bool Reads(IGrammarMatcher matcher, TokenTrie trie, ReadOnlySpan<byte> text, Random random)
    {
        var mask = new uint[(trie.Count + 31) / 32];
        while (!text.IsEmpty)
        {
            var fitting = new List<int>();
            for (var token = 0; token < trie.Count; token++)
            {
                if (!trie.Bytes(token).IsEmpty && text.StartsWith(trie.Bytes(token)))
                {
                    fitting.Add(token);
                }
            }

            // Sometimes the mask must have it; it leaves out tokens that close a key behind another one.
            var next = fitting[random.Next(fitting.Count)];
            matcher.FillMask(mask);
            var isAllowed = (mask[next / 32] >> next & 1) != 0;
            if (!matcher.Accept(next))
            {
                Assert.False(isAllowed, $"the mask has token {next}, which is not accepted");
                return false;
            }

            Assert.True(isAllowed || trie.Bytes(next).Count((byte)'"') > 1, $"the mask lacks token {next}, which is accepted");
            text = text[trie.Bytes(next).Length..];
        }

        return matcher.IsComplete;
    }
}
