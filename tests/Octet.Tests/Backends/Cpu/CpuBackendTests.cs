using Octet.Backends;

namespace Octet.Tests.Backends.Cpu;

public sealed class CpuBackendTests
{
    [Theory]
    [InlineData("cpu", DType.Float8E4M3)]
    [InlineData("cpu:fnuz", DType.Float8E4M3Fnuz)]
    public void Device_computes_in_the_encoding_of_its_name(string name, DType float8)
    {
        using var device = Device.Open(name);
        Assert.Equal(name, device.Name);
        Assert.Equal(float8, device.Float8);
        Assert.False(device.Properties.SupportsGraphs);
        Assert.True(device.Properties is { ComputeUnits: > 0, TotalMemory: > 0, Description.Length: > 0 });
    }

    [Fact]
    public void Other_names_are_refused() =>
        Assert.Contains("'cpu:1'", Assert.Throws<ArgumentException>(() => Device.Open("cpu:1")).Message);

    [Fact]
    public void Probe_names_the_processor_and_cpu_alone_is_a_default()
    {
        var provider = new CpuProvider();
        Assert.All(provider.Probe(), p => Assert.True(p is { Present: true, Reason: null, Properties: not null }));
        Assert.Equal(["cpu"], provider.Probe().Where(provider.IsDefaultCandidate).Select(p => p.Name));
    }

    [Fact]
    public void Buffers_are_aligned_and_counted_until_disposed()
    {
        using var device = Device.Open("cpu");
        var tensor = Tensor.Create(device, DType.Float32, 1000);
        var pinned = new PinnedBuffer(device, 24);
        Assert.Equal(0, tensor.Address % 256);
        Assert.Equal(4024, device.LiveBytes);
        tensor.Dispose();
        tensor.Dispose();
        Assert.Equal(24, device.LiveBytes);
        pinned.Dispose();
        pinned.Dispose();
        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public void Memory_that_is_not_there_is_an_error_with_the_size()
    {
        using var device = Device.Open("cpu");
        var error = Assert.Throws<OctetException>(() => Tensor.Create(device, DType.Byte, 1L << 60));
        Assert.Equal(OctetStatus.OutOfMemory, error.Status);
        Assert.Contains((1L << 60).ToString(), error.Message);
        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public void Use_after_dispose_throws()
    {
        var device = Device.Open("cpu");
        using var tensor = Tensor.From<float>(device, [1, 2], 2);
        var stream = device.CreateStream();
        var passed = device.CreateEvent();
        stream.Dispose();
        stream.Dispose();
        passed.Dispose();
        passed.Dispose();
        Assert.Throws<ObjectDisposedException>(stream.Synchronize);
        Assert.Throws<ObjectDisposedException>(() => stream.Fill(tensor, 0));
        Assert.Throws<ObjectDisposedException>(passed.Synchronize);
        tensor.Dispose();
        Assert.Throws<ObjectDisposedException>(() => tensor.Address);
        device.Dispose();
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.Backend);
    }

    [Fact]
    public void Copies_and_fills_reach_the_tensor()
    {
        using var device = Device.Open("cpu");
        using var a = Tensor.From<int>(device, [1, 2, 3], 3);
        using var b = Tensor.Create(device, DType.Int32, 3);
        device.Stream.Copy(b, a);
        Assert.Equal([1, 2, 3], b.ToArray<int>());
        device.Stream.Fill(b, 0xFF);
        Assert.Equal([-1, -1, -1], b.ToArray<int>());
        using var pinned = new PinnedBuffer(device, 12);
        device.Stream.CopyAsync(pinned, a);
        device.Stream.Synchronize();
        Assert.Equal([1, 2, 3], pinned.AsSpan<int>().ToArray());
        device.Stream.CopyAsync(b, pinned);
        Assert.Equal([1, 2, 3], b.ToArray<int>());
    }

    [Fact]
    public void Events_measure_time_once_both_are_recorded()
    {
        using var device = Device.Open("cpu");
        using var start = device.CreateEvent();
        using var finish = device.CreateEvent();
        start.Record(device.Stream);
        Assert.Equal(OctetStatus.InvalidArgument, Assert.Throws<OctetException>(() => finish.ElapsedSince(start)).Status);
        Thread.Sleep(2);
        device.Stream.Wait(start);
        finish.Record(device.Stream);
        finish.Synchronize();
        Assert.InRange(finish.ElapsedSince(start), 1f, 60_000f);
    }

    [Fact]
    public void Graphs_and_borrowed_streams_are_refused_in_words()
    {
        using var device = Device.Open("cpu");
        var error = Assert.Throws<OctetException>(device.Stream.BeginCapture);
        Assert.Equal(OctetStatus.Unsupported, error.Status);
        Assert.Contains("cpu has no graphs", error.Message);
        Assert.Equal(OctetStatus.Unsupported, Assert.Throws<OctetException>(() => device.BorrowStream(0x1234)).Status);
        using var borrowed = device.BorrowStream(0);
        borrowed.Synchronize();
    }

    [Fact]
    public void Ops_allocate_nothing_once_they_have_run()
    {
        using var device = CpuDevices.Open(256, 2);
        using var x = Tensor.Create(device, DType.BFloat16, 70, 512);
        using var weight = Tensor.Create(device, DType.BFloat16, 300, 512);
        using var output = Tensor.Create(device, DType.BFloat16, 70, 300);
        device.Stream.Fill(x, 0);
        device.Stream.Fill(weight, 0);
        var args = new GemmArgs { A = x, B = new Weight { Values = weight }, Output = output };
        Ops.Gemm(device.Stream, args);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 20; i++)
        {
            Ops.Gemm(device.Stream, args);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void Finalised_buffers_are_no_longer_live()
    {
        using var device = Device.Open("cpu");
        Leak(device);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.Equal(0, device.LiveBytes);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static void Leak(Device device) => Tensor.Create(device, DType.Byte, 100);
}
