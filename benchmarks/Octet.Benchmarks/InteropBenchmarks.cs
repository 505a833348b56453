using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;

namespace Octet.Benchmarks;

/// <summary>
/// What a call costs before the device does anything: an empty one through the C ABI (at most 25 ns), an op's host side (at most
/// 2 us and no managed byte), an event, and the launch of a graph with nothing in it.
/// </summary>
[MemoryDiagnoser]
public partial class InteropBenchmarks
{
    private Device? _device;
    private DeviceEvent? _event;
    private DeviceGraph? _graph;
    private readonly List<Tensor> _tensors = [];
    private NormArgs _norm;
    private GemmArgs _gemm;

    /// <summary>Opens the simulator; ops on no tokens pass every check and launch nothing.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _device = Device.Open("sim");
        _event = _device.CreateEvent();
        if (_device.Properties.SupportsGraphs)
        {
            _device.Stream.BeginCapture();
            _graph = _device.Stream.EndCapture();
        }

        _norm = new NormArgs
        {
            X = Create(DType.BFloat16, 0, 4096), Weight = Create(DType.BFloat16, 4096), Eps = 1e-6f,
            Output = Create(DType.BFloat16, 0, 4096),
        };
        _gemm = new GemmArgs
        {
            A = Create(DType.BFloat16, 0, 128), B = new Weight { Values = Create(DType.BFloat16, 64, 128) },
            Output = Create(DType.BFloat16, 0, 64),
        };
        var bytes = Ops.GemmWorkspace(_device, _gemm);
        _gemm = _gemm with { Workspace = bytes == 0 ? default : Create(DType.Byte, bytes) };
    }

    /// <summary>A call that returns a number.</summary>
    [Benchmark]
    public int EmptyCall() => octet_abi_version();

    /// <summary>Contract, argument struct, call, the launcher's checks.</summary>
    [Benchmark]
    public void NormHostSide() => Ops.Norm(_device!.Stream, _norm);

    /// <summary>The same with the choice of a configuration.</summary>
    [Benchmark]
    public void GemmHostSide() => Ops.Gemm(_device!.Stream, _gemm);

    /// <summary>Recording an event.</summary>
    [Benchmark]
    public void RecordEvent() => _event!.Record(_device!.Stream);

    /// <summary>Launching an empty graph.</summary>
    [Benchmark]
    public void LaunchGraph() => _graph!.Launch(_device!.Stream);

    /// <summary>Frees all.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _tensors.ForEach(tensor => tensor.Dispose());
        _graph?.Dispose();
        _event?.Dispose();
        _device?.Dispose();
    }

    private TensorView Create(DType type, params ReadOnlySpan<long> shape)
    {
        _tensors.Add(Tensor.Create(_device!, type, shape));
        return _tensors[^1];
    }

    [LibraryImport("octet")]
    private static partial int octet_abi_version();
}
