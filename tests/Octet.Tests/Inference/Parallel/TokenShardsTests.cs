using Octet.Inference.Parallel;

namespace Octet.Tests.Inference.Parallel;

public sealed class TokenShardsTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(8)]
    public void Many_tokens_are_divided_into_ranges_that_differ_by_a_unit_and_few_are_not(int ranks)
    {
        for (var tokens = 1; tokens < 700; tokens++)
        {
            var starts = TokenShards.StartsOf(tokens, ranks);
            if (tokens < TokenShards.LeastTokens)
            {
                Assert.Null(starts);
                continue;
            }

            Assert.Equal((ranks + 1, 0L, (long)tokens), (starts!.Length, starts[0], starts[^1]));
            var counts = starts.Skip(1).Zip(starts, (end, start) => end - start).ToArray();
            Assert.All(starts[..^1], start => Assert.Equal(0, start % 8));
            Assert.All(counts, count => Assert.InRange(count, 1, tokens));
            Assert.InRange(counts.Max() - counts.Min(), 0, 15);
        }
    }

    [Fact]
    public void One_rank_does_all_tokens() => Assert.Null(TokenShards.StartsOf(5600, 1));
}
