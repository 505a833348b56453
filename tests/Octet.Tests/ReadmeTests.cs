using System.Text;
using Octet.Inference.Models;

namespace Octet.Tests;

public sealed class ReadmeTests
{
    [Fact]
    public async Task The_example_of_the_readme_compiles_and_writes_text()
    {
        var path = TinyModel.Directory;
        var cancellation = TestContext.Current.CancellationToken;
        var text = new StringBuilder();

        using var device = Device.Open("cpu");
        using var model = Qwen3Moe.Load(path, device);
        await foreach (var token in model.GenerateAsync("ROMEO:", new() { MaxTokens = 8, IgnoreEndOfText = true }, cancellation)) text.Append(token.Text);

        Assert.NotEmpty(text.ToString());
    }
}
