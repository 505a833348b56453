using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Octet.Tests.Inference.Models;

/// <summary>A copy of the small checkpoint with some of its weights replaced.</summary>
internal sealed class PatchedModel : IDisposable
{
    /// <param name="patch">Called with every tensor's name and elements, which it may change.</param>
    public PatchedModel(Patch patch)
    {
        foreach (var file in System.IO.Directory.GetFiles(TinyModel.Directory))
        {
            File.Copy(file, System.IO.Path.Combine(Path, System.IO.Path.GetFileName(file)));
        }

        var weights = System.IO.Path.Combine(Path, "model.safetensors");
        var bytes = File.ReadAllBytes(weights);
        var start = 8 + (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
        using (var header = JsonDocument.Parse(bytes.AsMemory(8, start - 8)))
        {
            foreach (var tensor in header.RootElement.EnumerateObject().Where(tensor => tensor.Name != "__metadata__"))
            {
                var offsets = tensor.Value.GetProperty("data_offsets");
                var (first, end) = (offsets[0].GetInt32(), offsets[1].GetInt32());
                patch(tensor.Name, bytes.AsSpan(start + first, end - first));
            }
        }

        File.WriteAllBytes(weights, bytes);
    }

    /// <param name="name">The tensor's name.</param>
    /// <param name="bytes">Its elements.</param>
    public delegate void Patch(string name, Span<byte> bytes);

    /// <summary>The folder.</summary>
    public string Path { get; } = System.IO.Directory.CreateTempSubdirectory("octet-").FullName;

    /// <summary>
    /// The small checkpoint whose logit of one token is <paramref name="norm"/> * <paramref name="head"/> * one column of the normalised
    /// hidden state, a column that no other token looks at.
    /// </summary>
    public static PatchedModel WithLogit(int token, int column, float norm, float head) => new((name, bytes) =>
    {
        const int Hidden = 256;
        var weights = name is "lm_head.weight" or "model.norm.weight" ? MemoryMarshal.Cast<byte, BFloat16>(bytes) : [];
        if (name == "model.norm.weight")
        {
            weights[column] = (BFloat16)norm;
        }
        else if (name == "lm_head.weight")
        {
            weights.Slice(token * Hidden, Hidden).Clear();
            for (var row = 0; row < weights.Length / Hidden; row++)
            {
                weights[row * Hidden + column] = (BFloat16)(row == token ? head : 0);
            }
        }
    });

    public void Dispose() => System.IO.Directory.Delete(Path, recursive: true);
}
