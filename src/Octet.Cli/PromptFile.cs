using System.Text;

namespace Octet.Cli;

/// <summary>--prompt-file: a text from a file or from stdin, as it is, its last line break included; a byte-order mark is no part of it.</summary>
internal static class PromptFile
{
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads the text; "-" is stdin.</summary>
    /// <exception cref="ArgumentException">The file cannot be read, or is not UTF-8.</exception>
    public static async Task<string> ReadAsync(string path, CancellationToken cancellation)
    {
        var name = path == "-" ? "stdin" : path;
        try
        {
            // A pipe or a terminal may give nothing for a long time, in a call that cannot be cancelled: it is left to itself then.
            var bytes = await Task.Run(() => path == "-" ? ReadInput() : File.ReadAllBytes(path), CancellationToken.None).WaitAsync(cancellation);
            return Decode(bytes, name);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new ArgumentException($"--prompt-file: {(Directory.Exists(path) ? $"{path} is a folder" : $"{name} cannot be read: {error.Message}")}", error);
        }
    }

    private static byte[] ReadInput()
    {
        if (StandardOutput.IsClosed(0))
        {
            throw new IOException("it is closed");
        }

        using var input = Console.OpenStandardInput();
        using var bytes = new MemoryStream();
        input.CopyTo(bytes);
        return bytes.ToArray();
    }

    private static string Decode(byte[] bytes, string name)
    {
        var start = bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? Encoding.UTF8.Preamble.Length : 0;
        try
        {
            return Strict.GetString(bytes, start, bytes.Length - start);
        }
        catch (DecoderFallbackException)
        {
            var position = 0;
            while (Rune.DecodeFromUtf8(bytes.AsSpan(position), out _, out var length) == System.Buffers.OperationStatus.Done)
            {
                position += length;
            }

            throw new ArgumentException(
                $"--prompt-file: {name} is not UTF-8: the byte 0x{bytes[position]:x2} at offset {position} begins no character; convert the text to UTF-8");
        }
    }
}
