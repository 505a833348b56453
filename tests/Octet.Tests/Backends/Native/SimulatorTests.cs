namespace Octet.Tests.Backends.Native;

/// <summary>What the simulator's checker reports: kernel, block, lane, source line, and before the access happens.</summary>
public sealed class SimulatorTests
{
    [Fact]
    public void Free_memory_is_what_buffers_leave_and_zeros_are_zeros()
    {
        using var planned = Device.Open("plan:gfx942");
        Assert.Equal(planned.Properties.TotalMemory, planned.FreeMemory);
        using var codes = Tensor.Create(planned, DType.Byte, 1L << 37);
        Assert.Equal(planned.Properties.TotalMemory - (1L << 37), planned.FreeMemory);

        using var device = Device.Open("sim");
        Assert.True(device.Properties.UsesHostMemory);
        Assert.InRange(device.FreeMemory, 1, device.Properties.TotalMemory);
        using var zeros = Tensor.Zeros(device, DType.Float32, 3, 100);
        Assert.All(zeros.ToArray<float>(), x => Assert.Equal(0, x));
    }

    [Theory]
    [InlineData("sim:gfx942")]
    [InlineData("sim:gfx950")]
    [InlineData("sim:sm_90")]
    public void A_read_of_memory_nobody_wrote_is_reported_and_the_device_goes_on(string name)
    {
        using var device = Device.Open(name);
        using var unwritten = Tensor.Create(device, DType.Float32, 2, 128);
        using var written = Tensor.From<float>(device, new float[256], 2, 128);
        Assert.Contains("nobody wrote", Fault(device, unwritten), StringComparison.Ordinal);
        Quantize(device, written);
    }

    [Theory]
    [InlineData("sim:gfx942")]
    [InlineData("sim:gfx950")]
    [InlineData("sim:sm_90")]
    public void A_read_past_a_buffer_is_reported_and_the_device_goes_on(string name)
    {
        using var device = Device.Open(name);
        using var x = Tensor.From<float>(device, new float[256], 2, 128);
        var longer = TensorView.Borrow(device, x.Address, DType.Float32, 64, 128);
        Assert.Contains("outside of every buffer", Fault(device, longer), StringComparison.Ordinal);
        Quantize(device, x);
    }

    private static string Fault(Device device, TensorView x)
    {
        var error = Assert.Throws<OctetException>(() => Quantize(device, x));
        Assert.Equal(OctetStatus.KernelFault, error.Status);
        foreach (var part in (string[])["quantize", "block", "lane", ".h"])
        {
            Assert.Contains(part, error.Message, StringComparison.Ordinal);
        }

        return error.Message;
    }

    private static void Quantize(Device device, TensorView x)
    {
        using var codes = Tensor.Create(device, device.Float8, x.Shape);
        using var scales = Tensor.Create(device, DType.Float32, x.Shape[0], 1);
        Ops.Quantize(device.Stream, new() { X = x, Output = new(codes, scales) });
        device.Stream.Synchronize();
    }
}
