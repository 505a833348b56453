using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Models;

public class GenerationConfigTests
{
    [Fact]
    public void Small_checkpoint_samples_by_its_file()
    {
        GenerationConfig config = GenerationConfig.Load(TinyShakespeare.Directory);
        Assert.Equal((true, 0.8, 40, 0.95), (config.Sample, config.Temperature, config.TopK, config.TopP));
        Assert.Equal([1021], config.EosTokenIds);
    }

    [Fact]
    public void Absent_file_means_greedy()
    {
        using var directory = new ModelDirectory();
        GenerationConfig config = GenerationConfig.Load(directory.Path);
        Assert.Equal((false, 1.0, 0, 1.0), (config.Sample, config.Temperature, config.TopK, config.TopP));
        Assert.Empty(config.EosTokenIds);
    }

    [Theory]
    [InlineData("""{"temperature": -0.5}""", "temperature is -0.5")]
    [InlineData("""{"temperature": 1e400}""", "temperature")]
    [InlineData("""{"top_k": -1}""", "top_k is -1")]
    [InlineData("""{"top_p": 1.5}""", "top_p is 1.5, expected a number from 0 to 1")]
    [InlineData("""{"do_sample": "yes"}""", "do_sample is the string 'yes'")]
    [InlineData("""{"eos_token_id": {}}""", "eos_token_id is an object")]
    [InlineData("""nothing""", "not valid JSON")]
    public void Bad_value_is_refused(string text, string expected)
    {
        using var directory = new ModelDirectory();
        directory.Write("generation_config.json", text);
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => GenerationConfig.Load(directory.Path)).Message, StringComparison.Ordinal);
    }
}
