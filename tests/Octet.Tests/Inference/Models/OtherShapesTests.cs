using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>
/// A random checkpoint of awkward shapes: nothing a multiple of 128, 64-wide heads in odd numbers, dense and MoE layers, biases, a tied
/// head, plain weights that are quantised on load. Every device must read it and agree with the others.
/// </summary>
public sealed class OtherShapesTests
{
    [Theory]
    [InlineData("cpu:fnuz", SafeTensorType.BFloat16)]
    [InlineData("sim:gfx942", SafeTensorType.BFloat16)]
    [InlineData("sim:gfx950", SafeTensorType.Float32)]
    [InlineData("sim:sm_90", SafeTensorType.BFloat16)]
    [InlineData("sim:sm_90", SafeTensorType.Float8E4M3)]
    [InlineData("sim:gfx942", SafeTensorType.Float8E4M3)]
    public void Devices_agree_on_a_checkpoint_of_awkward_shapes(string deviceName, SafeTensorType type)
    {
        using var directory = new ModelDirectory();
        Write(directory.Path, type);
        int[] ids = [.. Enumerable.Range(0, 37).Select(i => i * 9 % Shape(type).Vocabulary)];
        var expected = Logits("cpu", directory.Path, ids, chunk: 37);
        var actual = Logits(deviceName, directory.Path, ids, chunk: 17);
        Assert.All(actual, x => Assert.True(float.IsFinite(x)));
        Assert.Equal(expected.Length, actual.Length);

        // Random weights have no residual stream to speak of: where the kernels round the softmax to BF16 and the CPU does not, some
        // FP8 codes behind it differ by one step (6 %) and three layers add that up to 2e-3. A wrong row or scale gives over 0.1.
        Assert.InRange(TinyModel.Difference(actual, expected), double.NegativeInfinity, 5e-3);
    }

    internal static void Write(string folder, SafeTensorType type) => new RandomCheckpoint(Shape(type)).Write(folder);

    private static RandomShape Shape(SafeTensorType type) => new()
    {
        Architecture = "Qwen3MoeForCausalLM", Hidden = 200, Heads = 6, KvHeads = 3, HeadDim = 64, Layers = 3, Experts = 5, Width = 72, Dense = 136,
        DenseLayers = [1], Bias = true, Tied = true, NormalizeTopK = false, Vocabulary = 333, Embedding = 0.12, Type = type, Seed = 5,
    };

    private static float[] Logits(string deviceName, string folder, int[] ids, int chunk)
    {
        using var device = Device.Open(deviceName);
        using var model = LanguageModel.Load(folder, device, new() { TokenBudget = chunk, MaxSequences = 4, KvBlockSize = 16 });
        var logits = TinyModel.Logits(model, ids);
        model.Dispose();
        Assert.Equal(0, device.LiveBytes);
        return logits;
    }
}
