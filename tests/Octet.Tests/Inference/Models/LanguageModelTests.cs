using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Models;

public sealed class LanguageModelTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_hundred_rounds_of_load_generate_dispose_leave_no_bytes()
    {
        using var device = Device.Open("cpu");
        for (var round = 0; round < 100; round++)
        {
            using (var model = TinyModel.Load(device))
            {
                await foreach (var _ in model.GenerateAsync("ROMEO:", new() { MaxTokens = 2 }, Cancellation))
                {
                }
            }

            Assert.Equal(0, device.LiveBytes);
        }
    }

    [Fact]
    public void A_model_disposed_twice_is_harmless_and_throws_on_use()
    {
        using var device = Device.Open("cpu");
        var model = TinyModel.Load(device);
        model.Dispose();
        model.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.GenerateAsync([1]));
        Assert.Throws<ObjectDisposedException>(() => model.Logits([1], (_, _) => { }));
    }

    [Fact]
    public async Task The_load_counts_blocks_that_texts_hold_and_not_those_that_the_prefix_cache_keeps()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        using (var session = model.OpenSession())
        {
            await session.AppendAsync(Enumerable.Range(1, 130).ToArray(), Cancellation);
            await UntilAsync(3);
        }

        await UntilAsync(0);

        async Task UntilAsync(int blocks)
        {
            for (var turn = 0; model.Loads[0].UsedKvBlocks != blocks; turn++)
            {
                Assert.True(turn < 2000, $"{model.Loads[0]}, expected {blocks} blocks in use");
                await Task.Delay(5, Cancellation);
            }
        }
    }

    [Fact]
    public async Task A_model_disposed_while_generating_ends_the_enumeration_with_an_error()
    {
        using var device = Device.Open("cpu");
        var model = TinyModel.Load(device);
        await Assert.ThrowsAsync<ObjectDisposedException>(async () =>
        {
            await foreach (var _ in model.GenerateAsync([40], new() { MaxTokens = 1000, IgnoreEndOfText = true }, Cancellation))
            {
                model.Dispose();
            }
        });
        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public async Task Cancellation_ends_the_text_and_the_model_goes_on()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        using var source = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var _ in model.GenerateAsync([40], new() { MaxTokens = 1000, IgnoreEndOfText = true }, source.Token))
            {
                await source.CancelAsync();
            }
        });
        Assert.Equal(1024, TinyModel.Logits(model, [40]).Length);
    }

    [Fact]
    public async Task An_enumeration_can_be_repeated_and_gives_the_same_text()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        var tokens = model.GenerateAsync("ROMEO:", new() { MaxTokens = 5, Temperature = 0 }, Cancellation);
        var first = await tokens.Select(token => token.Id).ToListAsync(Cancellation);
        Assert.Equal(5, first.Count);
        Assert.Equal(first, await tokens.Select(token => token.Id).ToListAsync(Cancellation));
    }

    [Fact]
    public async Task A_text_that_ends_amid_a_character_has_no_token_too_many()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        var incomplete = 0;
        for (var seed = 0; seed < 40; seed++)
        {
            // So hot that every token is as likely as any other, those of single bytes too.
            var options = new GenerationOptions { MaxTokens = 3, Temperature = 1000, TopK = 0, TopP = 1, Seed = seed, IgnoreEndOfText = true };
            var tokens = await model.GenerateAsync("ROMEO:", options, Cancellation).ToListAsync(Cancellation);
            Assert.Equal(3, tokens.Count);
            var text = string.Concat(tokens.Select(token => token.Text));
            Assert.Equal(model.Tokenizer.Decode([.. tokens.Select(token => token.Id)]), text);
            incomplete += text.EndsWith('\uFFFD') ? 1 : 0;
        }

        Assert.NotEqual(0, incomplete);
    }

    [Fact]
    public async Task A_model_disposed_while_logits_are_computed_waits_for_them()
    {
        using var device = Device.Open("cpu");
        var model = TinyModel.Load(device);
        Task? dispose = null;
        var rows = 0;
        model.Logits(new int[600], (_, logits) =>
        {
            dispose ??= Task.Run(model.Dispose, Cancellation);
            rows += logits.Length / 1024;
        }, chunk: 16, cancellation: Cancellation);
        Assert.Equal(600, rows);
        await dispose!;
        Assert.Equal(0, device.LiveBytes);
        Assert.Throws<ObjectDisposedException>(() => model.Perplexity([1, 2, 3], 2));
    }

    [Fact]
    public void Prompts_that_cannot_be_read_are_refused_with_their_values()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        Assert.Contains("empty", Assert.Throws<ArgumentException>(() => model.GenerateAsync([])).Message, StringComparison.Ordinal);
        Assert.Contains("1024", Assert.Throws<ArgumentException>(() => model.GenerateAsync([1, 1024])).Message, StringComparison.Ordinal);
        Assert.Contains("-1", Assert.Throws<ArgumentException>(() => model.GenerateAsync([-1])).Message, StringComparison.Ordinal);
        Assert.Contains("2048", Assert.Throws<ArgumentException>(() => model.GenerateAsync(new int[2048])).Message, StringComparison.Ordinal);
        Assert.Contains("2049", Assert.Throws<ArgumentException>(() => model.GenerateAsync(new int[2049])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Loading_a_checkpoint_truncated_anywhere_is_refused_and_leaves_no_bytes()
    {
        using var device = Device.Open("cpu");
        var folder = CopyCheckpoint();
        var path = Path.Combine(folder, "model.safetensors");
        var bytes = File.ReadAllBytes(path);
        var random = new Random(1);
        for (var i = 0; i < 50; i++)
        {
            File.WriteAllBytes(path, bytes[..random.Next(bytes.Length)]);
            var error = Assert.Throws<ModelFormatException>(() => LanguageModel.Load(folder, device));
            Assert.Contains("model.safetensors", error.Message, StringComparison.Ordinal);
            Assert.Equal(0, device.LiveBytes);
        }

        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Loading_a_weight_with_an_fp8_nan_is_refused_with_its_name_and_position()
    {
        using var device = Device.Open("cpu");
        var folder = CopyCheckpoint();
        var path = Path.Combine(folder, "model.safetensors");
        var bytes = File.ReadAllBytes(path);
        using (var file = SafeTensorsFile.Open(path))
        {
            var start = bytes.AsSpan().IndexOf(file["model.layers.2.mlp.experts.3.up_proj.weight"].Bytes);
            bytes[start + 77] = 0xFF;
        }

        File.WriteAllBytes(path, bytes);
        var error = Assert.Throws<ModelFormatException>(() => LanguageModel.Load(folder, device));
        Assert.Contains("model.layers.2.mlp.experts.3.up_proj.weight", error.Message, StringComparison.Ordinal);
        Assert.Contains("position 77", error.Message, StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData(0, 0, 512)]
    [InlineData(1, 0, 512)]
    [InlineData(1, 5, 0)]
    public void Options_out_of_range_are_refused(int chunk, int context, int batch)
    {
        using var device = Device.Open("cpu");
        Assert.Throws<ArgumentException>(() => LanguageModel.Load(
            TinyModel.Directory, device, new() { TokenBudget = chunk, MaxContext = context, MaxSequences = batch }));
    }

    [Fact]
    public void Generation_options_out_of_range_are_refused()
    {
        using var device = Device.Open("cpu");
        using var model = TinyModel.Load(device);
        foreach (var options in (GenerationOptions[])[
            new() { MaxTokens = 0 }, new() { Temperature = -1 }, new() { Temperature = float.NaN }, new() { TopK = -1 }, new() { TopP = 0 }, new() { TopP = 1.5f }])
        {
            Assert.Throws<ArgumentException>(() => model.GenerateAsync([1], options));
        }
    }

    private static string CopyCheckpoint()
    {
        var folder = Directory.CreateTempSubdirectory("octet-").FullName;
        foreach (var file in Directory.GetFiles(TinyModel.Directory))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }

        return folder;
    }
}
