using Octet.Cases;

namespace Octet.Tests;

/// <summary>The tree of a sum over ranks: its shape, and what its roundings cost.</summary>
public sealed class SumTreeTests
{
    [Theory]
    [InlineData(8192, 8)]
    [InlineData(1024, 8)]
    [InlineData(9728, 4)]
    [InlineData(1536, 4)]
    [InlineData(256, 2)]
    [InlineData(384, 1)]
    [InlineData(128, 1)]
    [InlineData(200, 1)]
    [InlineData(1088, 1)]
    [InlineData(0, 1)]
    public void Leaves_of_a_product_are_whole_blocks_of_128(long k, int leaves) => Assert.Equal(leaves, SumTree.LeavesOfProduct(k));

    [Theory]
    [InlineData(128, 8)]
    [InlineData(60, 4)]
    [InlineData(6, 2)]
    [InlineData(5, 1)]
    public void Leaves_of_experts_divide_them(int experts, int leaves) => Assert.Equal(leaves, SumTree.LeavesOfExperts(experts));

    [Fact]
    public void Neighbours_are_added_first_and_every_node_is_rounded_once()
    {
        // 256 + 1 rounds to 256 in BF16 (a tie, to even), 1 + 1 does not: which pairs meet, and that they are rounded, shows.
        BFloat16 one = (BFloat16)1f, large = (BFloat16)256f;
        Assert.Equal(256f, SumTree.Root([large, one]));
        Assert.Equal(258f, SumTree.Root([large, one, one, one]));
        Assert.Equal(262f, SumTree.Root([large, one, one, one, one, one, one, one]));
        Assert.Equal(262f, SumTree.Root([one, one, one, one, one, one, one, large]));
        Assert.Equal(3f, SumTree.Root([(BFloat16)3f]));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(8)]
    public void Ranks_that_hold_neighbouring_leaves_end_at_the_same_bits(int ranks)
    {
        var random = new Random(ranks);
        for (var i = 0; i < 1000; i++)
        {
            var leaves = Leaves(random, SumTree.MaxLeaves);
            var nodes = leaves.Chunk(SumTree.MaxLeaves / ranks).Select(held => SumTree.Root(held)).ToArray();
            Assert.Equal(SumTree.Root(leaves).Bits, SumTree.Root(nodes).Bits);
        }
    }

    /// <summary>docs/numerics.md has these figures.</summary>
    [Theory]
    [InlineData(1, 1.4e-6)]
    [InlineData(2, 3.0e-6)]
    [InlineData(4, 4.6e-6)]
    [InlineData(8, 6.2e-6)]
    public void Rounding_of_independent_leaves_costs_what_the_docs_say(int leaves, double expected)
    {
        const int Sums = 200_000;
        var random = new Random(7);
        var (rounded, exact) = (new double[Sums], new double[Sums]);
        for (var i = 0; i < Sums; i++)
        {
            var values = Normal(random, leaves);
            (rounded[i], exact[i]) = ((float)SumTree.Root(Array.ConvertAll(values, x => (BFloat16)(float)x)), values.Sum());
        }

        Assert.InRange(CaseContext.Difference(rounded, exact), 0.95 * expected, 1.05 * expected);
    }

    private static BFloat16[] Leaves(Random random, int count) => Array.ConvertAll(Normal(random, count), x => (BFloat16)(float)x);

    private static double[] Normal(Random random, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()))];
}
