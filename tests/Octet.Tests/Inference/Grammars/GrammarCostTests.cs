using System.Diagnostics;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>What masks over a vocabulary of 151,936 tokens cost.</summary>
public sealed class GrammarCostTests
{
    private const int Vocabulary = 151_936;

    private static readonly Lazy<TokenTrie> s_trie = new(() => Vocabularies.Large(Vocabulary));

    /// <summary>A row: the mask, and taking the token that follows. The bound is the requirement, more than ten times what it takes.</summary>
    [Theory]
    [InlineData("string")]
    [InlineData("any")]
    [InlineData("map")]
    [InlineData("invoice")]
    [InlineData("tree")]
    public void A_row_takes_less_than_100_us_once_its_states_are_known(string name)
    {
        var schema = SchemaCase.All.Single(schema => schema.Name == name);

        // Of runs that do the same, the shortest: what else runs on the machine is no part of the cost.
        var first = Enumerable.Range(0, 5).Select(_ => Times(schema.Grammar(), seed: 1)).Aggregate(Shortest);
        var grammar = schema.Grammar();
        Times(grammar, seed: 1);
        var again = Enumerable.Range(0, 3).Select(_ => Times(grammar, seed: 1)).Aggregate(Shortest);
        var other = Times(grammar, seed: 2);
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"{name}: states not known: median {Median(first):f0} us, mean {first.Average():f0} us, largest {first.Max():f0} us; known: median {Median(again):f1} us, largest {again.Max():f0} us; another text: median {Median(other):f1} us, mean {other.Average():f0} us, largest {other.Max():f0} us; {grammar.Automaton(s_trie.Value).Bytes / 1024} KiB");
        Assert.InRange(Median(again), 0, 100);
    }

    // Of each token of a text, in us.
    private static List<double> Times(Grammar grammar, int seed)
    {
        var (trie, random, times) = (s_trie.Value, new Random(seed), new List<double>());
        var matcher = grammar.CreateMatcher(trie, [Vocabulary - 1]);
        var mask = new uint[(Vocabulary + 31) / 32];
        for (var i = 0; i < 200; i++)
        {
            var start = Stopwatch.GetTimestamp();
            matcher.FillMask(mask, 256 - i);
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
