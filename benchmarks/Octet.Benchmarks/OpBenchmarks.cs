using BenchmarkDotNet.Attributes;
using Octet.Cases;

namespace Octet.Benchmarks;

/// <summary>Every op by the cases of the tests: parity once, then time.</summary>
[MemoryDiagnoser]
public class OpBenchmarks : IDisposable
{
    private Device? _device;
    private CaseContext? _context;
    private Action? _launch;

    /// <summary>Device and case.</summary>
    [ParamsSource(nameof(Cases))]
    public object Case { get; set; } = null!;

    /// <summary>All of them.</summary>
    public static IEnumerable<object> Cases => OpCase.All;

    /// <summary>Opens the device and holds the op to its reference: a wrong kernel is not timed.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        var (name, test) = (OpCase)Case;
        _device = Device.Open(name);
        var result = CaseResult.Run(test, _device);
        if (!result.Passed)
        {
            throw new InvalidOperationException($"{test} on {name}: {result.Failure}");
        }

        _context = new CaseContext(_device, test);
        _launch = test.Prepare(_context).Launch;
        DeviceTimes.Measure(name, test, _device, _launch);
    }

    /// <summary>One run, waited for.</summary>
    [Benchmark]
    public void Run()
    {
        _launch!();
        _device!.Stream.Synchronize();
    }

    /// <summary>Frees all.</summary>
    [GlobalCleanup]
    public void Dispose()
    {
        _context?.Dispose();
        _device?.Dispose();
        GC.SuppressFinalize(this);
    }
}
