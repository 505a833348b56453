using System.Text;
using System.Text.Unicode;

namespace Octet.Inference.Loading;

/// <summary>The UTF-8 text of a model's file, without the byte-order mark that editors and shells on Windows put before it.</summary>
internal static class ModelText
{
    private static readonly (byte[] Mark, string Encoding)[] OtherMarks =
    [
        ([0xFF, 0xFE, 0, 0], "UTF-32"),
        ([0, 0, 0xFE, 0xFF], "UTF-32"),
        ([0xFF, 0xFE], "UTF-16"),
        ([0xFE, 0xFF], "UTF-16"),
    ];

    /// <summary>Reads a file of text.</summary>
    /// <exception cref="ModelFormatException">It cannot be read, or is not UTF-8.</exception>
    public static string Read(string path) => Encoding.UTF8.GetString(WithoutMark(path, ModelJson.ReadFile(path)).Span);

    /// <summary>The bytes behind the mark, if there is one, all of them valid UTF-8.</summary>
    public static ReadOnlyMemory<byte> WithoutMark(string file, byte[] bytes)
    {
        foreach (var (mark, encoding) in OtherMarks)
        {
            if (bytes.AsSpan().StartsWith(mark))
            {
                throw new ModelFormatException($"{file}: is {encoding} text by its byte-order mark; save it as UTF-8");
            }
        }
        if (bytes is [0, not 0, ..] or [not 0, 0, ..])
        {
            throw new ModelFormatException($"{file}: has a zero byte in its first character, as UTF-16 text without a byte-order mark has; save it as UTF-8");
        }
        ReadOnlyMemory<byte> text = bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? bytes.AsMemory(Encoding.UTF8.Preamble.Length) : bytes;
        if (!Utf8.IsValid(text.Span))
        {
            long at = FirstInvalid(text.Span);
            throw new ModelFormatException(
                $"{file}: is not UTF-8 text: byte 0x{text.Span[(int)at]:x2} at {Position(text.Span, at)}; save it as UTF-8 if it was edited, else fetch it again");
        }
        return text;
    }

    /// <summary>Line and column of a byte as people count them: from 1, columns in characters.</summary>
    public static string Position(ReadOnlySpan<byte> text, long offset)
    {
        ReadOnlySpan<byte> before = text[..(int)Math.Min(offset, text.Length)];
        int lineStart = before.LastIndexOf((byte)'\n') + 1;
        int column = 1;
        foreach (byte b in before[lineStart..])
        {
            column += (b & 0xC0) == 0x80 ? 0 : 1; // the bytes behind the first one of a character
        }
        return $"line {before.Count((byte)'\n') + 1}, column {column}";
    }

    private static long FirstInvalid(ReadOnlySpan<byte> text)
    {
        int at = 0;
        while (Rune.DecodeFromUtf8(text[at..], out _, out int length) == System.Buffers.OperationStatus.Done)
        {
            at += length;
        }
        return at;
    }
}
