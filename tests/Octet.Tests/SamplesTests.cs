using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Octet.Inference.Models;

namespace Octet.Tests;

/// <summary>The programs under samples, run on the small model as they stand.</summary>
public sealed partial class SamplesTests
{
    [Fact]
    public async Task Generate_streams_the_text_the_model_gives()
    {
        using var device = Device.Open("cpu");
        using var model = LanguageModel.Load(TinyModel.Directory, device, new() { KvCacheTokens = 1024 });
        var expected = await model.CompleteAsync(
            "JULIET:\n", new() { MaxTokens = 64, Temperature = 0.8f, TopP = 0.95f, Seed = 1 }, TestContext.Current.CancellationToken);
        Assert.Equal(expected.Text + Environment.NewLine, await Run("Generate", "JULIET:\n"));
    }

    [Fact]
    public async Task CustomSampler_gives_the_greedy_text_and_finds_a_likelier_one()
    {
        var output = await Run("CustomSampler", "ROMEO:\n", "24");
        var texts = Text().Matches(output).ToDictionary(
            match => match.Groups["name"].Value, match => (Sum: float.Parse(match.Groups["sum"].Value, CultureInfo.InvariantCulture), Text: match.Groups["text"].Value));
        Assert.Equal(["greedy", "one of the four most likely", "beam search of width 4"], texts.Keys);
        Assert.True(texts["beam search of width 4"].Sum > texts["greedy"].Sum, output);
        Assert.True(texts["greedy"].Sum > texts["one of the four most likely"].Sum, output);

        using var device = Device.Open("cpu");
        using var model = LanguageModel.Load(TinyModel.Directory, device, new() { KvCacheTokens = 1024 });
        var greedy = await model.CompleteAsync(
            "ROMEO:\n", new() { MaxTokens = 24, Temperature = 0, IgnoreEndOfText = true, Logprobs = 0 }, TestContext.Current.CancellationToken);
        Assert.Equal(greedy.Text, texts["greedy"].Text);
        Assert.Equal(greedy.Logprobs.Sum(token => token.Logprob), texts["greedy"].Sum, 0.01);
    }

    private static async Task<string> Run(string sample, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, $"{sample}.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["OCTET_DEVICE"] = "cpu";
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, $"exit code {process.ExitCode} of {sample}: {output}{await error}");
        return output;
    }

    [GeneratedRegex(@"^(?<name>[a-z][a-z4 ]*), log probability (?<sum>-[\d.]+):\n(?<text>.*?)\n\n(?=^[a-z][a-z4 ]*, log probability |\z)", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Text();
}
