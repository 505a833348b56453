using System.Text;

namespace Octet.Inference.Loading;

/// <summary>Turns tokens into text as they come: a character whose bytes are spread over several tokens appears with the last of them.</summary>
/// <remarks>The texts of all <see cref="Push"/> calls and of <see cref="Flush"/> together are what <see cref="ModelTokenizer.Decode"/> gives for all the tokens. Not thread-safe.</remarks>
public sealed class TokenTextStream
{
    private readonly ModelTokenizer _tokenizer;
    private readonly bool _skipSpecialTokens;
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private bool _amidCharacter;

    internal TokenTextStream(ModelTokenizer tokenizer, bool skipSpecialTokens)
    {
        _tokenizer = tokenizer;
        _skipSpecialTokens = skipSpecialTokens;
    }

    /// <summary>Takes the next token and returns the text that it completes, which may be empty.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is negative.</exception>
    public string Push(int id) =>
        (_amidCharacter ? null : _tokenizer.WholeText(id, _skipSpecialTokens))
        ?? Decode(_tokenizer.TokenBytes(id, _skipSpecialTokens), flush: false);

    /// <summary>Ends the text: returns U+FFFD if a character was left incomplete, else nothing. The stream may be used for another text.</summary>
    public string Flush() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        char[] text = new char[_decoder.GetCharCount(bytes, flush)];
        int count = _decoder.GetChars(bytes, text, flush);
        _amidCharacter = _decoder.GetCharCount([], flush: true) > 0;
        return new string(text, 0, count);
    }
}
