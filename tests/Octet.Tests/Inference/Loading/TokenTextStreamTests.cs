using System.Text;
using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public class TokenTextStreamTests
{
    private static readonly ModelTokenizer Small = ModelTokenizer.Load(TinyShakespeare.Directory);

    [Fact]
    public void Character_of_several_tokens_appears_with_the_last()
    {
        TokenTextStream stream = Small.Stream();
        int[] ids = Small.Encode("🙂");
        Assert.Equal(4, ids.Length);
        Assert.Equal(["", "", "", "🙂"], ids.Select(stream.Push));
        Assert.Equal("", stream.Flush());
    }

    [Fact]
    public void Incomplete_character_is_replaced_at_the_end_and_the_stream_starts_anew()
    {
        TokenTextStream stream = Small.Stream();
        int[] ids = Small.Encode("🙂");
        Assert.Equal("", stream.Push(ids[0]));
        Assert.Equal("\ufffd", stream.Flush());
        Assert.Equal("a", stream.Push(Small.Encode("a")[0]));
    }

    [Fact]
    public void Special_tokens_are_left_out_on_request()
    {
        Assert.Equal("<|im_end|>", Small.Stream().Push(1023));
        Assert.Equal("", Small.Stream(skipSpecialTokens: true).Push(1023));
    }

    [Fact]
    public void Any_tokens_stream_to_the_text_they_decode_to_without_half_characters()
    {
        var random = new Random(4);
        for (int i = 0; i < 500; i++)
        {
            int[] ids = [.. Enumerable.Range(0, 30).Select(_ => random.Next(300))];
            TokenTextStream stream = Small.Stream();
            List<string> pieces = [.. ids.Select(stream.Push)];
            pieces.Add(stream.Flush());
            Assert.Equal(Small.Decode(ids), string.Concat(pieces));
            Assert.All(pieces, piece => Assert.Equal(piece, Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(piece))));
        }
    }
}
