using Octet.Cli;

namespace Octet.Tests.Cli;

public sealed class TerminalTests
{
    [Theory]
    [InlineData("fits", 10, "fits")]
    [InlineData("exactly ten", 11, "exactly ten")]
    [InlineData("one two three", 8, "one two\n    three")]
    [InlineData("  one two three", 9, "  one two\n    three")]
    [InlineData("one two   ", 7, "one two")]
    public void A_line_goes_on_below_at_the_end_of_a_word(string line, int columns, string folded) =>
        Assert.Equal(folded.ReplaceLineEndings(), Terminal.Fold(line, columns));

    [Fact]
    public void No_part_is_longer_than_the_terminal_and_no_word_is_lost()
    {
        var random = new Random(1);
        for (var i = 0; i < 2000; i++)
        {
            var words = Enumerable.Range(0, random.Next(1, 40)).Select(_ => new string('x', random.Next(1, 12))).ToArray();
            var line = new string(' ', random.Next(0, 30)) + string.Join(new string(' ', random.Next(1, 4)), words);
            var columns = random.Next(20, 100);
            var folded = Terminal.Fold(line, columns, random.Next(0, 8));
            Assert.Equal(words, folded.Split([' ', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries));
            // A margin of half the line leaves room for any of these words.
            if (columns >= 60)
            {
                Assert.All(folded.Split(Environment.NewLine), part => Assert.True(part.Length <= columns, $"{part.Length} > {columns}: {part}"));
            }
        }
    }

    [Fact]
    public void A_word_longer_than_the_terminal_stays_whole()
    {
        var path = "/" + new string('p', 50);
        Assert.Equal($"see{Environment.NewLine}    {path}{Environment.NewLine}    for more", Terminal.Fold($"see {path} for more", 20));
        Assert.Equal(path, Terminal.Fold(path, 20));
    }

    [Theory]
    [InlineData(14, "gemm m1   9 us")]
    [InlineData(13, "gemm m1\n    9 us")]
    public void A_row_is_one_line_where_both_parts_fit_and_else_two(int columns, string row) =>
        Assert.Equal(row.ReplaceLineEndings(), Terminal.Row("gemm m1", "  9 us", columns));
}
