using System.Text;

namespace Octet.Inference.Loading;

/// <summary>Tells by its first bytes or its name what a file is that is not a .safetensors file.</summary>
internal static class FileKind
{
    /// <summary>As many bytes as are looked at.</summary>
    public const int Bytes = 64;

    private static readonly (byte[] Start, string Kind)[] Signatures =
    [
        ("GGUF"u8.ToArray(), "a GGUF file"),
        ("PK\u0003\u0004"u8.ToArray(), "a zip archive, as PyTorch writes for its .bin and .pth files"),
        ([0x80, 0x02], "a Python pickle, as PyTorch writes for its .bin and .pth files"),
        ([0x89, (byte)'H', (byte)'D', (byte)'F'], "an HDF5 file"),
        ([0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'], "a NumPy array"),
        ([0x1F, 0x8B], "a gzip archive"),
        ([0x28, 0xB5, 0x2F, 0xFD], "a zstd archive"),
    ];

    private static readonly (string Extension, string Kind)[] Extensions =
    [
        (".gguf", "GGUF"), (".ggml", "GGML"), (".bin", "PyTorch"), (".pt", "PyTorch"), (".pth", "PyTorch"), (".ckpt", "PyTorch"),
        (".h5", "HDF5"), (".msgpack", "Flax"), (".npz", "NumPy"), (".onnx", "ONNX"),
    ];

    /// <summary>"a GGUF file", "a web page" and so on for the first bytes of a file; null: nothing known.</summary>
    public static string? OfContent(ReadOnlySpan<byte> start)
    {
        foreach (var (signature, kind) in Signatures)
        {
            if (start.StartsWith(signature))
            {
                return kind;
            }
        }

        start = start[..Math.Min(start.Length, Bytes)];
        if (start.IndexOfAnyExcept((byte)0) < 0)
        {
            return "zeros where its header should be";
        }

        if (start.IndexOfAnyExceptInRange((byte)' ', (byte)'~') is var other && other >= 0 && start[other] is not ((byte)'\n' or (byte)'\r' or (byte)'\t'))
        {
            return null;
        }

        var text = Encoding.ASCII.GetString(start).TrimStart();
        return text.StartsWith("<!doctype", StringComparison.OrdinalIgnoreCase) || text.StartsWith("<html", StringComparison.OrdinalIgnoreCase)
            ? "a web page"
            : $"text that begins '{text[..Math.Min(text.Length, 24)].TrimEnd()}'";
    }

    /// <summary>"GGUF", "PyTorch" and so on for a name of a file with weights in another format; null: none of them.</summary>
    public static string? OfName(string name) =>
        Extensions.FirstOrDefault(known => name.EndsWith(known.Extension, StringComparison.OrdinalIgnoreCase)).Kind;
}
