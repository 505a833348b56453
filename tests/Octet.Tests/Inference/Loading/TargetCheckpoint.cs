using System.Globalization;
using System.Text;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Loading;

/// <summary>
/// A checkpoint with the names, types, shapes and shards of Qwen3-235B-A22B-Instruct-2507-FP8, in files that take
/// no space: headers, and behind them lengths alone.
/// </summary>
internal sealed class TargetCheckpoint : IDisposable
{
    private const long ShardBytes = 5_000_000_000;
    private const int Layers = 94, Hidden = 4096, Vocabulary = 151936, Experts = 128, Width = 1536, Queries = 64 * 128, Keys = 4 * 128;

    private readonly ModelDirectory _directory = new();

    public TargetCheckpoint()
    {
        var config = File.ReadAllText(Path.Combine(TinyModel.Root, "src/Octet.Inference/Planning/Data/qwen3-235b-a22b-instruct-2507-fp8.json"));
        _directory.Write(ModelConfig.FileName, config);
        List<(string Name, string Type, long[] Shape, long Bytes)> shard = [];
        List<List<(string Name, string Type, long[] Shape, long Bytes)>> shards = [shard];
        foreach (var tensor in Tensors())
        {
            if (shard.Sum(t => t.Bytes) + tensor.Bytes > ShardBytes)
            {
                shards.Add(shard = []);
            }

            shard.Add(tensor);
        }

        for (var i = 0; i < shards.Count; i++)
        {
            // As the writer of the format has it: by type, the widest first, then by name.
            var sorted = shards[i].OrderBy(t => t.Type == "BF16" ? 0 : 1).ThenBy(t => t.Name, StringComparer.Ordinal).ToArray();
            WriteShard(string.Create(CultureInfo.InvariantCulture, $"model-{i + 1:d5}-of-{shards.Count:d5}.safetensors"), sorted);
        }
    }

    public string Folder => _directory.Path;

    /// <summary>Where a file's data begin.</summary>
    public Dictionary<string, long> DataOffsets { get; } = [];

    public void Dispose() => _directory.Dispose();

    private static IEnumerable<(string Name, string Type, long[] Shape, long Bytes)> Tensors()
    {
        (string, string, long[], long) Plain(string name, params long[] shape) => ($"{name}.weight", "BF16", shape, 2 * shape.Aggregate(1L, (x, y) => x * y));
        IEnumerable<(string, string, long[], long)> Matrix(string name, long n, long k)
        {
            yield return ($"{name}.weight", "F8_E4M3", [n, k], n * k);
            yield return ($"{name}.weight_scale_inv", "BF16", [n / 128, k / 128], n / 128 * (k / 128) * 2);
        }

        yield return Plain("model.embed_tokens", Vocabulary, Hidden);
        for (var layer = 0; layer < Layers; layer++)
        {
            var prefix = $"model.layers.{layer}.";
            List<(string, string, long[], long)> tensors =
            [
                Plain($"{prefix}input_layernorm", Hidden), Plain($"{prefix}post_attention_layernorm", Hidden),
                Plain($"{prefix}self_attn.q_norm", 128), Plain($"{prefix}self_attn.k_norm", 128), Plain($"{prefix}mlp.gate", Experts, Hidden),
                .. Matrix($"{prefix}self_attn.q_proj", Queries, Hidden), .. Matrix($"{prefix}self_attn.k_proj", Keys, Hidden),
                .. Matrix($"{prefix}self_attn.v_proj", Keys, Hidden), .. Matrix($"{prefix}self_attn.o_proj", Hidden, Queries),
            ];
            for (var expert = 0; expert < Experts; expert++)
            {
                tensors.AddRange(Matrix($"{prefix}mlp.experts.{expert}.gate_proj", Width, Hidden));
                tensors.AddRange(Matrix($"{prefix}mlp.experts.{expert}.up_proj", Width, Hidden));
                tensors.AddRange(Matrix($"{prefix}mlp.experts.{expert}.down_proj", Hidden, Width));
            }

            foreach (var tensor in tensors)
            {
                yield return tensor;
            }
        }

        yield return Plain("model.norm", Hidden);
        yield return Plain("lm_head", Vocabulary, Hidden);
    }

    private void WriteShard(string name, (string Name, string Type, long[] Shape, long Bytes)[] tensors)
    {
        var header = new StringBuilder("{");
        long offset = 0;
        foreach (var (tensor, type, shape, bytes) in tensors)
        {
            header.Append(offset == 0 ? "" : ",").Append(
                CultureInfo.InvariantCulture, $$"""
                "{{tensor}}":{"dtype":"{{type}}","shape":[{{string.Join(',', shape)}}],"data_offsets":[{{offset}},{{offset + bytes}}]}
                """);
            offset += bytes;
        }

        var path = _directory.WriteSafeTensors(name, header.Append('}').ToString(), 0);
        using var file = File.OpenWrite(path);
        DataOffsets[path] = file.Length;
        file.SetLength(file.Length + offset);
    }
}
