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

    /// <summary>The small checkpoint whose head gives one token the logit <paramref name="weight"/> * (one number of the hidden state).</summary>
    public static PatchedModel WithHead(int token, int column, float weight) => new((name, bytes) =>
    {
        if (name == "lm_head.weight")
        {
            var row = MemoryMarshal.Cast<byte, BFloat16>(bytes).Slice(token * 256, 256);
            row.Clear();
            row[column] = (BFloat16)weight;
        }
    });

    /// <summary>The small checkpoint with all scales of one layer's experts at one value.</summary>
    public static PatchedModel WithExpertScales(int layer, float scale) => new((name, bytes) =>
    {
        if (name.StartsWith($"model.layers.{layer}.mlp.", StringComparison.Ordinal) && name.EndsWith("scale_inv", StringComparison.Ordinal))
        {
            MemoryMarshal.Cast<byte, float>(bytes).Fill(scale);
        }
    });

    public void Dispose() => System.IO.Directory.Delete(Path, recursive: true);
}
