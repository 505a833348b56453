using Octet.Backends;

namespace Octet.Cli.Bench;

/// <summary>
/// The ceilings of a device. They are measured again beside every sample of an op: on a machine that others use too, the ratio of
/// two times taken in turn says more than either of them.
/// </summary>
internal sealed class BenchProbe : IDisposable
{
    private const int FewestPieces = 16;
    private const int MostPieces = 1024;
    private const long GpuBytes = 1L << 30;

    private readonly Device _device;
    private readonly BenchClock _clock;
    private readonly Tensor _memory;
    private readonly Tensor? _target;
    private readonly List<double> _rates = [];
    private readonly List<double> _flops = [];
    private long _next;

    public BenchProbe(Device device, BenchClock clock, double cacheBytes)
    {
        (_device, _clock) = (device, clock);
        var isCpu = device.Backend is CpuBackend;
        _memory = Tensor.Create(device, DType.Byte, isCpu ? (long)(8 * cacheBytes) : GpuBytes);
        _target = isCpu ? null : Tensor.Create(device, DType.Byte, GpuBytes);
        device.Stream.Fill(_memory, 1);
    }

    /// <summary>The medians so far.</summary>
    public BenchCeilings Ceilings => new(BenchClock.Median(_rates), BenchClock.Median(_flops));

    /// <summary>The least time, in microseconds, in which so many bytes can be read and so many operations done, as of now.</summary>
    public double Floor(double flops, double bytes)
    {
        var size = Math.Clamp((long)bytes / 64 * 64, 4 << 20, _memory.SizeInBytes);
        if (_next + size > _memory.SizeInBytes)
        {
            _next = 0;
        }

        var memory = _memory.Slice(0, _next, size);
        _next += size;
        if (_device.Backend is not CpuBackend cpu)
        {
            var rate = 2 * size / _clock.Time(() => _device.Stream.Copy(_target!.Slice(0, 0, size), memory)) / 1e3;
            _rates.Add(rate);
            return bytes / rate / 1e3;
        }

        // As many bytes and operations as the op's own: a burst that is shorter would dodge whoever else wants the processors.
        var pieces = (int)Math.Clamp(flops / cpu.MultiplyAddPieceFlops, FewestPieces, MostPieces);
        var address = memory.Address;
        _rates.Add(size / _clock.Time(() => cpu.ReadAll(address, size)) / 1e3);
        double done = 0;
        var time = _clock.Time(() => done = cpu.MultiplyAddAll(pieces));
        _flops.Add(done / time / 1e3);
        return Math.Max(bytes / _rates[^1], flops / _flops[^1]) / 1e3;
    }

    public void Dispose()
    {
        _memory.Dispose();
        _target?.Dispose();
    }
}
