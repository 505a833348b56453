using System.Text;

namespace Octet.Inference.Loading;

/// <summary>The 256 printable characters that stand for bytes in a byte-level vocabulary, as GPT-2 introduced them.</summary>
/// <remarks>Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 and up: a space is Ġ, a line feed Ċ.</remarks>
internal static class ByteAlphabet
{
    private const int End = 0x100 + 68;
    private static readonly char[] CharOfByte = new char[256];
    private static readonly short[] ByteOfChar = new short[End];

    static ByteAlphabet()
    {
        Array.Fill(ByteOfChar, (short)-1);
        int shifted = 0x100;
        for (int b = 0; b < 256; b++)
        {
            bool printable = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or >= 0xAE;
            CharOfByte[b] = printable ? (char)b : (char)shifted++;
            ByteOfChar[CharOfByte[b]] = (short)b;
        }
    }

    public static string Symbol(byte b) => CharOfByte[b].ToString();

    /// <summary>The bytes a token stands for: one for each of its characters, or its UTF-8 if a character is not in the alphabet, as in an added token with a space.</summary>
    public static byte[] Bytes(string token)
    {
        byte[] bytes = new byte[token.Length];
        for (int i = 0; i < token.Length; i++)
        {
            int b = token[i] < End ? ByteOfChar[token[i]] : -1;
            if (b < 0)
            {
                return Encoding.UTF8.GetBytes(token);
            }
            bytes[i] = (byte)b;
        }
        return bytes;
    }
}
