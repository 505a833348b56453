using ILGPU;
using Octet.Backends;
using Octet.Ilgpu;

namespace Octet.Tests.Backends.Ilgpu;

public sealed class IlgpuBackendTests(IlgpuCpu cpu) : IClassFixture<IlgpuCpu>
{
    [Fact]
    public void Device_computes_in_the_encoding_of_checkpoints()
    {
        Assert.Equal("ilgpu:cpu", cpu.Device.Name);
        Assert.Equal(DType.Float8E4M3, cpu.Device.Float8);
        Assert.False(cpu.Device.Properties.SupportsGraphs);
        Assert.True(cpu.Device.Properties is { ComputeUnits: > 0, TotalMemory: > 0, Description.Length: > 0 });
    }

    [Theory]
    [InlineData("ilgpu")]
    [InlineData("ilgpu:cpu:0")]
    [InlineData("ilgpu:hip:0")]
    [InlineData("ilgpu:cuda:x")]
    [InlineData("ilgpu:opencl:-1")]
    public void Other_names_are_refused(string name) =>
        Assert.Contains($"'{name}'", Assert.Throws<ArgumentException>(() => Device.Open(name)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("ilgpu:cuda:99")]
    [InlineData("ilgpu:opencl:99")]
    public void A_device_that_is_not_there_is_refused_with_the_reason(string name)
    {
        var error = Assert.Throws<OctetException>(() => Device.Open(name));
        Assert.Equal(OctetStatus.NoDevice, error.Status);
        Assert.Contains($"'{name}'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_that_does_not_compile_is_named_and_the_process_goes_on()
    {
        var context = IlgpuDevices.CreateCpuContext();
        var error = Assert.Throws<OctetException>(() => new IlgpuBackend(
            "ilgpu:cpu", context, context.Devices[0], IlgpuShape.Cpu, compiler => compiler.Compile<PlantedKernel>("planted", PlantedKernel.Run)));
        Assert.Equal(OctetStatus.Unsupported, error.Status);
        Assert.Contains("'ilgpu:cpu': kernel 'planted' does not compile", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);

        using var device = Device.Open("ilgpu:cpu");
        Assert.Equal([5, 6], Embed(device, 2));
        Assert.Equal([1, 2], Embed(cpu.Device, 0));
    }

    [Fact]
    public void Buffers_are_aligned_and_counted_until_disposed()
    {
        var tensor = Tensor.Create(cpu.Device, DType.Float32, 1000);
        var pinned = new PinnedBuffer(cpu.Device, 24);
        Assert.Equal(0, tensor.Address % 256);
        Assert.Equal(4024, cpu.Device.LiveBytes);
        tensor.Dispose();
        tensor.Dispose();
        Assert.Equal(24, cpu.Device.LiveBytes);
        pinned.Dispose();
        Assert.Equal(0, cpu.Device.LiveBytes);
    }

    [Fact]
    public void Memory_that_is_not_there_is_an_error_with_the_size()
    {
        var error = Assert.Throws<OctetException>(() => Tensor.Create(cpu.Device, DType.Byte, 1L << 60));
        Assert.Equal(OctetStatus.OutOfMemory, error.Status);
        Assert.Contains((1L << 60).ToString(), error.Message, StringComparison.Ordinal);
        Assert.Equal(0, cpu.Device.LiveBytes);
    }

    [Fact]
    public void Copies_and_fills_reach_the_tensor()
    {
        using var a = Tensor.From<int>(cpu.Device, [1, 2, 3], 3);
        using var b = Tensor.Create(cpu.Device, DType.Int32, 3);
        cpu.Device.Stream.Copy(b, a);
        Assert.Equal([1, 2, 3], b.ToArray<int>());
        cpu.Device.Stream.Fill(b, 0xFF);
        Assert.Equal([-1, -1, -1], b.ToArray<int>());
        using var pinned = new PinnedBuffer(cpu.Device, 12);
        cpu.Device.Stream.CopyAsync(pinned, a);
        cpu.Device.Stream.Synchronize();
        Assert.Equal([1, 2, 3], pinned.AsSpan<int>().ToArray());
        var part = b.Slice(0, 1, 2);
        var partOfA = a.Slice(0, 0, 2);
        cpu.Device.Stream.Copy(part, partOfA);
        Assert.Equal([-1, 1, 2], b.ToArray<int>());
    }

    [Fact]
    public void Foreign_memory_is_refused_in_words()
    {
        using var a = Tensor.From<int>(cpu.Device, [1, 2, 3], 3);
        var past = TensorView.Borrow(cpu.Device, a.Address, DType.Int32, 1000);
        var before = TensorView.Borrow(cpu.Device, a.Address - 16, DType.Int32, 4);
        foreach (var tensor in (TensorView[])[past, before])
        {
            var error = Assert.Throws<OctetException>(() => cpu.Device.Stream.Fill(tensor, 0));
            Assert.Equal(OctetStatus.Unsupported, error.Status);
            Assert.Contains("not within a buffer", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Events_measure_time_once_both_are_recorded()
    {
        using var start = cpu.Device.CreateEvent();
        using var finish = cpu.Device.CreateEvent();
        start.Record(cpu.Device.Stream);
        Assert.Equal(OctetStatus.InvalidArgument, Assert.Throws<OctetException>(() => finish.ElapsedSince(start)).Status);
        Thread.Sleep(2);
        cpu.Device.Stream.Wait(start);
        finish.Record(cpu.Device.Stream);
        finish.Record(cpu.Device.Stream);
        finish.Synchronize();
        Assert.InRange(finish.ElapsedSince(start), 1f, 60_000f);
    }

    [Fact]
    public void Graphs_and_borrowed_streams_are_refused_in_words()
    {
        Assert.Contains("ilgpu:cpu has no graphs", Assert.Throws<OctetException>(cpu.Device.Stream.BeginCapture).Message, StringComparison.Ordinal);
        Assert.Equal(OctetStatus.Unsupported, Assert.Throws<OctetException>(() => cpu.Device.BorrowStream(0x1234)).Status);
        using var borrowed = cpu.Device.BorrowStream(0);
        borrowed.Synchronize();
    }

    [Fact]
    public void Use_after_dispose_throws()
    {
        var device = Device.Open("ilgpu:cpu");
        var tensor = Tensor.From<float>(device, [1, 2], 2);
        var stream = device.CreateStream();
        stream.Dispose();
        stream.Dispose();
        Assert.Throws<ObjectDisposedException>(stream.Synchronize);
        device.Dispose();
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.Backend);
        tensor.Dispose(); // behind its device: nothing happens
    }

    [Fact]
    public async Task Threads_with_streams_of_their_own_do_not_disturb_one_another()
    {
        var rows = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() =>
        {
            using var stream = cpu.Device.CreateStream();
            return Enumerable.Range(0, 20).Select(_ => Embed(cpu.Device, i % 3, stream)).ToArray();
        })));
        for (var i = 0; i < rows.Length; i++)
        {
            Assert.All(rows[i], row => Assert.Equal([(2 * (i % 3)) + 1, (2 * (i % 3)) + 2], row));
        }

        Assert.Equal(0, cpu.Device.LiveBytes);
    }

    // A row of the table 1 2, 3 4, 5 6.
    private static float[] Embed(Device device, int id, DeviceStream? stream = null)
    {
        using var own = stream is null ? device.CreateStream() : null;
        stream ??= own!;
        using var table = Tensor.Create(device, DType.BFloat16, 3, 2);
        using var ids = Tensor.Create(device, DType.Int32, 1);
        using var output = Tensor.Create(device, DType.BFloat16, 1, 2);
        stream.Write<BFloat16>(table, [.. Enumerable.Range(1, 6).Select(i => (BFloat16)i)]);
        stream.Write<int>(ids, [id]);
        Ops.Embedding(stream, new() { Table = table, Ids = ids, Output = output });
        var row = new BFloat16[2];
        stream.Read<BFloat16>(output, row);
        return Array.ConvertAll(row, x => (float)x);
    }

    internal readonly struct PlantedKernel(ArrayView<int> values)
    {
        public readonly ArrayView<int> Values = values;

        // Kernels cannot make objects.
        public static void Run(PlantedKernel args) => args.Values[0] = new List<int> { args.Values[1] }.Count;
    }
}
