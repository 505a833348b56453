using System.Diagnostics;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>What masks over a vocabulary of 151,936 tokens cost.</summary>
public sealed class GrammarCostTests
{
    private const int Vocabulary = 151_936;

    private static readonly Lazy<TokenTrie> s_trie = new(() => new TokenTrie(Vocabularies.Large(Vocabulary)));

    /// <summary>A row: the mask, and taking the token that follows. The bound is the requirement, more than ten times what it takes.</summary>
    /// <param name="name">The schema.</param>
    /// <param name="isShort">Whether the tokens left are hardly enough, so that masks keep to them.</param>
    [Theory]
    [InlineData("string", false)]
    [InlineData("any", false)]
    [InlineData("map", false)]
    [InlineData("invoice", false)]
    [InlineData("tree", false)]
    [InlineData("string", true)]
    [InlineData("any", true)]
    [InlineData("map", true)]
    [InlineData("invoice", true)]
    public void A_row_takes_less_than_100_us_once_its_states_are_known(string name, bool isShort)
    {
        var schema = SchemaCase.All.Single(schema => schema.Name == name);

        // Of runs that do the same, the shortest: what else runs on the machine is no part of the cost.
        var first = Enumerable.Range(0, 5).Select(_ => Times(schema.Grammar(), isShort)).Aggregate(Shortest);
        var grammar = schema.Grammar();
        Times(grammar, isShort);
        var again = Enumerable.Range(0, 3).Select(_ => Times(grammar, isShort)).Aggregate(Shortest);
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"{name}, short {isShort}: known: median {Median(again):f1} us, largest {again.Max():f1} us; not known: mean {first.Average():f0} us, "
            + $"largest {first.Max():f0} us; {first.Count} tokens, {grammar.Automaton(s_trie.Value).Bytes / 1024} KiB");
        Assert.InRange(Median(again), 0, 100);
    }

    [Fact]
    public void A_trie_is_made_of_all_tokens()
    {
        _ = s_trie.Value;
        var tokens = Vocabularies.Large(Vocabulary);
        var start = Stopwatch.GetTimestamp();
        var trie = new TokenTrie(tokens);
        var took = Stopwatch.GetElapsedTime(start);
        var special = trie.Special.Tokens.Count(token => token >= 0);
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"{trie.Count} tokens, {trie.All.Labels.Length} nodes, {special} not plain, {took.TotalMilliseconds:f0} ms");
        Assert.Equal(Vocabulary - 1, trie.All.Tokens.Count(token => token >= 0) + trie.All.SameBytes.Count);
    }

    // Of each token of a text, in us.
    private static List<double> Times(Grammar grammar, bool isShort)
    {
        var (trie, random, times) = (s_trie.Value, new Random(1), new List<double>());
        var matcher = grammar.CreateMatcher(trie, [Vocabulary - 1]);
        var mask = new uint[(Vocabulary + 31) / 32];
        for (var i = 0; i < 200; i++)
        {
            var start = Stopwatch.GetTimestamp();
            matcher.FillMask(mask, isShort ? matcher.Distance + 2 + i % 8 : 256 - i);
            var filled = Stopwatch.GetElapsedTime(start);
            var allowed = GrammarWalk.Tokens(mask);
            var next = allowed[random.Next(allowed.Count)];
            start = Stopwatch.GetTimestamp();
            matcher.Accept(next);
            times.Add((filled + Stopwatch.GetElapsedTime(start)).TotalMicroseconds);
            if (next == Vocabulary - 1)
            {
                break;
            }
        }

        return times;
    }

    private static List<double> Shortest(List<double> a, List<double> b) => [.. a.Zip(b, Math.Min)];

    private static double Median(List<double> times) => times.Order().ElementAt(times.Count / 2);
}
