using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>The small model in folders as people have them: the logits must have the same bits, or the message the cause.</summary>
public sealed class CheckpointFoldersTests : IDisposable
{
    private readonly CheckpointCopy _copy = new();
    private readonly float[] _expected = CheckpointCopy.LogitsOf(TinyModel.Directory);

    public void Dispose() => _copy.Dispose();

    [Fact]
    public void A_download_cache_of_links_and_a_link_to_its_folder_are_read()
    {
        string hub = Path.Combine(_copy.Directory, "hub", "models--x");
        string snapshot = Directory.CreateDirectory(Path.Combine(hub, "snapshots", "abc")).FullName;
        string deep = Directory.CreateDirectory(Path.Combine(_copy.Directory, "models", "deep")).FullName;
        string blobs = Directory.CreateDirectory(Path.Combine(hub, "blobs")).FullName;
        foreach (var file in Directory.EnumerateFiles(TinyModel.Directory))
        {
            var name = Path.GetFileName(file);
            File.Copy(file, Path.Combine(blobs, $"{name}.blob"));
            File.CreateSymbolicLink(Path.Combine(snapshot, name), $"../../blobs/{name}.blob");
        }

        Directory.CreateSymbolicLink(Path.Combine(deep, "current"), snapshot);
        Directory.CreateSymbolicLink(Path.Combine(deep, "relative"), "../../hub/models--x/snapshots/abc");
        foreach (var folder in (string[])[snapshot, Path.Combine(deep, "current"), Path.Combine(deep, "relative")])
        {
            Assert.Equal(_expected, CheckpointCopy.LogitsOf(folder));
            Assert.NotEmpty(ModelTokenizer.Load(folder).Encode("ROMEO:"));
        }
    }

    [Theory]
    [InlineData("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", false)]
    [InlineData("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", true)]
    [InlineData("first.safetensors", "second.safetensors", true)]
    [InlineData("first.safetensors", "second.safetensors", false)]
    public void Shards_are_read_with_an_index_and_without(string one, string two, bool index)
    {
        WriteShards(one, two);
        if (index)
        {
            WriteIndex(one, two);
        }

        Assert.Equal(_expected, CheckpointCopy.LogitsOf(_copy.Directory));
    }

    [Fact]
    public void Shards_that_are_pointers_or_missing_or_cut_short_are_named_so()
    {
        const string One = "model-00001-of-00002.safetensors", Two = "model-00002-of-00002.safetensors";
        WriteShards(One, Two);
        string second = Path.Combine(_copy.Directory, Two);
        byte[] whole = File.ReadAllBytes(second);

        File.WriteAllBytes(second, whole[..^100]);
        Assert.Contains($"{second}: tensor '", Refused(), StringComparison.Ordinal);
        Assert.Contains("the file is truncated, fetch it again", Refused(), StringComparison.Ordinal);
        File.WriteAllBytes(second, []);
        Assert.Contains($"{second}: is empty", Refused(), StringComparison.Ordinal);
        File.WriteAllText(second, $"version https://git-lfs.github.com/spec/v1\noid sha256:{new string('0', 64)}\nsize {whole.Length}\n");
        Assert.Contains($"{second}: is a Git LFS pointer of 132 bytes, not the file of {whole.Length} bytes", Refused(), StringComparison.Ordinal);
        File.Delete(second);
        Assert.EndsWith($"missing: {Two}", Refused(), StringComparison.Ordinal);
        WriteIndex(One, Two);
        Assert.Contains($"lacks 1 of the 2 files that model.safetensors.index.json lists: {Two}; the download is incomplete", Refused(), StringComparison.Ordinal);
    }

    [Fact]
    public void Blocks_in_the_names_of_compressed_tensors_are_read()
    {
        foreach (var name in _copy.Tensors.Keys.Where(name => name.EndsWith("weight_scale_inv", StringComparison.Ordinal)).ToArray())
        {
            _copy.Rename(name, name[..^"_inv".Length]);
        }

        var config = JsonNode.Parse(_copy.Config)!;
        config["quantization_config"] = JsonNode.Parse("""
            {"quant_method":"compressed-tensors","format":"float-quantized","quantization_status":"compressed","ignore":["lm_head","re:.*mlp.gate$"],
             "config_groups":{"group_0":{"targets":["Linear"],
              "weights":{"num_bits":8,"type":"float","strategy":"block","block_structure":[128,128],"dynamic":false,"symmetric":true},
              "input_activations":{"num_bits":8,"type":"float","strategy":"group","group_size":128,"dynamic":true}}}}
            """);
        _copy.Config = config.ToJsonString();
        Assert.Equal(_expected, _copy.Logits());
    }

    // Half of the tensors in each.
    private void WriteShards(string one, string two)
    {
        _copy.WriteOthers();
        _copy.WriteTensors(one, _copy.Tensors.Take(200).ToDictionary());
        _copy.WriteTensors(two, _copy.Tensors.Skip(200).ToDictionary());
    }

    // With a byte-order mark, as some editors leave it.
    private void WriteIndex(string one, string two) => File.WriteAllText(
        Path.Combine(_copy.Directory, CheckpointFiles.IndexFileName),
        JsonSerializer.Serialize(new
        {
            metadata = new { total_size = 0 },
            weight_map = _copy.Tensors.Keys.Select((name, i) => (name, file: i < 200 ? one : two)).ToDictionary(p => p.name, p => p.file),
        }),
        new UTF8Encoding(encoderShouldEmitUTF8Identifier: true));

    private string Refused()
    {
        using var device = Device.Open("cpu");
        return Assert.Throws<ModelFormatException>(() => LanguageModel.Load(_copy.Directory, device)).Message;
    }
}
