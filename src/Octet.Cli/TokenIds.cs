using System.Globalization;
using System.Runtime.InteropServices;
using Octet.Inference.Loading;

namespace Octet.Cli;

/// <summary>--ids: a comma-separated list, or @file.safetensors:tensor of i32 or i64.</summary>
internal static class TokenIds
{
    public const string Description = "Token ids: a comma-separated list, or @file.safetensors:tensor (i32 or i64)";

    public static int[] Parse(string text) => text.StartsWith('@') ? FromFile(text[1..]) : FromList(text);

    /// <summary>The file that is read, or null for a list.</summary>
    public static string? FileOf(string text) => text.StartsWith('@') && text.LastIndexOf(':') is > 1 and var colon ? text[1..colon] : null;

    private static int[] FromList(string text) => Array.ConvertAll(
        text.Split(',', StringSplitOptions.TrimEntries),
        part => int.TryParse(part, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var id)
            ? id
            : throw new ArgumentException($"--ids: '{part}' is not a token id; give numbers with commas between, or @file.safetensors:tensor"));

    private static int[] FromFile(string text)
    {
        var colon = text.LastIndexOf(':');
        if (colon <= 0 || colon == text.Length - 1)
        {
            throw new ArgumentException($"--ids: '@{text}' must be @file.safetensors:tensor");
        }

        using var file = SafeTensorsFile.Open(text[..colon]);
        var tensor = file[text[(colon + 1)..]];
        var bytes = new byte[checked((int)tensor.SizeInBytes)];
        tensor.Read(0, bytes);
        return tensor.Type switch
        {
            SafeTensorType.Int32 => MemoryMarshal.Cast<byte, int>(bytes).ToArray(),
            SafeTensorType.Int64 => Array.ConvertAll(
                MemoryMarshal.Cast<byte, long>(bytes).ToArray(),
                id => id is >= int.MinValue and <= int.MaxValue ? (int)id : throw new ArgumentException($"--ids: {id} in {tensor} is not a token id")),
            _ => throw new ArgumentException($"--ids: {tensor} must be I32 or I64"),
        };
    }
}
