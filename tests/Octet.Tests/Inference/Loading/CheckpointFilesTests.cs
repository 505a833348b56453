using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public sealed class CheckpointFilesTests : IDisposable
{
    private const string OneByte = """{"NAME":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""";
    private readonly ModelDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Single_file_is_found()
    {
        using CheckpointFiles files = CheckpointFiles.Open(TinyShakespeare.Directory);
        Assert.Single(files.Shards);
        Assert.Equal([1024L, 256L], files["lm_head.weight"].Shape);
        Assert.Null(files.Find("absent"));
        Assert.Contains("'absent' is missing", Assert.Throws<ModelFormatException>(() => files["absent"]).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Shards_are_searched_through_the_index()
    {
        Shard("one.safetensors", "a");
        Shard("two.safetensors", "b");
        Index("""{"metadata":{"total_size":2},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}""");
        using CheckpointFiles files = CheckpointFiles.Open(_directory.Path);
        Assert.Equal(2, files.Shards.Count);
        Assert.Equal(["a", "b"], files.Names.Order());
        Assert.EndsWith("two.safetensors", files["b"].File, StringComparison.Ordinal);
        Assert.Equal(2, files.SizeInBytes);
    }

    [Theory]
    [InlineData("""{"weight_map":{"b":"one.safetensors"}}""", "lacks tensor 'b'")]
    [InlineData("""{"weight_map":{"a":"../one.safetensors"}}""", "weight_map.a is '../one.safetensors'")]
    [InlineData("""{"weight_map":{"a":"/etc/one.safetensors"}}""", "plain name")]
    [InlineData("""{"weight_map":{"a":"x\\one.safetensors"}}""", "plain name")]
    [InlineData("""{"weight_map":{"a":"one.safetensors\u0000.safetensors"}}""", "plain name")]
    [InlineData("""{"weight_map":{"a":"passwd"}}""", "plain name")]
    [InlineData("""{"weight_map":{"a":7}}""", "weight_map.a is 7, expected a string")]
    [InlineData("""{"weight_map":{"a":"two.safetensors"}}""", "lacks 1 of the 1 files that model.safetensors.index.json lists: two.safetensors; the download is incomplete")]
    [InlineData("""{"weight_map":{"a":"one.safetensors","a":"one.safetensors"}}""", "not valid JSON")]
    [InlineData("""{"weight_map":[]}""", "weight_map is an array of 0, expected an object")]
    [InlineData("""{}""", "lacks 'weight_map'")]
    [InlineData("""[]""", "not a JSON object")]
    [InlineData("""nonsense""", "not valid JSON")]
    public void Bad_index_is_refused(string index, string expected)
    {
        Shard("one.safetensors", "a");
        Index(index);
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => CheckpointFiles.Open(_directory.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Directory_without_weights_and_missing_directory_are_refused()
    {
        Assert.Contains("has no .safetensors file; it is empty", Assert.Throws<ModelFormatException>(() => CheckpointFiles.Open(_directory.Path)).Message, StringComparison.Ordinal);
        Assert.Contains("not a directory", Assert.Throws<ModelFormatException>(() => CheckpointFiles.Open(Path.Combine(_directory.Path, "absent"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")]
    [InlineData("model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors")]
    [InlineData("pytorch_model-1-of-2.safetensors", "pytorch_model-2-of-2.safetensors")]
    [InlineData("layers-0.safetensors", "outside.safetensors")]
    public void Shards_without_an_index_are_all_read(string one, string two)
    {
        Shard(one, "a");
        Shard(two, "b");
        using CheckpointFiles files = CheckpointFiles.Open(_directory.Path);
        Assert.Equal(["a", "b"], files.Names.Order());
        Assert.EndsWith(two, files["b"].File, StringComparison.Ordinal);
    }

    [Fact]
    public void An_index_by_another_name_is_used_if_it_is_the_only_one()
    {
        Shard("one.safetensors", "a");
        Shard("two.safetensors", "a");
        _directory.Write("model.fp8.safetensors.index.json", """{"weight_map":{"a":"two.safetensors"}}""");
        using (CheckpointFiles files = CheckpointFiles.Open(_directory.Path))
        {
            Assert.EndsWith("two.safetensors", files["a"].File, StringComparison.Ordinal);
        }
        _directory.Write("other.safetensors.index.json", """{"weight_map":{"a":"one.safetensors"}}""");
        Refused("has 2 indexes (model.fp8.safetensors.index.json, other.safetensors.index.json)");
    }

    [Fact]
    public void Missing_shards_of_a_numbering_are_named()
    {
        Shard("model-00002-of-00004.safetensors", "a");
        Refused("has 1 of the 4 shards that their names count, and no model.safetensors.index.json; missing: model-00001-of-00004.safetensors, model-00003-of-00004.safetensors, model-00004-of-00004.safetensors");
        Shard("model-00001-of-00002.safetensors", "a");
        Refused("has shards of 2 numberings");
    }

    [Fact]
    public void A_tensor_in_two_files_without_an_index_is_refused()
    {
        Shard("one.safetensors", "a");
        Shard("two.safetensors", "a");
        Refused("two.safetensors: tensor 'a' lies in");
    }

    [Theory]
    [InlineData("model.gguf", "weights in GGUF format (model.gguf)")]
    [InlineData("pytorch_model-00001-of-00002.bin", "weights in PyTorch format (pytorch_model-00001-of-00002.bin)")]
    [InlineData("consolidated.00.pth", "weights in PyTorch format")]
    [InlineData("model.safetensors.incomplete", "unfinished downloads are there: model.safetensors.incomplete")]
    [InlineData("model.safetensors.part", "unfinished downloads are there: model.safetensors.part")]
    [InlineData("README.md", "it holds README.md")]
    public void What_a_folder_without_safetensors_holds_instead_is_named(string file, string expected)
    {
        _directory.Write(file, "x");
        Refused(expected);
    }

    [Fact]
    public void A_missing_shard_of_the_index_is_named_with_the_download_that_has_not_ended()
    {
        Shard("one.safetensors", "a");
        string downloads = Directory.CreateDirectory(Path.Combine(_directory.Path, ".cache", "huggingface", "download")).FullName;
        File.WriteAllText(Path.Combine(downloads, "abc.incomplete"), "x");
        Index("""{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}""");
        Refused("lacks 1 of the 2 files that model.safetensors.index.json lists: two.safetensors; the download is incomplete");
        Refused("abc.incomplete");
    }

    [Fact]
    public void A_tensor_of_a_shard_that_the_index_leaves_out_is_there_all_the_same()
    {
        _directory.WriteSafeTensors("one.safetensors", """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}""", 2);
        Index("""{"weight_map":{"a":"one.safetensors"}}""");
        using CheckpointFiles files = CheckpointFiles.Open(_directory.Path);
        Assert.Equal(["a", "b"], files.Names.Order());
    }

    [Fact]
    public void The_message_for_a_missing_tensor_has_the_names_nearest_to_it_and_no_guess()
    {
        using CheckpointFiles files = CheckpointFiles.Open(TinyShakespeare.Directory);
        string near = Assert.Throws<ModelFormatException>(() => files["model.layers.3.self_attn.q_proj.bias"]).Message;
        Assert.Contains("2 begin with 'model.layers.3.self_attn.q_proj.': model.layers.3.self_attn.q_proj.weight, model.layers.3.self_attn.q_proj.weight_scale_inv", near, StringComparison.Ordinal);
        Assert.Contains("none begins with 'other.'", Assert.Throws<ModelFormatException>(() => files["other.x"]).Message, StringComparison.Ordinal);
        Shard("one.safetensors", "language.model.norm.weight");
        using CheckpointFiles prefixed = CheckpointFiles.Open(_directory.Path);
        Assert.Contains("'language.model.norm.weight' ends with that name", Assert.Throws<ModelFormatException>(() => prefixed["model.norm.weight"]).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Access_after_dispose_throws()
    {
        CheckpointFiles files = CheckpointFiles.Open(TinyShakespeare.Directory);
        SafeTensor tensor = files["lm_head.weight"];
        files.Dispose();
        files.Dispose();
        Assert.Throws<ObjectDisposedException>(() => files["lm_head.weight"]);
        Assert.Throws<ObjectDisposedException>(() => tensor.Address);
    }

    private void Refused(string expected)
    {
        string message = Assert.Throws<ModelFormatException>(() => CheckpointFiles.Open(_directory.Path)).Message;
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.DoesNotContain("another model", message, StringComparison.Ordinal);
    }

    private void Shard(string file, string tensor) =>
        _directory.WriteSafeTensors(file, OneByte.Replace("NAME", tensor, StringComparison.Ordinal), 1);

    private void Index(string json) => _directory.Write("model.safetensors.index.json", json);
}
