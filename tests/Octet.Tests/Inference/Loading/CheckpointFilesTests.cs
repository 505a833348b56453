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
    [InlineData("""{"weight_map":{"a":"two.safetensors"}}""", "two.safetensors: cannot be read")]
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
        Assert.Contains("has neither", Assert.Throws<ModelFormatException>(() => CheckpointFiles.Open(_directory.Path)).Message, StringComparison.Ordinal);
        Assert.Contains("not a directory", Assert.Throws<ModelFormatException>(() => CheckpointFiles.Open(Path.Combine(_directory.Path, "absent"))).Message, StringComparison.Ordinal);
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

    private void Shard(string file, string tensor) =>
        _directory.WriteSafeTensors(file, OneByte.Replace("NAME", tensor, StringComparison.Ordinal), 1);

    private void Index(string json) => _directory.Write("model.safetensors.index.json", json);
}
