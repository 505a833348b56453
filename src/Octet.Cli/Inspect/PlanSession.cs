using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>A launch as an op's own launcher made it.</summary>
/// <param name="Kernel">Its name.</param>
/// <param name="Blocks">Of the grid.</param>
/// <param name="Threads">Of a block.</param>
/// <param name="LdsBytes">Of a block.</param>
internal readonly record struct PlannedLaunch(string Kernel, long Blocks, int Threads, long LdsBytes);

/// <summary>A planned device: tensors of any size with nothing behind them, and the launches the ops would make.</summary>
internal sealed class PlanSession(string target) : IDisposable
{
    private readonly Device _device = Device.Open($"plan:{target}");
    private readonly List<Tensor> _tensors = [];

    public Device Device => _device;

    public DeviceStream Stream => _device.Stream;

    public DType Float8 => _device.Float8;

    /// <summary>A tensor without memory; gone with the next <see cref="Take"/>.</summary>
    public Tensor New(DType type, params ReadOnlySpan<long> shape)
    {
        var tensor = Tensor.Create(_device, type, shape);
        _tensors.Add(tensor);
        return tensor;
    }

    /// <summary>FP8 rows with their scales.</summary>
    public QuantizedTensor Quantized(long rows, long columns) => new(New(Float8, rows, columns), New(DType.Float32, rows, Blocks(columns)));

    /// <summary>An FP8 weight, or a stack of them.</summary>
    public Weight Weight(long n, long k, long experts = 1) => experts == 1
        ? new() { Values = New(Float8, n, k), Scales = New(DType.Float32, Blocks(n), Blocks(k)) }
        : new() { Values = New(Float8, experts, n, k), Scales = New(DType.Float32, experts, Blocks(n), Blocks(k)) };

    /// <summary>Scratch memory; null for 0 bytes.</summary>
    public Tensor? Workspace(long sizeInBytes) => sizeInBytes == 0 ? null : New(DType.Byte, sizeInBytes);

    /// <summary>The launches since the last call.</summary>
    public List<PlannedLaunch> Take()
    {
        _tensors.ForEach(t => t.Dispose());
        _tensors.Clear();
        var launches = new List<PlannedLaunch>();
        foreach (var launch in ((NativeBackend)_device.Backend).TakePlannedLaunches())
        {
            launches.Add(new(launch.KernelName, launch.Blocks, launch.Threads, launch.LdsBytes));
        }

        return launches;
    }

    public void Dispose()
    {
        Take();
        _device.Dispose();
    }

    private static long Blocks(long columns) => (columns + 127) / 128;
}
