using Octet.Backends;

namespace Octet.Cli.Inspect;

/// <summary>A launch as an op's own launcher made it.</summary>
/// <param name="Kernel">Its name.</param>
/// <param name="Blocks">Of the grid.</param>
/// <param name="Threads">Of a block.</param>
/// <param name="LdsBytes">Of a block.</param>
internal readonly record struct PlannedLaunch(string Kernel, long Blocks, int Threads, long LdsBytes)
{
    /// <summary>What ops on a planned device have launched since the last call.</summary>
    public static List<PlannedLaunch> Take(NativeBackend plan) =>
        [.. plan.TakePlannedLaunches().Select(l => new PlannedLaunch(l.KernelName, l.Blocks, l.Threads, l.LdsBytes))];
}

/// <summary>Arguments for ops, on a planned device (of any size, with nothing behind them) or on a simulated one (zeros).</summary>
internal sealed class OpSession(string device) : IDisposable
{
    private readonly List<Tensor> _tensors = [];

    public Device Device { get; } = Device.Open(device);

    /// <summary>Whether nothing runs, and launches are written down.</summary>
    public bool IsPlanned { get; } = device.StartsWith("plan:", StringComparison.Ordinal);

    public DeviceStream Stream => Device.Stream;

    public DType Float8 => Device.Float8;

    /// <summary>A tensor of zeros; gone with the next <see cref="Forget"/>.</summary>
    public TensorView New(DType type, params ReadOnlySpan<long> shape)
    {
        var tensor = Tensor.Create(Device, type, shape);
        _tensors.Add(tensor);
        if (!IsPlanned)
        {
            Stream.Fill(tensor, 0);
        }

        return tensor;
    }

    /// <summary>i32 numbers that decide what is computed; a planned device needs none.</summary>
    public TensorView Numbers(Func<long, long> number, params ReadOnlySpan<long> shape) => Numbers(DType.Int32, shape, i => (int)number(i));

    /// <summary>0, 1, 2, ... as i64.</summary>
    public TensorView Ascending(long count) => Numbers(DType.Int64, [count], i => i);

    private TensorView Numbers<T>(DType type, ReadOnlySpan<long> shape, Func<long, T> number) where T : unmanaged
    {
        var tensor = New(type, shape);
        if (!IsPlanned)
        {
            var numbers = new T[tensor.ElementCount];
            for (var i = 0; i < numbers.Length; i++)
            {
                numbers[i] = number(i);
            }

            Stream.Write<T>(tensor, numbers);
        }

        return tensor;
    }

    /// <summary>FP8 rows with their scales.</summary>
    public QuantizedTensor Quantized(long rows, long columns) => new(New(Float8, rows, columns), New(DType.Float32, rows, Blocks(columns)));

    /// <summary>An FP8 weight, or a stack of them.</summary>
    public Weight Weight(long n, long k, long experts = 1) => experts == 1
        ? new() { Values = New(Float8, n, k), Scales = New(DType.Float32, Blocks(n), Blocks(k)) }
        : new() { Values = New(Float8, experts, n, k), Scales = New(DType.Float32, experts, Blocks(n), Blocks(k)) };

    /// <summary>Scratch memory; none for 0 bytes.</summary>
    public TensorView Workspace(long sizeInBytes) => sizeInBytes == 0 ? default : New(DType.Byte, sizeInBytes);

    /// <summary>Runs a step on a planned device; gives the bytes of its workspace and its launches.</summary>
    public (long Workspace, List<PlannedLaunch> Launches) Plan(Step step)
    {
        var workspace = step.Run(this);
        var launches = TakeLaunches();
        Forget();
        return (workspace, launches);
    }

    /// <summary>What ops on the planned device have launched since the last call.</summary>
    public List<PlannedLaunch> TakeLaunches() => PlannedLaunch.Take((NativeBackend)Device.Backend);

    /// <summary>Frees the tensors.</summary>
    public void Forget()
    {
        Stream.Synchronize();
        _tensors.ForEach(t => t.Dispose());
        _tensors.Clear();
    }

    public void Dispose()
    {
        Forget();
        Device.Dispose();
    }

    private static long Blocks(long columns) => (columns + 127) / 128;
}
