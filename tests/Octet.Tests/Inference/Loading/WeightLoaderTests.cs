using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Loading;

public sealed class WeightLoaderTests
{
    [Theory]
    [InlineData("cpu", true)]
    [InlineData("cpu:fnuz", false)] // other codes than the file's
    public void Weights_stay_in_the_mapped_file_where_the_device_computes_in_its_encoding(string name, bool mapped)
    {
        using var device = Device.Open(name);
        using var files = CheckpointFiles.Open(TinyShakespeare.Directory);
        var codes = files.Names.Where(n => files[n].Type == SafeTensorType.Float8E4M3).Sum(n => files[n].SizeInBytes);
        using (Qwen3MoeWeights.Load(files, ModelConfig.Load(TinyShakespeare.Directory), device, null, TestContext.Current.CancellationToken))
        {
            // What is left are scales, and where experts lie.
            Assert.InRange(device.LiveBytes, mapped ? 1 : codes, mapped ? codes / 100 : 2 * files.SizeInBytes);
        }

        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public void Addresses_of_experts_are_taken_where_the_device_reads_host_memory_and_refused_elsewhere()
    {
        using var cpu = Device.Open("cpu");
        using var sim = Device.Open("sim:gfx950");
        Assert.True(cpu.Properties.SharesHostMemory);
        var error = Assert.Throws<ArgumentException>(() => Product(sim, shift: 0));
        Assert.Contains("sim:gfx950 takes experts as one stack", error.Message);
        Assert.Equal(Product(cpu, shift: 0), Product(cpu, shift: 3));
    }

    // Row and weight of ones, the weight `shift` bytes past an aligned address.
    private static float[] Product(Device device, int shift)
    {
        const int N = 3, K = 200;
        using var a = Tensor.From<Float8E4M3>(device, Enumerable.Repeat((Float8E4M3)1f, K + 8).ToArray(), 1, K + 8);
        using var aScales = Tensor.From<float>(device, [1, 2], 1, 2);
        using var b = Tensor.From<Float8E4M3>(device, Enumerable.Repeat((Float8E4M3)1f, (N * K) + shift).ToArray(), (N * K) + shift);
        using var bScales = Tensor.From<float>(device, [1, 1], 1, 2);
        using var addresses = Tensor.From<long>(device, [b.Address + shift], 1);
        using var output = Tensor.Create(device, DType.Float32, 1, N);
        Ops.Gemm(device.Stream, new GemmArgs
        {
            A = a.Slice(1, 0, K),
            AScales = aScales,
            B = new Weight
            {
                Values = Tensor.Borrow(device, b.Address + shift, DType.Float8E4M3, N, K), Scales = bScales, ExpertAddresses = addresses,
            },
            Output = output,
        });
        return output.ToArray<float>();
    }
}
