using BenchmarkDotNet.Running;
using Octet.Benchmarks;

// report [FILE.md]: the CPU report, Octet beside ONNX Runtime in one run. Anything else: BenchmarkDotNet's own options.
if (args is ["report", ..])
{
    CpuReport.Write(args.Length > 1 ? args[1] : Path.Combine("docs", "cpu-report.md"));
    return 0;
}

// In this process: a device, its buffers and the ceilings are made once, and no project is built for each benchmark.
var summaries = BenchmarkSwitcher.FromAssembly(typeof(OpBenchmarks).Assembly).Run([.. args, "--inProcess"], new OpConfig()).ToArray();
return summaries.Length > 0 && summaries.All(s => !s.HasCriticalValidationErrors && s.Reports.All(r => r.Success)) ? 0 : 1;
