using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Models;

public sealed class ModelMemoryTests
{
    private static KvMemory AskTarget(LanguageModelOptions options)
    {
        // A device of an MI325X's size and compute units that has no memory.
        using var device = Device.Open("plan:gfx942");
        var config = ModelShape.Find(ModelShape.Target).Config;
        var rows = DecodeGraphs.RowBucket(options.MaxSequences);
        return ModelMemory.Ask(
            device, RankShape.Whole(config), options,
            new StepBounds(Math.Max(options.TokenBudget, rows), rows, rows, options.MaxContext ?? config.MaxContext, options.KvBlockSize));
    }

    [Fact]
    public void The_target_model_fits_one_256_GB_gpu_with_default_options()
    {
        var memory = AskTarget(new());
        Assert.Equal(Hardware.Find("mi325x").MemoryBytes, memory.FreeBytes);

        // 94 layers of 128 experts and 64 query and 4 KV heads: FP8 with a scale for each 128 x 128, the rest BF16.
        const double Experts = 94.0 * 128 * 3 * 4096 * 1536, Attention = 94.0 * 4096 * 128 * (64 + 4 + 4 + 64);
        const double Plain = 2 * 151_936.0 * 4096 + 94.0 * 128 * 4096 + 94.0 * (2 * 4096 + 2 * 128) + 4096;
        Assert.Equal((Experts + Attention) * (1 + 4.0 / 16384) + 2 * Plain, memory.WeightBytes);
        Assert.Equal(236.4e9, memory.WeightBytes, 0.1e9);
        Assert.Equal(2 * 94 * 4 * 128, memory.BytesPerToken);
        Assert.True(memory.UsesGraphs);
        Assert.InRange(memory.BufferBytes, 4L * 262_144 * 128, 512 << 20);
        Assert.InRange(memory.WorkspaceBytes, 1, 1 << 30);

        // 38 GB are left: more than one request of the whole context.
        var tokens = memory.Blocks() * 64L;
        Assert.InRange(tokens, 380_000, 400_000);
        Assert.InRange(tokens * memory.BytesPerToken + memory.WeightBytes + memory.BufferBytes + memory.WorkspaceBytes + (256 << 20), memory.FreeBytes - 94 * 2 * (2 << 20), memory.FreeBytes);

        // It still fits where 256 GB means 256e9 bytes, and without graphs.
        Assert.InRange((memory with { FreeBytes = 256_000_000_000 }).Blocks() * 64L, 180_000, 200_000);
        Assert.InRange((memory with { UsesGraphs = false }).Blocks() * 64L, tokens - 9000, tokens - 8000 + 4096);
    }

    [Fact]
    public void The_target_model_does_not_fit_192_GB_and_the_message_has_the_numbers()
    {
        var memory = AskTarget(new()) with { FreeBytes = (long)Hardware.Find("mi300x").MemoryBytes };
        var error = Assert.Throws<OctetException>(() => memory.Blocks());
        Assert.StartsWith("plan:gfx942: too little memory for a KV cache of 512 tokens, 96256 bytes each (49.3 MB): of 206.2 GB free the weights take 236.4 GB, step buffers", error.Message, StringComparison.Ordinal);
        Assert.EndsWith("GB too much; use a device with more memory, or a smaller model", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Larger_steps_and_batches_take_more()
    {
        var usual = AskTarget(new());
        Assert.True(AskTarget(new() { TokenBudget = 8192 }).BufferBytes > 4 * (usual.BufferBytes - 4L * 262_144 * 128));
        Assert.True(AskTarget(new() { MaxSequences = 256 }).WorkspaceBytes >= usual.WorkspaceBytes);
        Assert.Equal(2 * usual.BytesPerToken, AskTarget(new() { KvEncoding = KvEncoding.BFloat16 }).BytesPerToken);
    }

    [Theory]
    [InlineData("cpu", false)]
    [InlineData("cpu:fnuz", false)]
    [InlineData("sim:gfx942", false)]
    [InlineData("sim:gfx950", false)]
    [InlineData("cpu:fnuz", true)]
    [InlineData("sim:sm_90", true)]
    public void Weights_take_what_the_config_says(string name, bool awkward)
    {
        var folder = awkward ? Directory.CreateTempSubdirectory("octet-").FullName : TinyModel.Directory;
        if (awkward)
        {
            OtherShapesTests.Write(folder, SafeTensorType.Float8E4M3);
        }

        var config = ModelConfig.Load(folder);
        using var device = Device.Open(name);
        using (var files = CheckpointFiles.Open(folder))
        using (ModelRegistry.Load(files, config, device, null, TestContext.Current.CancellationToken))
        {
            var expected = ModelMemory.Weights(RankShape.Whole(config), isMapped: name == "cpu");
            Assert.InRange(device.LiveBytes, expected * 0.999, expected * 1.001 + 1);
        }

        if (awkward)
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("sim:gfx942")]
    public async Task A_model_at_work_takes_no_more_than_was_planned(string name)
    {
        using var device = Device.Open(name);
        var options = new LanguageModelOptions { MaxContext = 256, TokenBudget = 32, MaxSequences = 4, KvCacheTokens = 1024 };
        var bounds = StepBounds.Of(32, 4, 0, 256, options.KvBlockSize);
        var memory = ModelMemory.Ask(device, RankShape.Whole(ModelConfig.Load(TinyModel.Directory)), options, bounds);
        using var model = LanguageModel.Load(TinyModel.Directory, device, options);
        var before = device.LiveBytes;
        await Task.WhenAll(Enumerable.Range(0, 3).Select(async i =>
        {
            var prompt = Enumerable.Range(0, 5 + 20 * i).Select(x => x * 7 % 1000).ToArray();
            await foreach (var token in model.GenerateAsync(prompt, new() { MaxTokens = 3, IgnoreEndOfText = true }, TestContext.Current.CancellationToken))
            {
                Assert.InRange(token.Id, 0, 1023);
            }
        }));

        // Beside what is planned there are the small arrays that each step brings to the device, and their pinned copies.
        var planned = memory.WeightBytes + memory.BufferBytes + 1024 * memory.BytesPerToken;
        Assert.InRange(before, planned, planned * 1.001 + 32_000);
        Assert.InRange(device.LiveBytes - before, 0, memory.WorkspaceBytes);
    }

    [Fact]
    public void By_default_the_cache_holds_as_many_whole_requests_as_are_continued_together()
    {
        using var device = Device.Open("cpu");
        using var model = LanguageModel.Load(TinyModel.Directory, device, new() { MaxSequences = 5 });
        Assert.Equal(5 * 2048, model.KvCacheTokens);
    }

    [Fact]
    public void Step_buffers_take_what_was_measured_before()
    {
        var config = ModelConfig.Load(TinyModel.Directory);
        using var device = Device.Open("cpu");
        using var memory = new TensorSet(device);
        using var measured = new TensorSet(device, isMeasured: true);
        _ = new StepBuffers(memory, RankShape.Whole(config), 48, 8);
        _ = new StepBuffers(measured, RankShape.Whole(config), 48, 8);
        Assert.Equal(device.LiveBytes, measured.SizeInBytes);
    }
}
