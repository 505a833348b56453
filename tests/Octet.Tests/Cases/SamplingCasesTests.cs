using Octet.Cases;

namespace Octet.Tests.Cases;

/// <summary>The reference's random numbers, held to the known answers its authors publish with Random123.</summary>
public sealed class SamplingCasesTests
{
    [Fact]
    public void Philox_of_zeros_gives_the_known_answer() => Assert.Equal(0x6627E8D5u, SamplingCases.Philox(0, 0, 0));

    [Fact]
    public void Philox_differs_in_every_input_word()
    {
        uint[] words =
        [
            SamplingCases.Philox(0, 0, 0), SamplingCases.Philox(1, 0, 0), SamplingCases.Philox(1L << 32, 0, 0),
            SamplingCases.Philox(0, 1, 0), SamplingCases.Philox(0, 1L << 32, 0), SamplingCases.Philox(0, 0, 1),
        ];
        Assert.Equal(words.Length, words.Distinct().Count());
    }
}
