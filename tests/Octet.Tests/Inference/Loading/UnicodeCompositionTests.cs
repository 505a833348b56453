using System.Security.Cryptography;
using System.Text;
using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public class UnicodeCompositionTests
{
    // The expected digests are of what Python's unicodedata 14.0 gives for the same texts.
    private static readonly int[] Interacting =
    [
        0x300, 0x301, 0x308, 0x323, 0x327, 0x338, 0x345, 0x1100, 0x1161, 0x11A8, 0xAC00, 0x41, 0x61, 0x1EA1, 0xC5, 0x212B, 0xB47, 0xB3E, 0xB56, 0xB57, 0x915, 0x93C, 0x958,
        0x1D15E, 0x1D165, 0x1D157, 0x3099, 0x304B, 0xF900, 0x344, 0x2ADC, 0xF71, 0xF72, 0xF73, 0x5B0, 0x5B4, 0xFB1D, 0x5D9,
    ];

    [Fact]
    public void Every_character_alone_has_its_normal_form()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (int c = 0; c < 0x110000; c++)
        {
            if (Rune.IsValid(c))
            {
                hash.AppendData(Encoding.UTF8.GetBytes(UnicodeComposition.Compose(char.ConvertFromUtf32(c))));
            }
        }
        Assert.Equal("1ffc8e6ce9e83df8e49fd62d6abb68f981775aed0b5101b88c213d4653e9b540", Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    [Fact]
    public void Random_sequences_of_interacting_characters_have_their_normal_form()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        ulong state = 12345;
        for (int i = 0; i < 20_000; i++)
        {
            var text = new StringBuilder();
            for (int left = 1 + Next(9); left > 0; left--)
            {
                text.Append(new Rune(Interacting[Next(Interacting.Length)]));
            }
            hash.AppendData(Encoding.UTF8.GetBytes(UnicodeComposition.Compose(text.ToString()) + "\n"));
        }
        Assert.Equal("f12e784b04482490423232093b3872a3f1b1e61ee41d158111feb3ff155f87de", Convert.ToHexStringLower(hash.GetHashAndReset()));

        int Next(int bound)
        {
            state = unchecked(state * 6364136223846793005 + 1442695040888963407);
            return (int)((state >> 33) % (ulong)bound);
        }
    }

    [Theory]
    [InlineData("e\u0301", "é")]
    [InlineData("\u1112\u1161\u11ab", "한")]
    [InlineData("a\u0327\u0301", "\u00e1\u0327")]
    [InlineData("\u0301e", "\u0301e")]
    public void Known_text_has_its_normal_form(string text, string expected) => Assert.Equal(expected, UnicodeComposition.Compose(text));

    [Fact]
    public void Half_a_surrogate_pair_is_replaced() => Assert.Equal("a\ufffdb", UnicodeComposition.Compose("a\ud800b"));

    [Fact]
    public void Long_run_of_marks_takes_no_quadratic_time()
    {
        // Half a million marks in the worst order: sorted pair by pair they would take minutes.
        string marks = string.Concat(Enumerable.Repeat("\u0301", 250_000)) + string.Concat(Enumerable.Repeat("\u0323", 250_000));
        string composed = UnicodeComposition.Compose("x" + marks);
        Assert.Equal("x" + marks[250_000..] + marks[..250_000], composed);
    }
}
