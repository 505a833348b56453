using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

public sealed class FinishReasonTests : IDisposable
{
    private const int EndToken = 1021;

    private readonly Device _device = Device.Open("cpu");
    private readonly LanguageModel _model;

    public FinishReasonTests() => _model = TinyModel.Load(_device);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _model.Dispose();
        _device.Dispose();
    }

    [Fact]
    public async Task A_text_of_as_many_tokens_as_asked_for_ends_with_length()
    {
        var tokens = await Tokens(_model, new() { MaxTokens = 5, Temperature = 0, IgnoreEndOfText = true });
        Assert.Equal([null, null, null, null, FinishReason.Length], tokens.Select(token => token.FinishReason));
    }

    [Fact]
    public async Task A_text_that_fills_the_context_ends_with_length()
    {
        using var model = LanguageModel.Load(TinyModel.Directory, _device, new() { MaxContext = 16 });
        var text = await model.CompleteAsync([40, 41], new() { MaxTokens = 1000, IgnoreEndOfText = true }, Cancellation);
        Assert.Equal((14, FinishReason.Length), (text.Ids.Count, text.FinishReason));
    }

    // The end token's logit is 1000 times one number of the hidden state: wherever that is positive, it is the next token.
    [Theory]
    [InlineData(1)]
    [InlineData(10)]
    public async Task A_text_that_the_model_ends_ends_with_stop_even_where_the_end_is_its_only_or_its_last_token(int most)
    {
        using var patched = Models.PatchedModel.WithLogit(EndToken, column: 17, norm: 1, head: 1000);
        using var model = TinyModel.Load(_device, directory: patched.Path);
        var ended = 0;
        for (var id = 0; id < 50; id++)
        {
            var options = new GenerationOptions { MaxTokens = most, Temperature = 0 };
            var tokens = await model.GenerateAsync([id], options, Cancellation).ToListAsync(Cancellation);
            var text = await model.CompleteAsync([id], options, Cancellation);
            Assert.All(tokens[..^1], token => Assert.True(token.FinishReason is null && token.Id != EndToken));
            Assert.Equal(tokens[^1].Id == EndToken ? FinishReason.Stop : FinishReason.Length, tokens[^1].FinishReason);
            Assert.Equal(tokens[^1].FinishReason, text.FinishReason);
            Assert.Equal(tokens.Where(token => token.Id != EndToken).Select(token => token.Id), text.Ids);
            Assert.Equal(model.Tokenizer.Decode([.. text.Ids]), text.Text);
            ended += tokens is [{ Id: EndToken, Text: "" }] ? 1 : 0;
        }

        Assert.NotEqual(0, ended);
    }

    [Fact]
    public async Task A_cancelled_text_is_what_there_is_of_it_and_says_so()
    {
        using var source = new CancellationTokenSource();
        var text = _model.CompleteAsync([40], new() { MaxTokens = 2000, IgnoreEndOfText = true }, source.Token);
        await foreach (var _ in _model.GenerateAsync([40], new() { MaxTokens = 3, IgnoreEndOfText = true }, Cancellation))
        {
        }

        await source.CancelAsync();
        var completion = await text;
        Assert.Equal(FinishReason.Cancelled, completion.FinishReason);
        Assert.InRange(completion.Ids.Count, 0, 1999);
        Assert.Equal(_model.Tokenizer.Decode([.. completion.Ids]).TrimEnd('\uFFFD'), completion.Text);
    }

    private static async Task<List<GeneratedToken>> Tokens(LanguageModel model, GenerationOptions options) =>
        await model.GenerateAsync("ROMEO:", options, Cancellation).ToListAsync(Cancellation);
}
